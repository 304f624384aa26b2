import { create, equals } from "@bufbuild/protobuf";
import { durationFromMs, durationMs, timestampFromDate } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError } from "@connectrpc/connect";
import { anySignal } from "../../base/async.ts";
import type { Clock } from "../../base/clock.ts";
import { newSwarmId } from "../../base/ids.ts";
import type { Log } from "../../base/log.ts";
import type { Random } from "../../base/random.ts";
import {
  type AssignmentsMessage,
  AssignmentsMessage_Type,
  AssignmentsMessageSchema,
  type HeartbeatResponse,
  HeartbeatResponseSchema,
  type SessionMessage,
  SessionMessageSchema,
  type SessionRequest,
  type UpdateTaskStatusRequest,
} from "../../wire/gen/swarm_dispatcher_pb.ts";
import type { Task } from "../../wire/gen/swarm_objects_pb.ts";
import {
  NodeStatus_State,
  NodeStatusSchema,
  type Peer,
  type TaskStatus,
  TaskStatusSchema,
  WeightedPeerSchema,
} from "../../wire/gen/swarm_types_pb.ts";
import type { Draft, ObjectStore } from "../state/objects.ts";
import { isLive, stateOf } from "../state/tasks.ts";
import { planAssignments, type Told } from "./assignments.ts";
import { Wakeup } from "./wakeup.ts";

// Reference: swarm-control-plane 7.1.
const defaultPeriodMs = 5000;
const jitterMs = 500;
const missedPeriods = 3;
const unknownPeriods = 6;
const managerWeight = 10n;
const registrationGapMs = 8000;
/** As engines have it, against workers that went wrong. Of our own agents we know that they wait between attempts. */
const maxRegistrations = { foreign: 3, own: 20 } as const;
const orphanAfterMs = 24 * 3_600_000;
/** A dockerd worker rejects an attachment task that it sees before its node's address (T16), and orders nothing itself. */
const foreignBatchMs = 100;
const maxChangesPerMessage = 100;

interface NodeSession {
  readonly id: string;
  readonly ended: AbortController;
  periodMs: number;
  deadline: Disposable;
}

export interface SessionCaller {
  readonly nodeId: string;
  readonly address: string;
  /** Whether the agent is one of ours. */
  readonly isOurs: boolean;
}

export interface DispatcherOptions {
  readonly objects: ObjectStore;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  /** Every manager; never empty (T8). */
  readonly managers: () => readonly Peer[];
  /** This manager's node id, stamped on the statuses it commits. */
  readonly nodeId: string;
  /** Brings node attachments in line with the tasks; called in each write that changes tasks. */
  readonly reallocate: (draft: Draft) => void;
}

/** Sessions, heartbeats, assignments and task statuses of every node (reference: swarm-control-plane 7). */
export class Dispatcher implements Disposable {
  readonly #options: DispatcherOptions;
  readonly #sessions = new Map<string, NodeSession>();
  readonly #registrations = new Map<string, { readonly count: number; readonly atMs: number }>();
  readonly #graces = new Map<string, Disposable>();
  readonly #closed = new AbortController();
  readonly #listening: Disposable;

