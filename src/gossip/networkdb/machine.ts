import type { Instant } from "../../base/clock.ts";
import { assertNever, DecodeError, EngineError } from "../../base/errors.ts";
import { shuffled } from "../../base/random.ts";
import { BroadcastQueue } from "../broadcast-queue.ts";
import { type Endpoint, isSameEndpoint } from "../swim/model.ts";
import {
  type BulkSync,
  type DbMessage,
  decodeDbMessage,
  encodeDbMessage,
  type NetworkEvent,
  type NetworkPushPull,
  type NodeEvent,
  type TableMessage,
} from "./codec.ts";
import {
  commonNetworks,
  type DbInput,
  type DbOutput,
  dbTiming,
  type EntryInput,
  eventOf,
  isActive,
  isAttached,
  isJoined,
  isVisible,
  messageOfEntry,
  type NetworkDb,
  ownNetwork,
  peersOf,
  type RemoteNode,
  type Turn,
} from "./model.ts";
import { eagerPeers, flush, messageOverheadBytes, ownJoin } from "./news.ts";
import type { Entry } from "./tables.ts";

// NetworkDB (reference: network-data-plane 4). A node as seen from here:
//
//    member-joined            member-gone
//   -------------> active -----------------> failed ---> (24 h) forgotten
//                   ^  |  <-- member-joined,   |
//     NodeEvent JOIN|  |      NodeEvent JOIN   | member-joined under another name at the same address
//    (newer, still  |  v NodeEvent LEAVE       v
//        a member)  +- left <-------------------
//
// The entries of a failed node are hidden for 30 minutes and come back with it; those of one that left are dropped, and of one
// that is there again under another name they are dropped as well, but reported only when it has not said them again soon.
//
// Where this goes beyond dockerd, in messages that dockerd understands: own news goes out at once, straight to the peers
// concerned, with our attachment in front of it, since a table event that outruns its owner's JOIN is lost at the receiver;
// a peer that attaches hears our entries at once; who returns is synced with at once.

const gossipNodes = 3;
/** Every answer to a bulk sync holds all entries, own and relayed, so a sample of a large network is enough. */
const joinSyncPeers = 16;
/** Entries learnt by bulk sync are not gossiped on when so many messages wait already. */
const relayQueueLimit = 500;
const minResidualMs = 300_000;

export function nextDeadline(db: NetworkDb): Instant {
  const deadlines = [db.bulkSyncAt, db.reapAt, ...db.syncSoon.values()];
  if (db.flushAt !== undefined) deadlines.push(db.flushAt);
  for (const network of db.own.values()) {
    if (network.own.length + network.relayed.length > 0) deadlines.push(db.gossipAt);
    if (network.awaiting !== undefined) deadlines.push(network.awaitUntil);
  }
  for (const { until } of db.lingering.values()) deadlines.push(until);
  for (const { state } of db.nodes.values()) if (state.kind === "failed") deadlines.push(db.reconnectAt);
  return Math.min(...deadlines);
}

/**
 * Advances the machine by one input; changes `db` and returns what shall be done, in order.
 *
 * @throws {EngineError} `conflict` for a network joined twice, `not-found` for a put into one not joined.
 */
export function step(db: NetworkDb, input: DbInput, now: Instant): DbOutput[] {
  const turn: Turn = { db, now, out: [] };
  switch (input.kind) {
    case "tick":
      tick(turn);
      break;
    case "member-joined":
      memberJoined(turn, input);
      break;
    case "member-gone":
      memberGone(turn, input.name);
      break;
    case "member-confirmed":
      memberConfirmed(turn, input.name);
      break;
    case "user":
      handle(turn, input.payload, false, 0);
      break;
    case "remote-state":
      remoteState(turn, input.state);
      break;
    case "cluster-joined":
      announceSelf(turn, "join");
      break;
    case "stream-failed":
      peerSynced(turn, input.to);
      break;
    case "join-network":
      joinNetwork(turn, input.networkId);
      break;
    case "leave-network":
      leaveNetwork(turn, input.networkId);
      break;
    case "put":
    case "remove":
      writeEntry(turn, input);
      break;
    case "leave":
      announceSelf(turn, "leave");
      flush(turn);
      break;
    default:
      assertNever(input);
  }
  return turn.out;
}

