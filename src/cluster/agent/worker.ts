import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { withSignal } from "../../base/async.ts";
import type { Clock } from "../../base/clock.ts";
import { crashPoint } from "../../base/crash-point.ts";
import { EngineError, messageOf } from "../../base/errors.ts";
import { type Cidr, parseCidr, tryParseCidr } from "../../base/ip.ts";
import type { Log } from "../../base/log.ts";
import type { Networks, SwarmNetwork } from "../../network/mod.ts";
import {
  AssignmentChange_AssignmentAction,
  type AssignmentsMessage,
  AssignmentsMessage_Type,
} from "../../wire/gen/swarm_dispatcher_pb.ts";
import type { NetworkAttachment, Node, Task } from "../../wire/gen/swarm_objects_pb.ts";
import { TaskState, type TaskStatus } from "../../wire/gen/swarm_types_pb.ts";
import { Wakeup } from "../dispatcher/wakeup.ts";
import { decodeNetwork } from "../state/network-codec.ts";
import { isIngress } from "../state/tasks.ts";
import { statusOf } from "./agent.ts";

/** An attachment that is running here: its network is installed. */
export interface RunningAttachment {
  readonly attachmentId: string;
  readonly networkId: string;
  readonly addresses: readonly Cidr[];
}

/** As a container asks for it; `target` is a network's id or name. */
export interface WantedAttachment {
  readonly containerId: string;
  readonly target: string;
  readonly addresses: readonly string[];
}

export interface Unheard {
  readonly wanted: WantedAttachment;
  readonly kept: string | undefined;
  /** May be called more than once for one attachment. */
  readonly giveUp: (attachmentId: string) => void;
}

type Progress =
  | { readonly kind: "waiting" }
  | { readonly kind: "running" }
  | { readonly kind: "ended"; readonly reason: EngineError | undefined };
const waiting: Progress = { kind: "waiting" };
const retryMs = 1000;

export interface WorkerOptions {
  readonly networks: () => Pick<Networks, "installSwarmNetwork" | "removeSwarmNetwork" | "setIngress">;
  readonly report: (taskId: string, status: TaskStatus) => void;
  /** Settles when the gossip runs; ingress waits for it (reference: swarm-control-plane 11). */
  readonly gossipReady: Promise<void>;
  readonly clock: Clock;
  readonly log: Log;
}

/**
 * What this node does about what its manager says: installs networks for its attachment tasks, keeps ingress, reports.
 * Level-triggered: messages only replace what is wanted, two loops bring the host to it.
 */
export class Worker {
  readonly #options: WorkerOptions;
  readonly #tasks = new Map<string, Task>();
  readonly #progress = new Map<string, Progress>();
  readonly #installed = new Map<string, string>();
  readonly #taskWakeup = new Wakeup();
  readonly #ingressWakeup = new Wakeup();
  /** Attachments that an earlier life of this daemon left, and that no endpoint has claimed yet. */
  readonly #inherited = new Set<string>();
  /** Asked for without hearing an answer; what was granted all the same is surplus. */
  readonly #unheard = new Map<string, Unheard>();
  readonly #complete = Promise.withResolvers<void>();
  #isComplete = false;
  #changed = Promise.withResolvers<void>();
  #node: Node | undefined;
  #ingress: string | undefined;

  constructor(options: WorkerOptions) {
    this.#options = options;
  }

  setNode(node: Node): void {
    this.#node = node;
    this.#taskWakeup.ring();
    this.#ingressWakeup.ring();
  }

