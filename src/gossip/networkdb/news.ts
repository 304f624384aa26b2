import type { Instant } from "../../base/clock.ts";
import { shuffled } from "../../base/random.ts";
import { encodeDbMessage } from "./codec.ts";
import {
  dbTiming,
  isActive,
  messageOfEntry,
  type NetworkDb,
  type OwnNetwork,
  ownNetwork,
  peersOf,
  type Turn,
} from "./model.ts";

/** What a message costs in a compound beside its own length. */
export const messageOverheadBytes = 4;
/** Own news goes straight to so many peers; the gossip queue reaches the others. */
export const eagerPeers = 16;

/** Sends own news straight to the peers concerned: what is for the cluster first, then per network JOIN and entries. */
export function flush(turn: Turn): void {
  const { db, now } = turn;
  const { cluster, tables, greetings } = db.pending;
  db.pending = { cluster: [], tables: new Map(), greetings: new Map() };
  db.flushAt = undefined;

  const letters = new Map<string, Uint8Array[]>();
  const write = (to: string, messages: readonly Uint8Array[]) => {
    const letter = letters.get(to) ?? [];
    for (const message of messages) if (!letter.includes(message)) letter.push(message);
    if (letter.length > 0) letters.set(to, letter);
  };
  for (const node of sample(turn, [...db.nodes.values()].filter(isActive))) write(node.name, cluster);
  for (const [networkId, messages] of tables) {
    const echo = joinEcho(db, networkId, now);
    for (const peer of sample(turn, peersOf(db, networkId))) write(peer.name, [...echo, ...messages]);
  }
  for (const [name, networkIds] of greetings) {
    for (const networkId of networkIds) write(name, greeting(db, networkId, now));
  }
  for (const [name, messages] of letters) post(turn, name, messages);
}

function joinEcho(db: NetworkDb, networkId: string, now: Instant): Uint8Array[] {
  const network = ownNetwork(db, networkId);
  if (network === undefined || now - network.joinedAt > dbTiming.joinEchoMs) return [];
  return [ownJoin(db, networkId, network)];
}

/** What a peer that has just attached must know from us: that we are there, and our live entries. */
function greeting(db: NetworkDb, networkId: string, now: Instant): Uint8Array[] {
  const network = ownNetwork(db, networkId);
  if (network === undefined) return [];
  const entries = db.tables.of(networkId).filter((e) => e.owner === db.config.name && e.deletedUntil === undefined);
  return [
    ownJoin(db, networkId, network),
    ...entries.map((entry) => encodeDbMessage(messageOfEntry(entry, now, "create"))),
  ];
}

export function ownJoin(db: NetworkDb, networkId: string, { time }: OwnNetwork): Uint8Array {
  return encodeDbMessage({ kind: "network", change: "join", time, node: db.config.name, networkId });
}

/** As few packets as hold the messages in their order; what fits no packet goes over TCP. */
function post(turn: Turn, to: string, messages: readonly Uint8Array[]): void {
  const { db, out } = turn;
  const limitBytes = db.config.packetBudgetBytes;
  let batch: Uint8Array[] = [];
  let used = 0;
  const send = () => {
    if (batch.length > 0) out.push({ kind: "user-packet", to, payload: packed(batch) });
    batch = [];
    used = 0;
  };
  for (const message of messages) {
    const cost = message.length + messageOverheadBytes;
    if (cost > limitBytes) {
      send();
      const node = db.nodes.get(to);
      if (node !== undefined) out.push({ kind: "user-stream", to, endpoint: node, payload: message });
      continue;
    }
    if (used + cost > limitBytes) send();
    batch.push(message);
    used += cost;
  }
  send();
}

function packed(messages: readonly Uint8Array[]): Uint8Array {
  const [only, ...others] = messages as [Uint8Array, ...Uint8Array[]];
  return others.length === 0 ? only : encodeDbMessage({ kind: "compound", messages });
}

/** All when they are few, else a random choice. */
function sample<T>(turn: Turn, peers: readonly T[]): readonly T[] {
  return peers.length <= eagerPeers ? peers : shuffled(peers, turn.db.config.random).slice(0, eagerPeers);
}