/** Cluster-wide events for memberlist's gossip. */
export function takeBroadcasts(db: NetworkDb, overheadBytes: number, limitBytes: number): Uint8Array[] {
  return db.clusterQueue.take({ overheadBytes, limitBytes, nodes: db.nodes.size + 1 });
}

/** User state of a push/pull. On a join our own attachments get a new time, so that who believes we left thinks again. */
export function localState(db: NetworkDb, isJoin: boolean): Uint8Array {
  if (isJoin) {
    const time = db.networkClock.increment();
    for (const network of db.own.values()) if (network.forgetAt === undefined) network.time = time;
  }
  const { name } = db.config;
  const own = [...db.own].map(([networkId, { time, forgetAt }]) => {
    return { networkId, node: name, time, isLeaving: forgetAt !== undefined };
  });
  const others = [...db.nodes.values()].filter(isActive).flatMap((node) => {
    return [...node.networks].map(([networkId, { time, forgetAt }]) => {
      return { networkId, node: node.name, time, isLeaving: forgetAt !== undefined };
    });
  });
  const message: NetworkPushPull = {
    kind: "push-pull",
    time: db.networkClock.time,
    node: name,
    attachments: [...own, ...others],
  };
  return encodeDbMessage(message);
}

function joinNetwork(turn: Turn, networkId: string): void {
  const { db, now, out } = turn;
  if (isJoined(db, networkId)) {
    throw new EngineError("conflict", `networkdb: network ${networkId} is already joined`); // compat: reference 4.7
  }
  const time = db.networkClock.increment();
  const peers = shuffled(peersOf(db, networkId), db.config.random).slice(0, joinSyncPeers);
  db.own.set(networkId, {
    time,
    joinedAt: now,
    forgetAt: undefined,
    awaiting: new Set(peers.map(({ name }) => name)),
    awaitUntil: now + dbTiming.joinSyncMs,
    own: new BroadcastQueue(),
    relayed: new BroadcastQueue(),
  });
  announceNetwork(turn, networkId, "join", time);
  // The JOIN leaves now, ahead of the syncs, and they carry it again.
  flush(turn);
  for (const peer of peers) requestSync(turn, peer, [networkId]);
  if (peers.length === 0) synced(db, out, networkId);
}

function leaveNetwork(turn: Turn, networkId: string): void {
  const { db, now } = turn;
  const network = ownNetwork(db, networkId);
  if (network === undefined) return;
  network.time = db.networkClock.increment();
  network.forgetAt = now + dbTiming.attachmentTombstoneMs;
  network.own.clear();
  network.relayed.clear();
  if (network.awaiting !== undefined) synced(db, turn.out, networkId);
  db.pending.tables.delete(networkId);
  announceNetwork(turn, networkId, "leave", network.time);
  endLingering(turn, networkId);
  for (const entry of db.tables.of(networkId)) {
    if (entry.owner !== db.config.name) {
      db.tables.delete(entry);
      reportGone(turn, entry);
    } else if (entry.deletedUntil === undefined) {
      db.tables.set({ ...entry, time: db.tableClock.increment(), deletedUntil: now + dbTiming.tombstoneMs });
    }
  }
}

