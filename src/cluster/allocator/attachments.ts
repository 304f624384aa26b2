import { create } from "@bufbuild/protobuf";
import { messageOf } from "../../base/errors.ts";
import { formatCidr } from "../../base/ip.ts";
import {
  type Network,
  type NetworkAttachment,
  NetworkAttachmentSchema,
  type Task,
} from "../../wire/gen/swarm_objects_pb.ts";
import type { NetworkAttachmentConfig } from "../../wire/gen/swarm_types_pb.ts";
import type { Draft } from "../state/objects.ts";
import { isIngress, isLive } from "../state/tasks.ts";
import { type AddressPointers, allocateAddress } from "./addresses.ts";
import { isAllocated, isOverlay } from "./networks.ts";

/**
 * The networks of a task with their addresses, in the order of its spec.
 *
 * @throws {EngineError} when an address cannot be given.
 */
export function attachTask(
  draft: Draft,
  configs: readonly NetworkAttachmentConfig[],
  pointers: AddressPointers,
): Task["networks"] {
  return configs.map((config) => {
    const network = draft.get("network", config.target);
    if (network === undefined) throw new RangeError(`network ${config.target} is not in the store`);
    const addresses = isOverlay(network)
      ? [formatCidr(allocateAddress(draft, network, config.addresses[0] ?? "", pointers))]
      : [];
    return create(NetworkAttachmentSchema, {
      network,
      addresses,
      aliases: config.aliases,
      driverAttachmentOpts: config.driverAttachmentOpts,
    });
  });
}

/**
 * Brings every node's load-balancer attachments to what its tasks need: one address per overlay network in use there and
 * always one on ingress (reference: swarm-control-plane 10.3). Existing ones are kept. What could not be allocated is
 * returned, so that someone can say why.
 */
export function allocateNodes(draft: Draft, pointers: AddressPointers): readonly string[] {
  const ingress = draft.list("network").find((network) => isIngress(network) && isAllocated(network));
  const used = new Map<string, Map<string, Network>>();
  for (const task of draft.list("task")) {
    if (!isLive(task) || task.nodeId === "") continue;
    const ofNode = used.get(task.nodeId) ?? new Map<string, Network>();
    used.set(task.nodeId, ofNode);
    for (const { network } of task.networks)
      if (network !== undefined && isOverlay(network)) ofNode.set(network.id, network);
  }
  const failures: string[] = [];
  for (const node of draft.list("node")) {
    const wanted = new Map(used.get(node.id));
    if (ingress !== undefined) wanted.set(ingress.id, ingress);
    const kept = node.attachments.filter(({ network }) => network !== undefined && wanted.has(network.id));
    const missing = [...wanted.values()].filter(({ id }) => !kept.some(({ network }) => network?.id === id));
    if (missing.length === 0 && kept.length === node.attachments.length) continue;
    const attachments: NetworkAttachment[] = [...kept];
    for (const network of missing) {
      try {
        const addresses = [formatCidr(allocateAddress(draft, network, "", pointers))];
        attachments.push(create(NetworkAttachmentSchema, { network, addresses }));
        draft.put("node", { ...node, attachments: [...attachments] });
      } catch (error) {
        failures.push(`node ${node.id} on network ${network.id}: ${messageOf(error)}`);
      }
    }
    draft.put("node", { ...node, attachments });
  }
  return failures;
}
