import assert from "node:assert/strict";
import { test } from "node:test";
import { parseIp } from "../../base/ip.ts";
import { seededRandom } from "../../base/random.ts";
import { type Alive, decodeMessage, type PacketMessage } from "./codec.ts";
import {
  createSwim,
  membersOf,
  nextDeadline,
  pushPullIntervalMs,
  type Swim,
  type SwimOutput,
  step,
} from "./machine.ts";
import type { Endpoint, Member, Versions } from "./model.ts";

const docker: Versions = [1, 5, 2, 0, 0, 0];
const at = (i: number): Endpoint => ({ address: parseIp(`10.0.0.${i}`), portHostOrder: 7946 });

function newSwim(): Swim {
  const swim = createSwim(
    {
      name: "me",
      advertise: at(1),
      delegateVersions: [0, 0, 0],
      partsBudgetBytes: 1369,
      random: seededRandom(1),
      delegate: { hasBroadcasts: () => false, takeBroadcasts: () => [], localState: () => new Uint8Array() },
    },
    0,
  );
  swim.probeAt = 1_000;
  return swim;
}

function alive(node: string, i: number, incarnation = 1, versions: Versions = docker): Alive {
  return { kind: "alive", node, ...at(i), meta: new Uint8Array(), versions, incarnation };
}

function receive(swim: Swim, message: PacketMessage, now = 0): SwimOutput[] {
  return step(swim, { kind: "packet", from: at(99), message }, now);
}

/** Messages sent, with their receivers. */
function sent(outputs: readonly SwimOutput[]): { readonly to: string; readonly message: PacketMessage }[] {
  return outputs.flatMap((output) => {
    if (output.kind !== "packet") return [];
    return output.parts.map((part) => ({ to: output.to.address, message: structuredClone(decodeMessage(part)) }));
  });
}

function stateOf(swim: Swim, name: string): Member | undefined {
  return membersOf(swim).find((member) => member.name === name);
}

/** Ticks at each deadline up to `end`. */
function runTo(swim: Swim, end: number): SwimOutput[] {
  const outputs: SwimOutput[] = [];
  for (let now = nextDeadline(swim); now <= end; now = nextDeadline(swim)) {
    outputs.push(...step(swim, { kind: "tick" }, now));
    assert.ok(nextDeadline(swim) > now, "a tick leaves nothing undone");
  }
  return outputs;
}

test("a ping is acknowledged to its source; one for another name is not", () => {
  const swim = newSwim();
  const ping = { kind: "ping", sequence: 7, node: "me", source: { ...at(5), node: "other" } } as const;
  assert.deepEqual(sent(receive(swim, ping)), [{ to: "10.0.0.5", message: { kind: "ack", sequence: 7 } }]);
  assert.deepEqual(sent(receive(swim, { ...ping, source: undefined }))[0]?.to, "10.0.0.99");
  assert.deepEqual(sent(receive(swim, { ...ping, node: "old-me" })), []);
});

test("a silent member: ping, indirect pings and a TCP ping, suspicion, death", () => {
  const swim = newSwim();
  for (const [i, name] of ["a", "b", "c", "d"].entries()) receive(swim, alive(name, i + 2));
  const outputs = runTo(swim, 1_999);
  const kinds = sent(outputs).map(({ message }) => message.kind);
  assert.equal(kinds.filter((kind) => kind === "indirect-ping").length, 3);
  assert.equal(outputs.filter(({ kind }) => kind === "stream-ping").length, 1);
  runTo(swim, 2_500);
  assert.equal(membersOf(swim).filter(({ state }) => state === "suspect").length, 1);
  const gone = runTo(swim, 60_000).filter(({ kind }) => kind === "member-gone");
  assert.equal(gone.length, 4);
  runTo(swim, 200_000);
  assert.deepEqual(
    membersOf(swim).map(({ name }) => name),
    ["me"],
  );
});

test("an ack by UDP ends the probe; one by TCP keeps the member but warns", () => {
  const swim = newSwim();
  receive(swim, alive("a", 2));
  const ping = sent(runTo(swim, 1_000)).find(({ message }) => message.kind === "ping");
  assert.ok(ping?.message.kind === "ping");
  const outputs = receive(swim, { kind: "ack", sequence: ping.message.sequence }, 1_000);
  assert.deepEqual(outputs, [{ kind: "member-confirmed", name: "a" }]);

  const again = runTo(swim, (swim.probe?.deadline ?? swim.probeAt) + 600);
  const stream = again.find((output) => output.kind === "stream-ping");
  assert.ok(stream?.kind === "stream-ping");
  step(swim, { kind: "stream-ack", sequence: stream.message.sequence }, 2_000);
  const end = runTo(swim, 3_000);
  assert.ok(end.some((output) => output.kind === "note" && output.level === "warn"));
  assert.equal(stateOf(swim, "a")?.state, "alive");
});

test("an indirect ping: the ack is relayed with the requester's number, silence gives a nack", () => {
  const swim = newSwim();
  const request = {
    kind: "indirect-ping",
    sequence: 42,
    node: "t",
    target: at(7),
    wantsNack: true,
    source: { ...at(5), node: "r" },
  } as const;
  const [ping] = sent(receive(swim, request));
  assert.ok(ping?.message.kind === "ping" && ping.to === "10.0.0.7");
  const relayed = sent(receive(swim, { kind: "ack", sequence: ping.message.sequence }, 100));
  assert.deepEqual(relayed, [{ to: "10.0.0.5", message: { kind: "ack", sequence: 42 } }]);
  receive(swim, request, 200);
  const nacks = sent(runTo(swim, 700)).filter(({ message }) => message.kind === "nack");
  assert.deepEqual(nacks, [{ to: "10.0.0.5", message: { kind: "nack", sequence: 42 } }]);
});

