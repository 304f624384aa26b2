import type { Instant } from "../base/clock.ts";
import { assertNever } from "../base/errors.ts";
import type { Random } from "../base/random.ts";
import { Bootstrap } from "./bootstrap.ts";
import * as networkdb from "./networkdb/machine.ts";
import { createNetworkDb, type DbInput, type DbOutput, type EntryInput, type NetworkDb } from "./networkdb/model.ts";
import type { PacketMessage, PushPull, StreamMessage } from "./swim/codec.ts";
import * as swim from "./swim/machine.ts";
import { type DelegateVersions, type Endpoint, isSameEndpoint } from "./swim/model.ts";
import { partsBudgetBytes } from "./swim/packet.ts";

// One node's gossip: NetworkDB over the failure detector, joined here. Pure like both: inputs and time in, outputs out.

const udpBudgetBytes = 1400;
/** NetworkDB's share of a packet: room is left for our alive message in front and for the layers around. */
const dbBudgetBytes = 1300;
/**
 * So long after the start our alive message goes in front of our own news: a peer drops the news of a node which it
 * has not heard of, and the cluster's gossip takes a while to reach everyone.
 */
const introduceMs = 10_000;

export interface NodeConfig {
  readonly name: string;
  readonly advertise: Endpoint;
  readonly delegateVersions: DelegateVersions;
  readonly isEncrypted: boolean;
  readonly random: Random;
}

export interface GossipNode {
  readonly config: NodeConfig;
  readonly swim: swim.Swim;
  readonly db: NetworkDb;
  readonly bootstrap: Bootstrap;
  readonly startedAt: Instant;
}

export type NodeInput =
  | { readonly kind: "tick" }
  | { readonly kind: "packet"; readonly from: Endpoint; readonly messages: readonly PacketMessage[] }
  /** What another node opened a conversation with. */
  | { readonly kind: "stream"; readonly message: StreamMessage }
  | { readonly kind: "stream-ack"; readonly sequence: number }
  | { readonly kind: "push-pull-answer"; readonly isJoin: boolean; readonly message: PushPull }
  /** A user message could not be delivered over TCP. */
  | { readonly kind: "stream-failed"; readonly to: string }
  /** These addresses from now on; all are tried at once. */
  | { readonly kind: "join"; readonly endpoints: readonly Endpoint[] }
  | { readonly kind: "join-network" | "leave-network"; readonly networkId: string }
  | EntryInput
  | { readonly kind: "leave" };

export type NodeOutput =
  | Extract<swim.SwimOutput, { kind: "packet" | "stream-ping" | "push-pull" | "note" }>
  | Extract<DbOutput, { kind: "user-stream" | "change" | "synced" }>
  /** Answer to the `stream` input of this very step. */
  | { readonly kind: "stream-reply"; readonly message: StreamMessage };

export function createNode(config: NodeConfig, now: Instant): GossipNode {
  const { name, advertise, delegateVersions, isEncrypted, random } = config;
  const db = createNetworkDb({ name, advertise, random, packetBudgetBytes: dbBudgetBytes }, now);
  const detector = swim.createSwim(
    {
      name,
      advertise,
      delegateVersions,
      random,
      partsBudgetBytes: partsBudgetBytes(udpBudgetBytes, isEncrypted),
      delegate: {
        hasBroadcasts: () => db.clusterQueue.length > 0,
        takeBroadcasts: (overheadBytes, limitBytes) => networkdb.takeBroadcasts(db, overheadBytes, limitBytes),
        localState: (isJoin) => networkdb.localState(db, isJoin),
      },
    },
    now,
  );
  return { config, swim: detector, db, bootstrap: new Bootstrap(), startedAt: now };
}

export function nextDeadline(node: GossipNode): Instant {
  return Math.min(swim.nextDeadline(node.swim), networkdb.nextDeadline(node.db), node.bootstrap.nextDeadline());
}