function writeEntry(turn: Turn, input: EntryInput): void {
  const { db, now } = turn;
  const { table, networkId, key } = input;
  const network = ownNetwork(db, networkId);
  const known = db.tables.get(networkId, table, key);
  const isDelete = input.kind === "remove";
  if (isDelete && (network === undefined || known === undefined || known.deletedUntil !== undefined)) return;
  if (network === undefined) {
    throw new EngineError("not-found", `cannot write ${table} entry ${key}: network ${networkId} is not joined`);
  }
  const entry: Entry = {
    networkId,
    table,
    key,
    owner: db.config.name,
    time: db.tableClock.increment(),
    value: isDelete ? (known?.value ?? input.value) : input.value,
    deletedUntil: isDelete ? now + dbTiming.tombstoneMs : undefined,
  };
  db.tables.set(entry);
  const isUpdate = known !== undefined && known.deletedUntil === undefined;
  const bytes = encodeDbMessage(messageOfEntry(entry, now, isUpdate ? "update" : "create"));
  // The flush reaches the peers first; the queue is for what that loses.
  if (network.own.length + network.relayed.length === 0)
    db.gossipAt = Math.max(db.gossipAt, now + dbTiming.gossipIntervalMs);
  network.own.add(`${table}/${key}`, bytes);
  const pending = db.pending.tables.get(networkId) ?? [];
  pending.push(bytes);
  db.pending.tables.set(networkId, pending);
  db.flushAt ??= now;
}

function announceSelf(turn: Turn, change: NodeEvent["change"]): void {
  const { db } = turn;
  const event: NodeEvent = { kind: "node", change, time: db.networkClock.increment(), node: db.config.name };
  announce(turn, undefined, event);
}

function announceNetwork(turn: Turn, networkId: string, change: NetworkEvent["change"], time: bigint): void {
  const node = turn.db.config.name;
  announce(turn, networkEventKey(networkId, node), { kind: "network", change, time, node, networkId });
}

function announce(turn: Turn, key: string | undefined, event: NodeEvent | NetworkEvent): void {
  const { db, now } = turn;
  const bytes = encodeDbMessage(event);
  db.clusterQueue.add(key, bytes);
  db.pending.cluster.push(bytes);
  db.flushAt ??= now;
}

function tick(turn: Turn): void {
  const { db, now, out } = turn;
  if (db.flushAt !== undefined && db.flushAt <= now) flush(turn);
  if (db.gossipAt <= now) gossipTables(turn);
  endLingering(turn);
  for (const [name, at] of [...db.syncSoon]) {
    if (at > now) continue;
    db.syncSoon.delete(name);
    const node = db.nodes.get(name);
    if (node !== undefined) requestSync(turn, node, commonNetworks(db, node));
  }
  if (db.bulkSyncAt <= now) {
    db.bulkSyncAt = now + dbTiming.bulkSyncIntervalMs;
    periodicSync(turn);
  }
  for (const [networkId, network] of db.own) {
    if (network.awaiting !== undefined && network.awaitUntil <= now) synced(db, out, networkId);
  }
  if (db.reapAt <= now) {
    db.reapAt = now + dbTiming.reapIntervalMs;
    reap(turn);
  }
  if (db.reconnectAt <= now) {
    db.reconnectAt = now + dbTiming.reconnectIntervalMs;
    const [node] = shuffled(
      [...db.nodes.values()].filter(({ state }) => state.kind === "failed"),
      db.config.random,
    );
    if (node !== undefined) out.push({ kind: "reconnect", endpoint: node });
  }
}

function gossipTables(turn: Turn): void {
  const { db, now } = turn;
  for (const [networkId, network] of db.own) {
    if (network.own.length + network.relayed.length === 0) continue;
    db.gossipAt = now + dbTiming.gossipIntervalMs;
    const peers = peersOf(db, networkId);
    const options = { overheadBytes: messageOverheadBytes, nodes: peers.length + 1 };
    const own = network.own.take({ ...options, limitBytes: db.config.packetBudgetBytes });
    const left = own.reduce((rest, { length }) => rest - length - messageOverheadBytes, db.config.packetBudgetBytes);
    const messages = [...own, ...network.relayed.take({ ...options, limitBytes: left })];
    if (messages.length === 0) {
      // What fits no packet was sent over TCP; the others get it by bulk sync.
      network.own.clear();
      network.relayed.clear();
      continue;
    }
    const payload = encodeDbMessage({ kind: "compound", messages });
    for (const peer of shuffled(peers, db.config.random).slice(0, gossipNodes)) {
      turn.out.push({ kind: "user-packet", to: peer.name, payload });
    }
  }
}

