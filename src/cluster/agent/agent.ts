import { create, equals } from "@bufbuild/protobuf";
import { durationMs } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError, createClient, type Transport } from "@connectrpc/connect";
import { anySignal, withSignal } from "../../base/async.ts";
import type { Clock } from "../../base/clock.ts";
import type { Log } from "../../base/log.ts";
import type { Random } from "../../base/random.ts";
import {
  type AssignmentsMessage,
  AssignmentsMessage_Type,
  Dispatcher,
  type SessionMessage,
} from "../../wire/gen/swarm_dispatcher_pb.ts";
import { LogBroker } from "../../wire/gen/swarm_logbroker_pb.ts";
import { ResourceAllocator } from "../../wire/gen/swarm_resource_pb.ts";
import {
  type NodeDescription,
  NodeDescriptionSchema,
  type TaskStatus,
  TaskStatusSchema,
} from "../../wire/gen/swarm_types_pb.ts";
import { Wakeup } from "../dispatcher/wakeup.ts";
import type { ManagerConnection } from "./connection.ts";
import type { ManagerPeer, Remotes } from "./remotes.ts";

// Reference: swarm-control-plane 8.1.
const firstMessageMs = 5000;
const callTimeoutMs = 5000;
const backoffStepMs = 100;
const maxBackoffMs = 8000;
const describeEveryMs = 20_000;
const shortestPeriodMs = 100;

/** What the sessions are for; each call is quick and never throws. */
export interface AgentListener {
  onSession(message: SessionMessage): void;
  onAssignments(message: AssignmentsMessage): void;
}

export interface AgentOptions {
  readonly remotes: Remotes;
  readonly connect: (peer: ManagerPeer) => ManagerConnection;
  readonly describe: () => NodeDescription;
  readonly listener: AgentListener;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
}

/**
 * This node's sessions with the managers: one at a time, for ever. Heartbeats, assignments, the session stream and log
 * subscriptions run beside each other; when one ends, the session does, and the next is opened after a back-off.
 */
export class Agent {
  readonly #options: AgentOptions;
  readonly #statuses = new Map<string, TaskStatus>();
  readonly #statusWakeup = new Wakeup();
  #sessionId = "";
  #backoffMs = 0;
  #registered = Promise.withResolvers<Transport>();
  #current: AbortController | undefined;
  lastError: unknown;

  constructor(options: AgentOptions) {
    this.#options = options;
  }