  assign(message: AssignmentsMessage): void {
    const named = new Set<string>();
    for (const { action, assignment } of message.changes) {
      if (assignment?.item.case !== "task") continue;
      const task = assignment.item.value;
      named.add(task.id);
      if (action === AssignmentChange_AssignmentAction.REMOVE) this.#drop(task.id);
      else this.#tasks.set(task.id, task);
    }
    if (message.type === AssignmentsMessage_Type.COMPLETE) {
      for (const id of this.#tasks.keys()) if (!named.has(id)) this.#drop(id);
      if (!this.#isComplete) for (const id of this.#attachmentIds()) this.#inherited.add(id);
      this.#isComplete = true;
      this.#complete.resolve();
      // A manager that lost a report hears it again.
      for (const id of named) if (this.#progress.get(id)?.kind === "running") this.#progress.delete(id);
    }
    this.#giveUpSurplus();
    this.#taskWakeup.ring();
    this.#notify();
  }

  /** Resolves once the attachment runs here. @throws {EngineError} when it was refused or taken away. */
  async running(attachmentId: string, signal: AbortSignal): Promise<RunningAttachment> {
    let wasHere = false;
    for (;;) {
      const changed = this.#changed.promise;
      const task = this.#tasks.get(attachmentId);
      const progress = this.#progress.get(attachmentId);
      wasHere ||= task !== undefined;
      if (task !== undefined && progress?.kind === "running") return runningOf(task);
      if (progress?.kind === "ended" && progress.reason !== undefined) throw progress.reason;
      if (progress?.kind === "ended" || (wasHere && task === undefined)) {
        throw new EngineError("internal", `attachment ${attachmentId} was withdrawn`);
      }
      await withSignal(changed, signal);
    }
  }

  /** An attachment that the manager still holds for this container, as after a crash of this daemon. It counts as claimed. */
  async claim(wanted: WantedAttachment, signal: AbortSignal): Promise<string | undefined> {
    await withSignal(this.#complete.promise, signal);
    this.#unheard.delete(keyOf(wanted));
    for (const id of this.#inherited) {
      const task = this.#tasks.get(id);
      if (task === undefined || !isFor(task, wanted)) continue;
      this.#inherited.delete(id);
      return id;
    }
    return undefined;
  }

  /**
   * One or more calls for an attachment ended without an answer. Those that the manager granted all the same are given up
   * as they show, except the one that is kept, which a later call got.
   */
  giveUpUnheard(unheard: Unheard): void {
    this.#unheard.set(keyOf(unheard.wanted), unheard);
    this.#giveUpSurplus();
  }

  /** What an earlier life left and nobody wants: not in `claimed`, and not claimed since. Waits for the manager's list. */
  async unclaimed(claimed: ReadonlySet<string>, signal: AbortSignal): Promise<readonly string[]> {
    await withSignal(this.#complete.promise, signal);
    return [...this.#inherited].filter((id) => this.#tasks.has(id) && !claimed.has(id));
  }

  /** Installs networks for tasks and removes those that no task uses any more. */
  async runTasks(signal: AbortSignal): Promise<void> {
    for (;;) {
      for (const task of [...this.#tasks.values()]) await this.#advance(task, signal);
      await this.#removeUnused(signal);
      await this.#taskWakeup.wait(signal);
    }
  }

  async runIngress(signal: AbortSignal): Promise<void> {
    await withSignal(this.#options.gossipReady, signal);
    const { networks, log, clock } = this.#options;
    for (;;) {
      if (this.#node !== undefined) {
        const attachment = this.#node.attachments.find(({ network }) => network !== undefined && isIngress(network));
        const key = attachment === undefined ? "none" : `${attachment.network?.id} ${attachment.addresses[0]}`;
        if (key !== this.#ingress) {
          try {
            await networks().setIngress(attachment === undefined ? undefined : swarmNetworkOf(attachment), signal);
            crashPoint("swarm.ingress");
            this.#ingress = key;
          } catch (error) {
            if (signal.aborted) return;
            log.error("cannot set up ingress, trying again", { error });
            await clock.sleep(retryMs, signal);
            continue;
          }
        }
      }
      await this.#ingressWakeup.wait(signal);
    }
  }

  #giveUpSurplus(): void {
    for (const { wanted, kept, giveUp } of this.#unheard.values()) {
      for (const task of this.#tasks.values()) if (task.id !== kept && isFor(task, wanted)) giveUp(task.id);
    }
  }

  #attachmentIds(): readonly string[] {
    return [...this.#tasks.values()].filter(({ spec }) => spec?.runtime.case === "attachment").map(({ id }) => id);
  }

  async #advance(task: Task, signal: AbortSignal): Promise<void> {
    const progress = this.#progress.get(task.id) ?? waiting;
    if (progress.kind === "ended" || this.#tasks.get(task.id) !== task) return;
    if (task.desiredState >= TaskState.SHUTDOWN)
      return this.#finish(task, { state: TaskState.SHUTDOWN, message: "shutdown" });
    if (task.spec?.runtime.case !== "attachment") {
      const err = "this version of Weft runs no service tasks";
      return this.#finish(task, { state: TaskState.REJECTED, message: "preparing", err });
    }
    try {
      if (!(await this.#installAll(task, signal)) || progress.kind === "running") return;
      this.#progress.set(task.id, { kind: "running" });
      this.#report(task, { state: TaskState.RUNNING, message: "started" });
      this.#notify();
    } catch (error) {
      if (signal.aborted) throw error;
      this.#options.log.error("cannot prepare an attachment", { task: task.id, error });
      const reason =
        error instanceof EngineError ? error : new EngineError("internal", messageOf(error), { cause: error });
      this.#finish(task, { state: TaskState.REJECTED, message: "preparing", err: reason.message }, reason);
    }
  }

  /** False while the node's own address on one of the networks has not arrived (T16). */
  async #installAll(task: Task, signal: AbortSignal): Promise<boolean> {
    for (const { network } of task.networks) {
      if (network === undefined) continue;
      const ours = this.#node?.attachments.find((attachment) => attachment.network?.id === network.id);
      if (ours === undefined) return false;
      const key = ours.addresses[0] ?? "";
      if (this.#installed.get(network.id) === key) continue;
      await this.#options.networks().installSwarmNetwork(swarmNetworkOf(ours), signal);
      crashPoint("swarm.install-network");
      this.#installed.set(network.id, key);
    }
    return true;
  }

  async #removeUnused(signal: AbortSignal): Promise<void> {
    const used = new Set([...this.#tasks.values()].flatMap((task) => task.networks.map(({ network }) => network?.id)));
    for (const id of this.#installed.keys()) {
      if (used.has(id)) continue;
      try {
        await this.#options.networks().removeSwarmNetwork(id, signal);
        crashPoint("swarm.remove-network");
      } catch (error) {
        if (signal.aborted) throw error;
        // An endpoint of ours still stands on it: its removal comes with a later detach.
        this.#options.log.warn("a swarm network stays for now", { network: id, error });
      }
      this.#installed.delete(id);
    }
  }

  /** `reason` is what whoever waits for the attachment is told. */
  #finish(
    task: Task,
    status: { readonly state: TaskState; readonly message: string; readonly err?: string },
    reason?: EngineError,
  ): void {
    this.#progress.set(task.id, { kind: "ended", reason });
    this.#report(task, status);
    this.#notify();
  }

  #report(task: Task, status: { readonly state: TaskState; readonly message: string; readonly err?: string }): void {
    this.#options.report(task.id, statusOf({ ...status, timestamp: timestampFromDate(this.#options.clock.wall()) }));
  }

  #drop(taskId: string): void {
    this.#tasks.delete(taskId);
    this.#progress.delete(taskId);
  }

  #notify(): void {
    this.#changed.resolve();
    this.#changed = Promise.withResolvers<void>();
  }
}

function keyOf({ containerId, target }: WantedAttachment): string {
  return `${containerId} ${target}`;
}

function isFor(task: Task, { containerId, target, addresses }: WantedAttachment): boolean {
  if (task.spec?.runtime.case !== "attachment" || task.spec.runtime.value.containerId !== containerId) return false;
  const [attachment] = task.networks;
  const isTarget = attachment?.network?.id === target || attachment?.network?.spec?.annotations?.name === target;
  const has = (ip: string) => attachment?.addresses.some((text) => tryParseCidr(text)?.address === ip) === true;
  return isTarget && addresses.every(has);
}

function runningOf(task: Task): RunningAttachment {
  const [attachment] = task.networks;
  return {
    attachmentId: task.id,
    networkId: attachment?.network?.id ?? "",
    addresses: (attachment?.addresses ?? []).map(parseCidr),
  };
}

function swarmNetworkOf(attachment: NetworkAttachment): SwarmNetwork {
  if (attachment.network === undefined)
    throw new EngineError("invalid", "the manager sent an attachment without a network");
  const nodeAddress = tryParseCidr(attachment.addresses[0] ?? "");
  return { network: decodeNetwork(attachment.network), nodeAddress };
}