test("what is said about us is refuted with a higher incarnation, unless we leave", () => {
  const swim = newSwim();
  receive(swim, alive("a", 2));
  const accused = sent(receive(swim, { kind: "suspect", incarnation: 4, node: "me", from: "a" }));
  assert.deepEqual(accused[0]?.message, { ...alive("me", 1), incarnation: 5 });
  receive(swim, { kind: "dead", incarnation: 9, node: "me", from: "a" });
  assert.equal(stateOf(swim, "me")?.incarnation, 10);
  receive(swim, alive("me", 1, 10));
  assert.equal(stateOf(swim, "me")?.incarnation, 10, "the same claim needs no answer");
  receive(swim, alive("me", 1, 12));
  assert.equal(stateOf(swim, "me")?.incarnation, 13);
  const leaving = sent(step(swim, { kind: "leave" }, 0));
  assert.deepEqual(leaving, [{ to: "10.0.0.2", message: { kind: "dead", incarnation: 13, node: "me", from: "me" } }]);
  receive(swim, { kind: "suspect", incarnation: 20, node: "me", from: "a" });
  assert.equal(stateOf(swim, "me")?.state, "left");
});

test("alive, suspect and dead by incarnation", () => {
  const swim = newSwim();
  const joined = receive(swim, alive("a", 2, 5));
  assert.equal(joined[0]?.kind, "member-joined");
  receive(swim, { kind: "suspect", incarnation: 4, node: "a", from: "b" });
  assert.equal(stateOf(swim, "a")?.state, "alive");
  receive(swim, { kind: "suspect", incarnation: 5, node: "a", from: "b" });
  assert.equal(stateOf(swim, "a")?.state, "suspect");
  receive(swim, alive("a", 2, 5));
  assert.equal(stateOf(swim, "a")?.state, "suspect", "the same incarnation refutes nothing");
  receive(swim, alive("a", 2, 6));
  assert.equal(stateOf(swim, "a")?.state, "alive");
  const gone = receive(swim, { kind: "dead", incarnation: 6, node: "a", from: "b" });
  assert.equal(gone[0]?.kind, "member-gone");
  assert.deepEqual(receive(swim, { kind: "dead", incarnation: 6, node: "a", from: "b" }), []);
  assert.equal(receive(swim, alive("a", 2, 7))[0]?.kind, "member-joined");
  assert.deepEqual(receive(swim, { kind: "dead", incarnation: 9, node: "unknown", from: "b" }), []);
});

test("T19: only a member that left may come back at another address", () => {
  const swim = newSwim();
  receive(swim, alive("a", 2));
  assert.equal(receive(swim, alive("a", 3, 5))[0]?.kind, "note");
  assert.equal(stateOf(swim, "a")?.address, "10.0.0.2");
  receive(swim, { kind: "dead", incarnation: 1, node: "a", from: "a" });
  assert.equal(stateOf(swim, "a")?.state, "left");
  receive(swim, alive("a", 3, 1));
  assert.equal(stateOf(swim, "a")?.address, "10.0.0.3");
});

test("push/pull: reply first, then the merge; a dead one is only suspected", () => {
  const swim = newSwim();
  receive(swim, alive("a", 2));
  const members: Member[] = [
    { name: "a", ...at(2), meta: new Uint8Array(), versions: docker, incarnation: 1, state: "dead" },
    { name: "b", ...at(3), meta: new Uint8Array(), versions: docker, incarnation: 1, state: "alive" },
  ];
  const message = { kind: "push-pull", isJoin: true, members, userState: Uint8Array.of(1) } as const;
  const outputs = step(swim, { kind: "push-pull-request", message }, 0);
  assert.deepEqual(
    outputs.map(({ kind }) => kind),
    ["push-pull-reply", "member-joined", "remote-state"],
  );
  assert.ok(outputs[0]?.kind === "push-pull-reply" && outputs[0].message.isJoin);
  assert.equal(stateOf(swim, "a")?.state, "suspect");
});

test("a push/pull with a node of another application is refused whole", () => {
  const swim = newSwim();
  const serf: Member = {
    name: "s",
    ...at(4),
    meta: new Uint8Array(),
    versions: [1, 5, 2, 2, 5, 5],
    incarnation: 1,
    state: "alive",
  };
  const message = { kind: "push-pull", isJoin: true, members: [serf], userState: new Uint8Array() } as const;
  const outputs = step(swim, { kind: "push-pull-answer", message, isJoin: true }, 0);
  assert.ok(outputs[0]?.kind === "note");
  assert.match(
    String(outputs[0].facts["reason"]),
    /Node 'me' delegate protocol version \(0\) is incompatible: \[2, 0\]|incompatible/,
  );
  assert.equal(membersOf(swim).length, 1);
});

test("push/pull grows rarer in a large cluster", () => {
  assert.deepEqual(
    [1, 32, 33, 64, 65, 1000].map(pushPullIntervalMs),
    [30_000, 30_000, 60_000, 60_000, 90_000, 180_000],
  );
});
