import type { Instant } from "../../base/clock.ts";
import type { Random } from "../../base/random.ts";
import { BroadcastQueue } from "../broadcast-queue.ts";
import type { TableEvent } from "../gossip.ts";
import type { Endpoint } from "../swim/model.ts";
import type { TableMessage } from "./codec.ts";
import { LamportClock } from "./lamport.ts";
import { type Entry, Tables } from "./tables.ts";

export const dbTiming = {
  gossipIntervalMs: 200,
  bulkSyncIntervalMs: 30_000,
  bulkSyncAnswerMs: 30_000,
  /** `join-network` counts as synced then, answers or not; a late answer is still taken. */
  joinSyncMs: 5_000,
  reapIntervalMs: 5_000,
  tombstoneMs: 1_800_000,
  attachmentTombstoneMs: 1_825_000,
  reconnectIntervalMs: 1_000,
  /** So long a restarted node has to say again what it said under its older name. */
  replacementMs: 5_000,
  forgetNodeMs: 24 * 3_600_000,
  /** So long our own JOIN goes in front of own table events sent straight to a peer. */
  joinEchoMs: 10_000,
} as const;

export interface NetworkDbConfig {
  readonly name: string;
  readonly advertise: Endpoint;
  /** Room for one user message in a packet. */
  readonly packetBudgetBytes: number;
  readonly random: Random;
}

export type NodeState =
  | { readonly kind: "active" }
  | { readonly kind: "failed"; readonly since: Instant }
  /** `isReplaced`: another name was seen at its address, which may have been the older of the two. */
  | { readonly kind: "left"; readonly since: Instant; readonly isReplaced: boolean };

export interface RemoteAttachment {
  readonly time: bigint;
  /** Set while leaving. */
  readonly forgetAt: Instant | undefined;
}

export interface RemoteNode extends Endpoint {
  readonly name: string;
  state: NodeState;
  /** Of its last NodeEvent. */
  time: bigint;
  /** Whether memberlist knows it: otherwise we would never hear of its end. */
  isMember: boolean;
  readonly networks: Map<string, RemoteAttachment>;
}

export interface OwnNetwork {
  time: bigint;
  joinedAt: Instant;
  /** Set once left. */
  forgetAt: Instant | undefined;
  /** Peers whose answer the join still waits for; `undefined` once synced. */
  awaiting: Set<string> | undefined;
  awaitUntil: Instant;
  /** Own events go before relayed ones, as engines from 29 do. */
  readonly own: BroadcastQueue;
  readonly relayed: BroadcastQueue;
}

/** Own news not yet sent straight to anybody. */
export interface Pending {
  cluster: Uint8Array[];
  tables: Map<string, Uint8Array[]>;
  /** Peers that have just attached, with the networks. */
  greetings: Map<string, Set<string>>;
}

/** Mutable; changed only by the functions of this file. */
export interface NetworkDb {
  readonly config: NetworkDbConfig;
  readonly networkClock: LamportClock;
  readonly tableClock: LamportClock;
  readonly nodes: Map<string, RemoteNode>;
  readonly own: Map<string, OwnNetwork>;
  readonly tables: Tables;
  /** Node and network events, spread to the whole cluster. */
  readonly clusterQueue: BroadcastQueue;
  pending: Pending;
  flushAt: Instant | undefined;
  gossipAt: Instant;
  bulkSyncAt: Instant;
  reapAt: Instant;
  reconnectAt: Instant;
  /** Peers to sync all common networks with, and when. */
  readonly syncSoon: Map<string, Instant>;
  /**
   * Ends not yet reported: of a node that is there again under another name. Most of its endpoints outlived its daemon, and
   * those who watch shall not cut them off in between. Keyed by network, table and key.
   */
  readonly lingering: Map<string, { readonly event: TableEvent; readonly until: Instant }>;
  /** Messages that were not NetworkDB's, such as serf's. */
  skippedMessages: number;
}

export type DbInput =
  | { readonly kind: "tick" }
  | ({ readonly kind: "member-joined"; readonly name: string } & Endpoint)
  | { readonly kind: "member-gone"; readonly name: string }
  | { readonly kind: "member-confirmed"; readonly name: string }
  | { readonly kind: "user"; readonly payload: Uint8Array }
  | { readonly kind: "remote-state"; readonly state: Uint8Array }
  /** A push/pull of ours with join set was answered. */
  | { readonly kind: "cluster-joined" }
  | { readonly kind: "stream-failed"; readonly to: string }
  | { readonly kind: "join-network"; readonly networkId: string }
  | { readonly kind: "leave-network"; readonly networkId: string }
  | EntryInput
  | { readonly kind: "leave" };