function periodicSync(turn: Turn): void {
  const { db } = turn;
  const remaining = new Set([...db.own].filter(([, network]) => network.forgetAt === undefined).map(([id]) => id));
  for (const networkId of remaining) {
    const [peer] = shuffled(peersOf(db, networkId), db.config.random);
    const node = peer && db.nodes.get(peer.name);
    if (node === undefined) continue;
    const networkIds = commonNetworks(db, node);
    requestSync(turn, node, networkIds);
    for (const id of networkIds) remaining.delete(id);
  }
}

function reap(turn: Turn): void {
  const { db, now } = turn;
  for (const entry of db.tables.all()) {
    if (entry.deletedUntil !== undefined && entry.deletedUntil <= now) db.tables.delete(entry);
  }
  for (const [networkId, { forgetAt }] of [...db.own]) {
    if (forgetAt === undefined || forgetAt > now) continue;
    db.own.delete(networkId);
    for (const entry of db.tables.of(networkId)) db.tables.delete(entry);
  }
  for (const node of [...db.nodes.values()]) {
    for (const [networkId, { forgetAt }] of [...node.networks]) {
      if (forgetAt !== undefined && forgetAt <= now) node.networks.delete(networkId);
    }
    if (node.state.kind === "active") continue;
    if (node.state.kind === "failed" && now - node.state.since > dbTiming.tombstoneMs) dropState(turn, node);
    if (now - node.state.since > dbTiming.forgetNodeMs && !node.isMember) db.nodes.delete(node.name);
  }
}

function memberJoined(turn: Turn, member: Endpoint & { readonly name: string }): void {
  const { db } = turn;
  if (member.name === db.config.name) return;
  const known = db.nodes.get(member.name);
  if (known !== undefined && isSameEndpoint(known, member)) {
    known.isMember = true;
    if (known.state.kind !== "active") activate(turn, known);
    return;
  }
  // memberlist lets only a node that left come back elsewhere.
  if (known !== undefined && known.state.kind !== "left") retire(turn, known, false);
  replaceOthersAt(turn, member);
  db.nodes.set(member.name, {
    name: member.name,
    address: member.address,
    portHostOrder: member.portHostOrder,
    state: { kind: "active" },
    time: known?.time ?? 0n,
    isMember: true,
    networks: new Map(),
  });
  if (isSameEndpoint(member, db.config.advertise)) {
    // Ourselves before a restart, as others still remember us.
    retire(turn, db.nodes.get(member.name) as RemoteNode, true);
    return;
  }
  // It may not have heard of our networks yet, whichever way it heard of us.
  for (const [networkId, network] of db.own) {
    if (network.forgetAt === undefined) greet(turn, member.name, networkId);
  }
}

/** A restarted daemon has a new name at the old address: the older name is history. */
function replaceOthersAt(turn: Turn, member: Endpoint & { readonly name: string }): void {
  for (const node of turn.db.nodes.values()) {
    if (node.name === member.name || node.state.kind === "left" || !isSameEndpoint(node, member)) continue;
    retire(turn, node, true);
  }
}

function memberGone(turn: Turn, name: string): void {
  const node = turn.db.nodes.get(name);
  if (node === undefined) return;
  node.isMember = false;
  if (node.state.kind !== "active") return;
  const hidden = visibleEntriesOf(turn.db, node);
  node.state = { kind: "failed", since: turn.now };
  for (const entry of hidden) turn.out.push({ kind: "change", event: eventOf(entry, "delete") });
}