  async run(signal: AbortSignal): Promise<void> {
    const { remotes, random, clock, log } = this.#options;
    while (!signal.aborted) {
      await clock.sleep(random.below(Math.max(1, Math.floor(this.#backoffMs))), signal).catch(() => {});
      const peer = remotes.pick(random);
      if (signal.aborted) return;
      if (peer !== undefined) {
        try {
          await this.#session(peer, signal);
        } catch (error) {
          if (signal.aborted) return;
          this.lastError = error;
          remotes.observe(peer, "bad");
          log.info("the session with a manager ended", { manager: peer.address, error });
        }
      }
      this.#backoffMs = Math.min(maxBackoffMs, backoffStepMs + 2 * this.#backoffMs);
    }
  }

  /** A transport on which a session is registered, at once or as soon as there is one. */
  registered(signal: AbortSignal): Promise<Transport> {
    return withSignal(this.#registered.promise, signal);
  }

  async attachNetwork(
    request: { readonly target: string; readonly addresses: readonly string[]; readonly containerId: string },
    signal: AbortSignal,
  ): Promise<string> {
    const client = createClient(ResourceAllocator, await this.registered(signal));
    const { target, addresses, containerId } = request;
    const { attachmentId } = await client.attachNetwork(
      { config: { target, addresses: [...addresses] }, containerId },
      { signal },
    );
    return attachmentId;
  }

  async detachNetwork(attachmentId: string, signal: AbortSignal): Promise<void> {
    const client = createClient(ResourceAllocator, await this.registered(signal));
    try {
      await client.detachNetwork({ attachmentId }, { signal });
    } catch (error) {
      if (!(error instanceof ConnectError && error.code === Code.NotFound)) throw error;
    }
  }

  /** Told to the manager until it has taken it; a newer status of the same task replaces an older one. */
  report(taskId: string, status: TaskStatus): void {
    this.#statuses.set(taskId, status);
    this.#statusWakeup.ring();
  }

  /** Opens the session anew, as after a change of the certificate. */
  reconnect(): void {
    this.#backoffMs = 0;
    this.#current?.abort(new Error("reconnecting"));
  }

  async #session(peer: ManagerPeer, signal: AbortSignal): Promise<void> {
    const { connect, describe, listener, remotes, clock } = this.#options;
    const connection = connect(peer);
    const ended = new AbortController();
    this.#current = ended;
    const until = anySignal(signal, ended.signal);
    const loops: Promise<void>[] = [];
    const isRegistered = () => loops.length > 0;
    try {
      const client = createClient(Dispatcher, connection.transport);
      const description = describe();
      const firstMessage = clock.after(firstMessageMs, () => ended.abort(new Error("session initiation timed out")));
      const messages = client.session({ description, sessionId: this.#sessionId }, { signal: until });
      const streaming = (async () => {
        for await (const message of messages) {
          listener.onSession(message);
          if (isRegistered()) continue;
          firstMessage[Symbol.dispose]();
          this.#sessionId = message.sessionId;
          this.#backoffMs = 0;
          remotes.observe(peer, "good");
          this.#registered.resolve(connection.transport);
          const worker = new SessionLoops(connection.transport, message.sessionId, this.#options);
          loops.push(worker.heartbeats(until), worker.assignments(until), worker.logSubscriptions(until));
          loops.push(
            this.#reportStatuses(connection.transport, message.sessionId, until),
            this.#watchDescription(description, until),
          );
          for (const loop of loops)
            loop.then(
              () => ended.abort(new Error("a part of the session ended")),
              (error) => ended.abort(error),
            );
        }
        throw new Error("the manager closed the session");
      })();
      const failure = await streaming.catch((error: unknown) => (ended.signal.aborted ? ended.signal.reason : error));
      firstMessage[Symbol.dispose]();
      ended.abort(failure);
      await Promise.allSettled(loops);
      if (isForgotten(failure)) this.#sessionId = "";
      throw failure;
    } finally {
      // Those who wait for a registration go on waiting for the next; those who come later must not get this one.
      if (isRegistered()) this.#registered = Promise.withResolvers<Transport>();
      connection.close();
    }
  }

  async #reportStatuses(transport: Transport, sessionId: string, signal: AbortSignal): Promise<void> {
    const client = createClient(Dispatcher, transport);
    for (;;) {
      for (const [taskId, status] of [...this.#statuses]) {
        await client.updateTaskStatus(
          { sessionId, updates: [{ taskId, status }] },
          { signal, timeoutMs: callTimeoutMs },
        );
        if (this.#statuses.get(taskId) === status) this.#statuses.delete(taskId);
      }
      if (this.#statuses.size === 0) await this.#statusWakeup.wait(signal);
    }
  }

  /** A description that changed is told by opening the session again under the same id. */
  async #watchDescription(told: NodeDescription, signal: AbortSignal): Promise<void> {
    do await this.#options.clock.sleep(describeEveryMs, signal);
    while (equals(NodeDescriptionSchema, told, this.#options.describe()));
    this.#backoffMs = 0;
  }
}

/** The loops of one registered session. */
class SessionLoops {
  readonly #transport: Transport;
  readonly #sessionId: string;
  readonly #options: AgentOptions;

  constructor(transport: Transport, sessionId: string, options: AgentOptions) {
    this.#transport = transport;
    this.#sessionId = sessionId;
    this.#options = options;
  }

  async heartbeats(signal: AbortSignal): Promise<void> {
    const client = createClient(Dispatcher, this.#transport);
    const { clock } = this.#options;
    for (;;) {
      const { period } = await client.heartbeat({ sessionId: this.#sessionId }, { signal, timeoutMs: callTimeoutMs });
      await clock.sleep(Math.max(shortestPeriodMs, period === undefined ? 0 : durationMs(period)), signal);
    }
  }

  async assignments(signal: AbortSignal): Promise<void> {
    const client = createClient(Dispatcher, this.#transport);
    let applied = "";
    for await (const message of client.assignments({ sessionId: this.#sessionId }, { signal })) {
      // A gap can only be healed by a new session, whose first message is complete (T21).
      const isComplete = message.type === AssignmentsMessage_Type.COMPLETE;
      if (!isComplete && message.appliesTo !== applied) throw new Error("an assignment message was missed");
      applied = message.resultsIn;
      this.#options.listener.onAssignments(message);
    }
  }

  /** A manager may not know log subscriptions; everything else that ends this ends the session. */
  async logSubscriptions(signal: AbortSignal): Promise<void> {
    const client = createClient(LogBroker, this.#transport);
    try {
      for await (const _message of client.listenSubscriptions({}, { signal })) {
        // Only tasks of services have logs to publish, and this version runs none.
      }
    } catch (error) {
      if (!(error instanceof ConnectError && error.code === Code.Unimplemented)) throw error;
      await new Promise<void>((resolve) => {
        signal.addEventListener("abort", () => resolve(), { once: true });
      });
    }
  }
}

/** The manager does not know this session any more: the next one starts from nothing. */
function isForgotten(error: unknown): boolean {
  return error instanceof ConnectError && (error.code === Code.NotFound || error.code === Code.InvalidArgument);
}

export function statusOf(
  fields: Pick<TaskStatus, "state" | "message"> & {
    readonly err?: string;
    readonly timestamp: NonNullable<TaskStatus["timestamp"]>;
  },
): TaskStatus {
  return create(TaskStatusSchema, fields);
}