export interface EntryInput {
  readonly kind: "put" | "remove";
  readonly table: string;
  readonly networkId: string;
  readonly key: string;
  readonly value: Uint8Array;
}

export type DbOutput =
  /** Best effort, one UDP packet. */
  | { readonly kind: "user-packet"; readonly to: string; readonly payload: Uint8Array }
  | { readonly kind: "user-stream"; readonly to: string; readonly endpoint: Endpoint; readonly payload: Uint8Array }
  /** Try a push/pull with join set towards a failed node. */
  | { readonly kind: "reconnect"; readonly endpoint: Endpoint }
  | { readonly kind: "change"; readonly event: TableEvent }
  /** The exchange after a join of a network is over. */
  | { readonly kind: "synced"; readonly networkId: string }
  | {
      readonly kind: "note";
      readonly level: "debug" | "warn";
      readonly message: string;
      readonly facts: Readonly<Record<string, unknown>>;
    };

export function createNetworkDb(config: NetworkDbConfig, now: Instant): NetworkDb {
  return {
    config,
    networkClock: new LamportClock(),
    tableClock: new LamportClock(),
    nodes: new Map(),
    own: new Map(),
    tables: new Tables(),
    clusterQueue: new BroadcastQueue(),
    pending: { cluster: [], tables: new Map(), greetings: new Map() },
    flushAt: undefined,
    gossipAt: now,
    bulkSyncAt: now + config.random.below(dbTiming.bulkSyncIntervalMs),
    reapAt: now + config.random.below(dbTiming.reapIntervalMs),
    reconnectAt: now,
    syncSoon: new Map(),
    lingering: new Map(),
    skippedMessages: 0,
  };
}

/** One step under way. */
export interface Turn {
  readonly db: NetworkDb;
  readonly now: Instant;
  readonly out: DbOutput[];
}

/** Live entries of one table, own ones included. */
export function entriesOf(db: NetworkDb, table: string, networkId: string): TableEvent[] {
  return db.tables.of(networkId).flatMap((entry) => {
    return entry.table === table && isVisible(db, entry) ? [eventOf(entry, "put")] : [];
  });
}

/** Other active nodes attached to a network. */
export function peersOf(db: NetworkDb, networkId: string): (Endpoint & { readonly name: string })[] {
  return [...db.nodes.values()].filter((node) => isAttached(node, networkId));
}

export function isJoined(db: NetworkDb, networkId: string): boolean {
  return ownNetwork(db, networkId) !== undefined;
}

export function isVisible(db: NetworkDb, entry: Entry): boolean {
  if (entry.deletedUntil !== undefined) return false;
  if (entry.owner === db.config.name) return true;
  const owner = db.nodes.get(entry.owner);
  return owner !== undefined && isActive(owner);
}

export function ownNetwork(db: NetworkDb, networkId: string): OwnNetwork | undefined {
  const network = db.own.get(networkId);
  return network?.forgetAt === undefined ? network : undefined;
}

export function commonNetworks(db: NetworkDb, node: RemoteNode): string[] {
  return [...db.own.keys()].filter((id) => isJoined(db, id) && isAttached(node, id));
}

export function isActive(node: RemoteNode): boolean {
  return node.state.kind === "active";
}

export function isAttached(node: RemoteNode, networkId: string): boolean {
  const attachment = node.networks.get(networkId);
  return isActive(node) && attachment !== undefined && attachment.forgetAt === undefined;
}

export function messageOfEntry(entry: Entry, now: Instant, change: "create" | "update"): TableMessage {
  const { networkId, table, key, value, time, owner, deletedUntil } = entry;
  const isDelete = deletedUntil !== undefined;
  return {
    kind: "table",
    change: isDelete ? "delete" : change,
    time,
    node: owner,
    networkId,
    table,
    key,
    value,
    // Never 0 for a tombstone: older engines would warn and start its 30 minutes anew.
    residualSeconds: isDelete ? Math.max(1, Math.round((deletedUntil - now) / 1000)) : 0,
  };
}

export function eventOf({ table, networkId, key, value, owner }: Entry, kind: TableEvent["kind"]): TableEvent {
  return { kind, table, networkId, key, value, owner };
}