/** It answered by name at its address, so if two names claimed that address, it is the living one. */
function memberConfirmed(turn: Turn, name: string): void {
  const node = turn.db.nodes.get(name);
  if (node === undefined || node.state.kind !== "left" || !node.state.isReplaced) return;
  replaceOthersAt(turn, node);
  activate(turn, node);
}

function activate(turn: Turn, node: RemoteNode): void {
  const { db } = turn;
  node.state = { kind: "active" };
  for (const entry of visibleEntriesOf(db, node)) {
    db.lingering.delete(lingerKey(entry));
    turn.out.push({ kind: "change", event: eventOf(entry, "put") });
  }
  // Both sides missed something meanwhile.
  syncSoon(turn, node, 0);
  for (const [networkId, network] of db.own) {
    if (network.forgetAt === undefined) greet(turn, node.name, networkId);
  }
}

function retire(turn: Turn, node: RemoteNode, isReplaced: boolean): void {
  if (isReplaced) lingerEntriesOf(turn, node);
  dropState(turn, node);
  node.state = { kind: "left", since: turn.now, isReplaced };
}

function lingerEntriesOf({ db, now }: Turn, node: RemoteNode): void {
  for (const entry of visibleEntriesOf(db, node)) {
    db.tables.delete(entry);
    const lingers = { event: eventOf(entry, "delete"), until: now + dbTiming.replacementMs };
    db.lingering.set(lingerKey(entry), lingers);
  }
}

function lingerKey({ networkId, table, key }: Pick<Entry, "networkId" | "table" | "key">): string {
  return `${networkId}/${table}/${key}`;
}

/** Reports the ends that have waited long enough, or all of one network. */
function endLingering({ db, now, out }: Turn, networkId?: string): void {
  for (const [key, { event, until }] of db.lingering) {
    if (networkId === undefined ? until > now : event.networkId !== networkId) continue;
    db.lingering.delete(key);
    out.push({ kind: "change", event });
  }
}

/** Forgets what a node said: its attachments and entries. */
function dropState(turn: Turn, node: RemoteNode): void {
  const { db } = turn;
  for (const entry of db.tables.all()) {
    if (entry.owner !== node.name) continue;
    db.tables.delete(entry);
    reportGone(turn, entry);
  }
  node.networks.clear();
}

function handle(turn: Turn, bytes: Uint8Array, isBulkSync: boolean, layer: number): void {
  let message: DbMessage;
  try {
    message = decodeDbMessage(bytes);
  } catch (error) {
    if (!(error instanceof DecodeError)) throw error;
    turn.db.skippedMessages += 1;
    return;
  }
  switch (message.kind) {
    case "node":
      if (nodeEvent(turn, message)) turn.db.clusterQueue.add(undefined, bytes);
      return;
    case "network":
      if (networkEvent(turn, message)) {
        turn.db.clusterQueue.add(networkEventKey(message.networkId, message.node), bytes);
      }
      return;
    case "table":
      tableEvent(turn, message, bytes, isBulkSync);
      return;
    case "bulk-sync":
      if (layer === 0) bulkSync(turn, message);
      return;
    case "compound":
      if (layer < 3) for (const part of message.messages) handle(turn, part, isBulkSync, layer + 1);
      return;
    case "push-pull":
      // Only as user state of memberlist's own push/pull.
      return;
    default:
      assertNever(message);
  }
}

function remoteState(turn: Turn, state: Uint8Array): void {
  let message: DbMessage;
  try {
    message = decodeDbMessage(state);
  } catch (error) {
    if (!(error instanceof DecodeError)) throw error;
    turn.db.skippedMessages += 1;
    return;
  }
  if (message.kind !== "push-pull") return;
  nodeEvent(turn, { kind: "node", change: "join", time: message.time, node: message.node });
  for (const { networkId, node, time, isLeaving } of message.attachments) {
    networkEvent(turn, { kind: "network", change: isLeaving ? "leave" : "join", time, node, networkId });
  }
}