/** Advances one node by one input. @throws {EngineError} as NetworkDB's `step` does. */
export function step(node: GossipNode, input: NodeInput, now: Instant): NodeOutput[] {
  const turn: Turn = { node, now, out: [] };
  switch (input.kind) {
    case "tick":
      toSwim(turn, { kind: "tick" });
      toDb(turn, { kind: "tick" });
      rejoin(turn);
      break;
    case "packet":
      for (const message of input.messages) toSwim(turn, { kind: "packet", from: input.from, message });
      break;
    case "stream":
      stream(turn, input.message);
      break;
    case "stream-ack":
      toSwim(turn, input);
      break;
    case "push-pull-answer":
      toSwim(turn, input);
      if (input.isJoin) toDb(turn, { kind: "cluster-joined" });
      break;
    case "stream-failed":
      toDb(turn, input);
      break;
    case "join":
      node.bootstrap.set(input.endpoints, now);
      rejoin(turn);
      break;
    case "join-network":
      toDb(turn, { kind: "join-network", networkId: input.networkId });
      break;
    case "leave-network":
      toDb(turn, { kind: "leave-network", networkId: input.networkId });
      break;
    case "put":
    case "remove":
      toDb(turn, input);
      break;
    case "leave":
      // NetworkDB first: then peers know it was on purpose, and don't keep our entries for our return.
      toDb(turn, input);
      toSwim(turn, input);
      node.bootstrap.set([], now);
      break;
    default:
      assertNever(input);
  }
  return turn.out;
}

interface Turn {
  readonly node: GossipNode;
  readonly now: Instant;
  readonly out: NodeOutput[];
}

function stream(turn: Turn, message: StreamMessage): void {
  switch (message.kind) {
    case "push-pull":
      toSwim(turn, { kind: "push-pull-request", message });
      return;
    case "ping":
      if (message.node !== "" && message.node !== turn.node.config.name) return;
      turn.out.push({ kind: "stream-reply", message: { kind: "ack", sequence: message.sequence } });
      return;
    case "user":
      toDb(turn, { kind: "user", payload: message.payload });
      return;
    case "ack":
    case "error":
      // Nothing that begins a conversation.
      return;
    default:
      assertNever(message);
  }
}

function rejoin(turn: Turn): void {
  const { node, now } = turn;
  const members = swim.membersOf(node.swim).filter(({ state }) => state === "alive" || state === "suspect");
  const isMember = (endpoint: Endpoint) => members.some((member) => isSameEndpoint(member, endpoint));
  for (const to of node.bootstrap.due(isMember, now)) toSwim(turn, { kind: "join", to });
}

function toSwim(turn: Turn, input: swim.SwimInput): void {
  for (const output of swim.step(turn.node.swim, input, turn.now)) {
    switch (output.kind) {
      case "packet":
      case "stream-ping":
      case "push-pull":
      case "note":
        turn.out.push(output);
        break;
      case "push-pull-reply":
        turn.out.push({ kind: "stream-reply", message: output.message });
        break;
      case "member-joined":
      case "member-gone": {
        const { name, address, portHostOrder } = output.member;
        toDb(turn, { kind: output.kind, name, address, portHostOrder });
        break;
      }
      case "member-confirmed":
        toDb(turn, output);
        break;
      case "user":
        toDb(turn, output);
        break;
      case "remote-state":
        toDb(turn, { kind: "remote-state", state: output.state });
        break;
      default:
        assertNever(output);
    }
  }
}

function toDb(turn: Turn, input: DbInput): void {
  const { node, now } = turn;
  for (const output of networkdb.step(node.db, input, now)) {
    switch (output.kind) {
      case "user-packet": {
        const withAlive = now - node.startedAt < introduceMs;
        toSwim(turn, { kind: "send-user", to: output.to, payload: output.payload, withAlive });
        break;
      }
      case "reconnect":
        toSwim(turn, { kind: "join", to: output.endpoint });
        break;
      case "user-stream":
      case "change":
      case "synced":
      case "note":
        turn.out.push(output);
        break;
      default:
        assertNever(output);
    }
  }
}