  constructor(options: DispatcherOptions) {
    this.#options = options;
    this.#listening = options.objects.changes.listen((changes) => {
      for (const change of changes) {
        if (change.kind === "node" && change.after === undefined) this.#end(change.id);
      }
    });
  }

  /** A new leader knows nobody's session: each node that is not down has some time to come back. */
  async start(): Promise<void> {
    const { objects } = this.#options;
    const message = `Node moved to "unknown" state due to leadership change in cluster`;
    const waiting = objects.list("node").filter((node) => node.status?.state !== NodeStatus_State.DOWN);
    await objects.write((draft) => {
      for (const node of waiting) setNodeStatus(draft, node.id, { state: NodeStatus_State.UNKNOWN, message });
    });
    for (const { id } of waiting) {
      this.#grace(id, unknownPeriods * this.#periodMs(), `heartbeat failure for node in "unknown" state`);
    }
    for (const node of objects.list("node")) {
      if (node.status?.state === NodeStatus_State.DOWN) this.#orphanLater(node.id);
    }
  }

  async *session(caller: SessionCaller, request: SessionRequest, signal: AbortSignal): AsyncGenerator<SessionMessage> {
    const { objects } = this.#options;
    const { nodeId } = caller;
    const wakeup = new Wakeup();
    using _listening = objects.changes.listen((changes) => {
      if (changes.some((c) => (c.kind === "node" && c.id === nodeId) || c.kind === "cluster")) wakeup.ring();
    });
    const session = await this.#register(caller, request);
    const until = anySignal(signal, session.ended.signal, this.#closed.signal);
    let last: SessionMessage | undefined;
    for (;;) {
      const message = this.#message(nodeId, session);
      if (last === undefined || !equals(SessionMessageSchema, last, message)) yield message;
      last = message;
      await wakeup.wait(until);
    }
  }

  heartbeat(nodeId: string, sessionId: string): HeartbeatResponse {
    const session = this.#find(nodeId, sessionId);
    const { random } = this.#options;
    session.periodMs = this.#periodMs() - jitterMs + random.below(2 * jitterMs);
    this.#expectHeartbeat(nodeId, session);
    // A period of 0 would make a dockerd worker send heartbeats without pause (T17).
    return create(HeartbeatResponseSchema, { period: durationFromMs(Math.max(1, session.periodMs)) });
  }

  /** Answers at once; the commit follows in order. @throws {ConnectError} for a task of another node: nothing is taken then. */
  updateTaskStatus(nodeId: string, request: UpdateTaskStatusRequest): void {
    this.#find(nodeId, request.sessionId);
    const { objects, log } = this.#options;
    const updates: { readonly taskId: string; readonly status: TaskStatus }[] = [];
    for (const { taskId, status } of request.updates) {
      const task = objects.get("task", taskId);
      if (task === undefined || status === undefined) continue;
      if (task.nodeId !== nodeId) {
        throw new ConnectError("cannot update a task assigned to other node", Code.PermissionDenied);
      }
      updates.push({ taskId, status });
    }
    if (updates.length === 0) return;
    objects
      .write((draft) => {
        for (const update of updates) this.#applyStatus(draft, update.taskId, update.status);
        this.#options.reallocate(draft);
      })
      .catch((error: unknown) => log.error("cannot store a task status", { node: nodeId, error }));
  }

  /** @param isOurs The agent orders node addresses before tasks itself, so nothing needs to be held back. */
  async *assignments(
    worker: { readonly nodeId: string; readonly sessionId: string; readonly isOurs: boolean },
    signal: AbortSignal,
  ): AsyncGenerator<AssignmentsMessage> {
    const { objects, clock } = this.#options;
    const { nodeId } = worker;
    const session = this.#find(nodeId, worker.sessionId);
    const until = anySignal(signal, session.ended.signal, this.#closed.signal);
    const wakeup = new Wakeup();
    using _listening = objects.changes.listen((changes) => {
      const mine = (task: Task | undefined) => task?.nodeId === nodeId;
      if (changes.some((c) => c.kind === "task" && (mine(c.before) || mine(c.after)))) wakeup.ring();
    });
    let told: Told = new Map();
    let sequence = 0;
    for (;;) {
      const plan = planAssignments(told, this.#tasksOf(nodeId));
      told = plan.told;
      const isFirst = sequence === 0;
      if (isFirst || plan.changes.length > 0) {
        // Only a COMPLETE must be one message; later ones are cut, each applying to the one before (T21).
        const size = isFirst ? Math.max(1, plan.changes.length) : maxChangesPerMessage;
        for (let at = 0; at === 0 || at < plan.changes.length; at += size) {
          yield create(AssignmentsMessageSchema, {
            type: isFirst ? AssignmentsMessage_Type.COMPLETE : AssignmentsMessage_Type.INCREMENTAL,
            appliesTo: isFirst ? "" : String(sequence),
            resultsIn: String(sequence + 1),
            changes: plan.changes.slice(at, at + size),
          });
          sequence++;
        }
      }
      await wakeup.wait(until);
      if (!worker.isOurs) await clock.sleep(foreignBatchMs, until);
    }
  }

  [Symbol.dispose](): void {
    this.#listening[Symbol.dispose]();
    this.#closed.abort(new ConnectError("dispatcher is stopped", Code.Aborted));
    for (const session of this.#sessions.values()) session.deadline[Symbol.dispose]();
    for (const grace of this.#graces.values()) grace[Symbol.dispose]();
    this.#sessions.clear();
  }

  async #register(caller: SessionCaller, request: SessionRequest): Promise<NodeSession> {
    const { objects, random } = this.#options;
    const { nodeId, address } = caller;
    if (objects.get("node", nodeId) === undefined) throw notRegistered();
    const known = this.#sessions.get(nodeId);
    const isKnown = known !== undefined && known.id === request.sessionId;
    if (!isKnown) this.#countRegistration(caller);
    const session: NodeSession = isKnown
      ? known
      : { id: newSwarmId(random), ended: new AbortController(), periodMs: this.#periodMs(), deadline: nothing };
    if (!isKnown) {
      this.#end(nodeId);
      this.#sessions.set(nodeId, session);
    }
    this.#expectHeartbeat(nodeId, session);
    await objects.write((draft) => {
      const node = draft.get("node", nodeId);
      if (node === undefined) throw notRegistered();
      const status = create(NodeStatusSchema, { state: NodeStatus_State.READY, addr: address });
      const { description = node.description } = request;
      draft.put("node", { ...node, status, ...(description === undefined ? {} : { description }) });
      // A node's first session is when it gets its address on ingress.
      this.#options.reallocate(draft);
    });
    return session;
  }

  #countRegistration({ nodeId, isOurs }: SessionCaller): void {
    const atMs = this.#options.clock.now();
    const before = this.#registrations.get(nodeId);
    const count = before !== undefined && atMs - before.atMs <= registrationGapMs ? before.count + 1 : 1;
    // A refused one does not count: a node that keeps asking would be shut out for ever.
    if (count > (isOurs ? maxRegistrations.own : maxRegistrations.foreign)) {
      throw new ConnectError(`node ${nodeId} exceeded rate limit count of registrations`, Code.Unavailable);
    }
    this.#registrations.set(nodeId, { count, atMs });
  }

  /** All five fields, every time: a worker forgets managers that are not named again (T8). */
  #message(nodeId: string, session: NodeSession): SessionMessage {
    const { objects, managers } = this.#options;
    const node = objects.get("node", nodeId);
    if (node === undefined) throw notRegistered();
    const cluster = objects.cluster();
    return create(SessionMessageSchema, {
      sessionId: session.id,
      node,
      managers: managers().map((peer) => create(WeightedPeerSchema, { peer, weight: managerWeight })),
      networkBootstrapKeys: cluster.networkBootstrapKeys,
      RootCA: cluster.rootCa?.caCert ?? new Uint8Array(),
    });
  }

  #find(nodeId: string, sessionId: string): NodeSession {
    const session = this.#sessions.get(nodeId);
    if (session === undefined) throw notRegistered();
    if (session.id !== sessionId) throw new ConnectError("session invalid", Code.InvalidArgument);
    return session;
  }

  #end(nodeId: string): void {
    const session = this.#sessions.get(nodeId);
    if (session === undefined) return;
    this.#sessions.delete(nodeId);
    session.deadline[Symbol.dispose]();
    session.ended.abort(new ConnectError("node must disconnect", Code.Aborted));
  }

  #expectHeartbeat(nodeId: string, session: NodeSession): void {
    session.deadline[Symbol.dispose]();
    this.#graces.get(nodeId)?.[Symbol.dispose]();
    this.#graces.delete(nodeId);
    session.deadline = this.#options.clock.after(missedPeriods * session.periodMs, () => {
      this.#end(nodeId);
      this.#markDown(nodeId, "heartbeat failure");
    });
  }

  #grace(nodeId: string, delayMs: number, message: string): void {
    this.#graces.set(
      nodeId,
      this.#options.clock.after(delayMs, () => this.#markDown(nodeId, message)),
    );
  }

  #markDown(nodeId: string, message: string): void {
    const { objects, log } = this.#options;
    log.info("a node is down", { node: nodeId, reason: message });
    objects
      .write((draft) => setNodeStatus(draft, nodeId, { state: NodeStatus_State.DOWN, message }))
      .catch((error: unknown) => log.error("cannot store that a node is down", { node: nodeId, error }));
    this.#orphanLater(nodeId);
  }

  /** Attachments of a node that stays down for a day are given up; a task of a service would be marked ORPHANED. */
  #orphanLater(nodeId: string): void {
    const { objects, clock, log, reallocate } = this.#options;
    const giveUp = () => {
      objects
        .write((draft) => {
          for (const task of draft.list("task")) if (task.nodeId === nodeId) draft.delete("task", task.id);
          reallocate(draft);
        })
        .catch((error: unknown) => log.error("cannot remove the tasks of a lost node", { node: nodeId, error }));
    };
    this.#graces.get(nodeId)?.[Symbol.dispose]();
    this.#graces.set(nodeId, clock.after(orphanAfterMs, giveUp));
  }

  #applyStatus(draft: Draft, taskId: string, status: TaskStatus): void {
    const task = draft.get("task", taskId);
    if (task === undefined || status.state < stateOf(task)) return;
    if (task.status !== undefined && equals(TaskStatusSchema, unapplied(task.status), unapplied(status))) return;
    const { nodeId: appliedBy, clock } = this.#options;
    const updated = { ...task, status: { ...status, appliedBy, appliedAt: timestampFromDate(clock.wall()) } };
    // An attachment belongs to no service: nobody but us would ever clear it away.
    if (task.spec?.runtime.case === "attachment" && !isLive(updated)) draft.delete("task", taskId);
    else draft.put("task", updated);
  }

  #tasksOf(nodeId: string): readonly Task[] {
    return this.#options.objects.list("task").filter((task) => task.nodeId === nodeId);
  }

  #periodMs(): number {
    const period = this.#options.objects.cluster().spec?.dispatcher?.heartbeatPeriod;
    const ms = period === undefined ? 0 : durationMs(period);
    return ms > 0 ? ms : defaultPeriodMs;
  }
}

function unapplied(status: TaskStatus): TaskStatus {
  const { appliedBy: _by, appliedAt: _at, ...rest } = status;
  return { ...rest, appliedBy: "" };
}

const nothing: Disposable = { [Symbol.dispose]: () => {} };

function setNodeStatus(
  draft: Draft,
  nodeId: string,
  status: { readonly state: NodeStatus_State; readonly message: string },
): void {
  const node = draft.get("node", nodeId);
  if (node === undefined) return;
  draft.put("node", { ...node, status: { ...(node.status ?? create(NodeStatusSchema)), ...status } });
}

function notRegistered(): ConnectError {
  return new ConnectError("node not registered", Code.NotFound); // compat: agents register again on NotFound
}