/** Returns whether it was news and shall be gossiped on. */
function nodeEvent(turn: Turn, event: NodeEvent): boolean {
  const { db } = turn;
  db.networkClock.witness(event.time);
  const node = db.nodes.get(event.node);
  if (node === undefined || node.time >= event.time) return false;
  node.time = event.time;
  if (event.change === "join") {
    if (!node.isMember || node.state.kind === "active") return false;
    replaceOthersAt(turn, node);
    activate(turn, node);
    return true;
  }
  if (node.state.kind === "left") return false;
  retire(turn, node, false);
  return true;
}

/** Returns whether it was news and shall be gossiped on. */
function networkEvent(turn: Turn, event: NetworkEvent): boolean {
  const { db, now } = turn;
  db.networkClock.witness(event.time);
  if (event.node === db.config.name) return false;
  const node = db.nodes.get(event.node);
  // Of one whom memberlist does not know we would never hear that it is gone.
  if (node === undefined || !isActive(node)) return false;
  const known = node.networks.get(event.networkId);
  if (known !== undefined ? known.time >= event.time : event.change === "leave") return false;
  if (event.change === "leave") {
    node.networks.set(event.networkId, { time: event.time, forgetAt: now + dbTiming.attachmentTombstoneMs });
    for (const entry of db.tables.of(event.networkId)) {
      if (entry.owner !== node.name) continue;
      db.tables.delete(entry);
      reportGone(turn, entry);
    }
    return true;
  }
  node.networks.set(event.networkId, { time: event.time, forgetAt: undefined });
  const isNew = known === undefined || known.forgetAt !== undefined;
  if (isNew && isJoined(db, event.networkId)) welcome(turn, node, event.networkId);
  return true;
}

/** A peer has attached to a network of ours: it hears our entries now, and is asked for its own a little later. */
function welcome(turn: Turn, node: RemoteNode, networkId: string): void {
  const { db } = turn;
  greet(turn, node.name, networkId);
  // A newcomer syncs with us by itself; this is for the case that neither knew of the other. A few of us are enough.
  const peers = peersOf(db, networkId).length;
  if (db.config.random.below(Math.max(peers, eagerPeers)) < eagerPeers) {
    syncSoon(turn, node, 200 + db.config.random.below(1000));
  }
}

function greet(turn: Turn, name: string, networkId: string): void {
  const { db, now } = turn;
  const networkIds = db.pending.greetings.get(name) ?? new Set();
  networkIds.add(networkId);
  db.pending.greetings.set(name, networkIds);
  db.flushAt ??= now;
}

/** The receive rules of the reference, 4.8, in its order. */
function tableEvent(turn: Turn, event: TableMessage, bytes: Uint8Array, isBulkSync: boolean): void {
  const { db, now } = turn;
  db.tableClock.witness(event.time);
  if (event.node === db.config.name) return;
  const network = ownNetwork(db, event.networkId);
  const owner = db.nodes.get(event.node);
  if (network === undefined || owner === undefined || !isAttached(owner, event.networkId)) return;
  const known = db.tables.get(event.networkId, event.table, event.key);
  if (known !== undefined && known.time >= event.time) return;

  const residualMs = event.residualSeconds > 0 ? event.residualSeconds * 1000 : dbTiming.tombstoneMs;
  const isDelete = event.change === "delete";
  const entry: Entry = {
    networkId: event.networkId,
    table: event.table,
    key: event.key,
    owner: event.node,
    time: event.time,
    value: event.value,
    deletedUntil: isDelete ? now + Math.min(residualMs, dbTiming.tombstoneMs) : undefined,
  };
  const wasVisible = known !== undefined && isVisible(db, known);
  db.tables.set(entry);
  if (!isDelete) {
    db.lingering.delete(lingerKey(entry));
    turn.out.push({ kind: "change", event: eventOf(entry, "put") });
  } else if (known !== undefined && wasVisible)
    turn.out.push({ kind: "change", event: eventOf({ ...known, owner: event.node }, "delete") });

  const isInSync = network.awaiting === undefined;
  const isUnknownDelete = isDelete && known === undefined;
  if (!isInSync || (isUnknownDelete && !(isBulkSync && residualMs > minResidualMs))) return;
  if (isBulkSync && network.relayed.length > relayQueueLimit) return;
  network.own.remove(`${event.table}/${event.key}`);
  network.relayed.add(`${event.table}/${event.key}`, bytes);
}

