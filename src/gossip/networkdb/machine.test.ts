import assert from "node:assert/strict";
import { test } from "node:test";
import { parseIp } from "../../base/ip.ts";
import { seededRandom } from "../../base/random.ts";
import { type DbMessage, decodeDbMessage, encodeDbMessage, type TableMessage } from "./codec.ts";
import { localState, nextDeadline, step } from "./machine.ts";
import { createNetworkDb, type DbOutput, entriesOf, type NetworkDb, peersOf } from "./model.ts";

const at = (i: number) => ({ address: parseIp(`10.0.0.${i}`), portHostOrder: 7946 });

/** A node "me" in network "n", and peers a (attached) and b (not attached). */
function newDb(): NetworkDb {
  const db = createNetworkDb({ name: "me", advertise: at(1), packetBudgetBytes: 1300, random: seededRandom(1) }, 0);
  step(db, { kind: "member-joined", name: "a", ...at(2) }, 0);
  step(db, { kind: "member-joined", name: "b", ...at(3) }, 0);
  receive(db, { kind: "network", change: "join", time: 5n, node: "a", networkId: "n" });
  step(db, { kind: "join-network", networkId: "n" }, 0);
  step(db, { kind: "stream-failed", to: "a" }, 0);
  step(db, { kind: "tick" }, 0);
  return db;
}

function receive(db: NetworkDb, message: DbMessage, now = 0): DbOutput[] {
  return step(db, { kind: "user", payload: encodeDbMessage(message) }, now);
}

function event(fields: Partial<TableMessage>): TableMessage {
  return {
    kind: "table",
    change: "create",
    time: 10n,
    node: "a",
    networkId: "n",
    table: "t",
    key: "k",
    value: Uint8Array.of(1),
    residualSeconds: 0,
    ...fields,
  };
}

const changes = (outputs: readonly DbOutput[]) =>
  outputs.flatMap((o) => (o.kind === "change" ? [`${o.event.kind} ${o.event.key} of ${o.event.owner}`] : []));

/** What one peer is sent, compounds taken apart. */
function sentTo(outputs: readonly DbOutput[], name: string): DbMessage[] {
  const open = (bytes: Uint8Array): DbMessage[] => {
    const message = decodeDbMessage(bytes);
    return message.kind === "compound" ? message.messages.flatMap(open) : [message];
  };
  return outputs.flatMap((o) =>
    (o.kind === "user-packet" || o.kind === "user-stream") && o.to === name ? open(o.payload) : [],
  );
}

test("T6: a put leaves with the JOIN in front, only to peers of the network", () => {
  const db = newDb();
  step(db, { kind: "put", table: "t", networkId: "n", key: "mine", value: Uint8Array.of(9) }, 100);
  assert.equal(nextDeadline(db), 100);
  const outputs = step(db, { kind: "tick" }, 100);
  assert.deepEqual(
    sentTo(outputs.slice(0, 1), "a").map((m) =>
      m.kind === "table" || m.kind === "network" ? `${m.kind} ${m.change}` : m.kind,
    ),
    ["network join", "table create"],
  );
  assert.deepEqual(sentTo(outputs, "b"), []);
});

test("the receive rules for table events", () => {
  const db = newDb();
  assert.deepEqual(changes(receive(db, event({ node: "me" }))), [], "rule 1: own events");
  assert.deepEqual(changes(receive(db, event({ networkId: "other" }))), [], "rule 2: a network that is not ours");
  assert.deepEqual(changes(receive(db, event({ node: "b" }))), [], "rule 2: an owner that is not attached");
  assert.deepEqual(changes(receive(db, event({ node: "stranger" }))), [], "rule 2: an unknown owner");
  assert.deepEqual(changes(receive(db, event({}))), ["put k of a"]);
  assert.deepEqual(changes(receive(db, event({ change: "update" }))), [], "rule 3: not newer");
  assert.deepEqual(changes(receive(db, event({ change: "update", time: 11n }))), ["put k of a"]);
  assert.deepEqual(changes(receive(db, event({ change: "delete", time: 12n, residualSeconds: 1800 }))), [
    "delete k of a",
  ]);
  assert.deepEqual(changes(receive(db, event({ change: "delete", key: "never", time: 13n }))), [], "rule 6: unknown");
  assert.deepEqual(changes(receive(db, event({ key: "never", time: 13n }))), [], "its tombstone counts");
  assert.deepEqual(entriesOf(db, "t", "n"), []);
  assert.equal(db.tableClock.time, 14n, "every time was witnessed");
});

