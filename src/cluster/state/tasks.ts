import type { Network, Task } from "../../wire/gen/swarm_objects_pb.ts";
import { TaskState } from "../../wire/gen/swarm_types_pb.ts";

/** Observed state; states only go up (reference: swarm-control-plane 12.1). */
export function stateOf(task: Task): TaskState {
  return task.status?.state ?? TaskState.NEW;
}

/** Not past RUNNING: it holds its addresses and its networks. */
export function isLive(task: Task): boolean {
  return stateOf(task) <= TaskState.RUNNING;
}

export function usesNetwork(task: Task, networkId: string): boolean {
  return task.networks.some((attachment) => attachment.network?.id === networkId);
}

export function isIngress(network: Network): boolean {
  return (
    network.spec?.ingress === true ||
    (network.spec?.annotations?.name === "ingress" &&
      network.spec.annotations.labels["com.docker.swarm.internal"] !== undefined)
  );
}

/** `bridge` and `host` as the cluster knows them: hidden from lists, never removed. */
export function isPredefined(network: Network): boolean {
  return network.spec?.annotations?.labels[predefinedLabel] === "true";
}

export const predefinedLabel = "com.docker.swarm.predefined";