function bulkSync(turn: Turn, message: BulkSync): void {
  const { db } = turn;
  db.tableClock.witness(message.time);
  const node = db.nodes.get(message.node);
  if (node === undefined) return;
  for (const part of message.messages) handle(turn, part, true, 1);
  if (message.isRequest)
    sendSync(
      turn,
      node,
      message.networkIds.filter((id) => isJoined(db, id)),
      false,
    );
  else peerSynced(turn, node.name);
}

function requestSync(turn: Turn, to: Endpoint & { readonly name: string }, networkIds: readonly string[]): void {
  if (networkIds.length > 0) sendSync(turn, to, networkIds, true);
}

/** All entries of some networks, with the attachments in front: else a receiver that missed one refuses the entries. */
function sendSync(
  turn: Turn,
  to: Endpoint & { readonly name: string },
  networkIds: readonly string[],
  isRequest: boolean,
): void {
  const { db, now } = turn;
  const messages: Uint8Array[] = [];
  for (const networkId of networkIds) {
    const network = ownNetwork(db, networkId);
    if (network !== undefined) messages.push(ownJoin(db, networkId, network));
    for (const node of db.nodes.values()) {
      const attachment = node.networks.get(networkId);
      if (attachment === undefined || !isActive(node) || node.name === to.name) continue;
      const change = attachment.forgetAt === undefined ? "join" : "leave";
      messages.push(encodeDbMessage({ kind: "network", change, time: attachment.time, node: node.name, networkId }));
    }
    for (const entry of db.tables.of(networkId)) {
      if (entry.deletedUntil !== undefined ? entry.deletedUntil > now : isVisible(db, entry)) {
        messages.push(encodeDbMessage(messageOfEntry(entry, now, "create")));
      }
    }
  }
  const { name } = db.config;
  // Engines from 29 on want the answer's time to be above the request's.
  const time = db.tableClock.increment();
  const payload = encodeDbMessage({ kind: "bulk-sync", time, isRequest, node: name, networkIds, messages });
  const endpoint = { address: to.address, portHostOrder: to.portHostOrder };
  turn.out.push({ kind: "user-stream", to: to.name, endpoint, payload });
}

/** A peer has answered, or could not be reached: nothing more to wait for from it. */
function peerSynced({ db, out }: Turn, name: string): void {
  for (const [networkId, network] of db.own) {
    if (network.awaiting?.delete(name) && network.awaiting.size === 0) synced(db, out, networkId);
  }
}

function synced(db: NetworkDb, out: DbOutput[], networkId: string): void {
  const network = db.own.get(networkId);
  if (network !== undefined) network.awaiting = undefined;
  out.push({ kind: "synced", networkId });
}

function syncSoon({ db, now }: Turn, node: RemoteNode, delayMs: number): void {
  const at = now + delayMs;
  db.syncSoon.set(node.name, Math.min(at, db.syncSoon.get(node.name) ?? at));
}

/** After its removal or its owner's: tells the watchers, had they seen it. */
function reportGone({ db, out }: Turn, entry: Entry): void {
  const isOwnersFailed = db.nodes.get(entry.owner)?.state.kind === "failed";
  if (entry.deletedUntil === undefined && !isOwnersFailed)
    out.push({ kind: "change", event: eventOf(entry, "delete") });
}

function visibleEntriesOf(db: NetworkDb, node: RemoteNode): Entry[] {
  return db.tables.all().filter((entry) => entry.owner === node.name && isVisible(db, entry));
}

function networkEventKey(networkId: string, node: string): string {
  return `${networkId}/${node}`;
}