test("T12, T22: a bulk sync request is answered with a later time, attachments first, tombstones too", () => {
  const db = newDb();
  step(db, { kind: "put", table: "t", networkId: "n", key: "x", value: Uint8Array.of(1) }, 0);
  step(db, { kind: "put", table: "t", networkId: "n", key: "y", value: Uint8Array.of(2) }, 0);
  step(db, { kind: "remove", table: "t", networkId: "n", key: "y", value: new Uint8Array() }, 0);
  const messages = [
    encodeDbMessage({ kind: "network", change: "join", time: 6n, node: "b", networkId: "n" }),
    encodeDbMessage(event({ node: "b", key: "of-b" })),
  ];
  const request: DbMessage = {
    kind: "bulk-sync",
    time: 500n,
    isRequest: true,
    node: "a",
    networkIds: ["n", "other"],
    messages,
  };
  const outputs = receive(db, request, 1_000);
  assert.deepEqual(changes(outputs), ["put of-b of b"], "an attachment inside a bulk sync counts at once");
  const [answer] = sentTo(outputs, "a");
  assert.ok(answer?.kind === "bulk-sync" && !answer.isRequest && answer.time > 500n);
  assert.deepEqual(answer.networkIds, ["n"]);
  const inside = answer.messages.map((bytes) => {
    const m = decodeDbMessage(bytes);
    return m.kind === "table"
      ? `${m.change} ${m.key} ${m.residualSeconds}`
      : m.kind === "network"
        ? `${m.change} ${m.node}`
        : m.kind;
  });
  assert.deepEqual(inside, ["join me", "join b", "create x 0", "delete y 1799", "create of-b 0"]);
});

test("a node event LEAVE drops entries; a failure hides them and a return shows them again", () => {
  const db = newDb();
  receive(db, event({}));
  assert.deepEqual(changes(step(db, { kind: "member-gone", name: "a" }, 10)), ["delete k of a"]);
  assert.deepEqual(peersOf(db, "n"), []);
  assert.equal(step(db, { kind: "tick" }, 2_000).filter(({ kind }) => kind === "reconnect").length, 1);
  assert.deepEqual(changes(step(db, { kind: "member-joined", name: "a", ...at(2) }, 3_000)), ["put k of a"]);
  assert.deepEqual(changes(receive(db, { kind: "node", change: "leave", time: 90n, node: "a" }, 4_000)), [
    "delete k of a",
  ]);
  assert.equal(db.tables.all().length, 0);
  assert.deepEqual(changes(step(db, { kind: "member-gone", name: "a" }, 4_100)), []);
  assert.equal(db.nodes.get("a")?.state.kind, "left");
});

test("a new name at a known address replaces the old one; whoever answers there is right", () => {
  const db = newDb();
  receive(db, event({}));
  step(db, { kind: "member-joined", name: "a2", ...at(2) }, 0);
  step(db, { kind: "member-confirmed", name: "a" }, 10);
  assert.equal(db.nodes.get("a")?.state.kind, "active");
  assert.equal(db.nodes.get("a2")?.state.kind, "left");
  step(db, { kind: "member-joined", name: "me-before", ...at(1) }, 20);
  assert.equal(db.nodes.get("me-before")?.state.kind, "left", "our own address");
});

