import { create } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError } from "@connectrpc/connect";
import type { Clock } from "../../base/clock.ts";
import { EngineError } from "../../base/errors.ts";
import { newSwarmId } from "../../base/ids.ts";
import type { Random } from "../../base/random.ts";
import { type Network, TaskSchema } from "../../wire/gen/swarm_objects_pb.ts";
import type { AttachNetworkRequest } from "../../wire/gen/swarm_resource_pb.ts";
import { NetworkAttachmentConfigSchema, TaskState } from "../../wire/gen/swarm_types_pb.ts";
import type { AddressPointers } from "../allocator/addresses.ts";
import { attachTask } from "../allocator/attachments.ts";
import type { Draft, ObjectStore, View } from "../state/objects.ts";

export interface AttachmentsOptions {
  readonly objects: ObjectStore;
  readonly pointers: AddressPointers;
  readonly clock: Clock;
  readonly random: Random;
  readonly reallocate: (draft: Draft) => void;
}

/**
 * Plain containers on attachable networks (reference: swarm-control-plane 9). Task, address and the node's own address on
 * that network are one write; nothing waits for a scheduler, since the node is given.
 */
export class Attachments {
  readonly #options: AttachmentsOptions;

  constructor(options: AttachmentsOptions) {
    this.#options = options;
  }

  /** @returns The attachment id: the new task's. */
  async attach(nodeId: string, request: AttachNetworkRequest): Promise<string> {
    const { objects, pointers, clock, random, reallocate } = this.#options;
    const target = request.config?.target ?? "";
    const id = newSwarmId(random);
    await objects.write((draft) => {
      if (draft.get("node", nodeId) === undefined) throw new ConnectError(`node ${nodeId} not found`, Code.NotFound);
      const network = findNetwork(draft, target);
      if (network.spec?.attachable !== true) {
        throw new ConnectError(`network ${target} not manually attachable`, Code.PermissionDenied);
      }
      const config = create(NetworkAttachmentConfigSchema, {
        target: network.id,
        addresses: request.config?.addresses ?? [],
        aliases: request.config?.aliases ?? [],
      });
      const runtime = { case: "attachment" as const, value: { containerId: request.containerId } };
      const task = create(TaskSchema, {
        id,
        nodeId,
        spec: { runtime, networks: [config] },
        status: {
          state: TaskState.ASSIGNED,
          message: "scheduler confirmed task can run on preassigned node",
          timestamp: timestampFromDate(clock.wall()),
        },
        desiredState: TaskState.RUNNING,
        networks: refusingAsRpc(() => attachTask(draft, [config], pointers)),
      });
      draft.put("task", task);
      reallocate(draft);
    });
    return id;
  }

  async detach(nodeId: string, attachmentId: string): Promise<void> {
    const { objects, reallocate } = this.#options;
    await objects.write((draft) => {
      const task = draft.get("task", attachmentId);
      if (task?.spec?.runtime.case !== "attachment") {
        throw new ConnectError(`attachment ${attachmentId} not found`, Code.NotFound);
      }
      if (task.nodeId !== nodeId) {
        throw new ConnectError(`attachment ${attachmentId} doesn't belong to this node`, Code.PermissionDenied);
      }
      draft.delete("task", attachmentId);
      reallocate(draft);
    });
  }
}

/** By id, else by name. */
export function findNetwork(view: View, target: string): Network {
  const found =
    view.get("network", target) ?? view.list("network").find(({ spec }) => spec?.annotations?.name === target);
  if (found === undefined) throw new ConnectError(`network ${target} not found`, Code.NotFound);
  return found;
}

/** An address that cannot be given is told at once: swarmkit lets the caller wait for its time limit instead. */
function refusingAsRpc<T>(act: () => T): T {
  try {
    return act();
  } catch (error) {
    if (!(error instanceof EngineError)) throw error;
    const code = error.code === "exhausted" ? Code.ResourceExhausted : Code.FailedPrecondition;
    throw new ConnectError(error.message, code, undefined, undefined, error);
  }
}