test("what a restarted node says again is not reported as gone in between; the rest is, some seconds later", () => {
  const db = newDb();
  receive(db, event({}));
  receive(db, event({ key: "gone" }));
  const joined = step(db, { kind: "member-joined", name: "a2", ...at(2) }, 100);
  assert.deepEqual(changes(joined), []);
  assert.deepEqual(entriesOf(db, "t", "n"), []);
  receive(db, { kind: "network", change: "join", time: 6n, node: "a2", networkId: "n" }, 110);
  // Its clock has started anew.
  assert.deepEqual(changes(receive(db, event({ node: "a2", time: 1n }), 120)), ["put k of a2"]);
  assert.ok(nextDeadline(db) <= 5_100);
  assert.deepEqual(changes(step(db, { kind: "tick" }, 5_099)), []);
  assert.deepEqual(changes(step(db, { kind: "tick" }, 5_100)), ["delete gone of a"]);
});

test("T21: a join push/pull re-stamps our attachments; another's is no restart", () => {
  const db = newDb();
  const times = [false, true].map((isJoin) => {
    const state = decodeDbMessage(localState(db, isJoin));
    assert.ok(state.kind === "push-pull");
    return state.attachments.find(({ node }) => node === "me")?.time;
  });
  assert.ok((times[1] ?? 0n) > (times[0] ?? 0n));
  receive(db, event({}));
  const state = {
    kind: "push-pull",
    time: 200n,
    node: "a",
    attachments: [{ networkId: "n", node: "a", time: 200n, isLeaving: false }],
  } as const;
  assert.deepEqual(step(db, { kind: "remote-state", state: encodeDbMessage(state) }, 0), []);
  assert.equal(entriesOf(db, "t", "n").length, 1);
});

test("accepted network events are gossiped on as they came; stale ones and leaves of the unknown are not", () => {
  const db = newDb();
  const count = () => db.clusterQueue.length;
  const before = count();
  receive(db, { kind: "network", change: "join", time: 50n, node: "b", networkId: "m" });
  assert.equal(count(), before + 1);
  receive(db, { kind: "network", change: "join", time: 50n, node: "b", networkId: "m" });
  receive(db, { kind: "network", change: "leave", time: 60n, node: "b", networkId: "unknown" });
  receive(db, { kind: "network", change: "join", time: 60n, node: "stranger", networkId: "m" });
  assert.equal(count(), before + 1);
  receive(db, { kind: "network", change: "leave", time: 61n, node: "b", networkId: "m" });
  assert.equal(count(), before + 1, "it replaces the JOIN in the queue");
});

test("messages of another application are counted and skipped", () => {
  const db = newDb();
  for (const text of ["03", "0185a54c54696d65", "0a"]) step(db, { kind: "user", payload: Buffer.from(text, "hex") }, 0);
  assert.equal(db.skippedMessages, 3);
});

test("joining twice and writing into a foreign network are refused", () => {
  const db = newDb();
  assert.throws(() => step(db, { kind: "join-network", networkId: "n" }, 0), /networkdb: network n is already joined/);
  const put = { kind: "put", table: "t", networkId: "x", key: "k", value: new Uint8Array() } as const;
  assert.throws(() => step(db, put, 0), { code: "not-found" });
});

test("joinNetwork is synced when every asked peer has answered, at the latest after 5 s", () => {
  const db = newDb();
  receive(db, { kind: "network", change: "join", time: 7n, node: "a", networkId: "m" });
  receive(db, { kind: "network", change: "join", time: 8n, node: "b", networkId: "m" });
  const outputs = step(db, { kind: "join-network", networkId: "m" }, 100);
  assert.deepEqual(outputs.flatMap((o) => (o.kind === "user-stream" ? [o.to] : [])).sort(byText), ["a", "b"]);
  const answer = (node: string): DbMessage => ({
    kind: "bulk-sync",
    time: 99n,
    isRequest: false,
    node,
    networkIds: ["m"],
    messages: [],
  });
  assert.equal(receive(db, answer("a"), 200).length, 0);
  assert.deepEqual(receive(db, answer("b"), 300), [{ kind: "synced", networkId: "m" }]);
  step(db, { kind: "leave-network", networkId: "m" }, 400);
  step(db, { kind: "join-network", networkId: "m" }, 500);
  const late = step(db, { kind: "tick" }, 5_500);
  assert.ok(late.some((o) => o.kind === "synced" && o.networkId === "m"));
});

function byText(a: string, b: string): number {
  return a < b ? -1 : 1;
}
