import assert from "node:assert/strict";
import { test } from "node:test";
import dnsPacket from "dns-packet";
import { systemClock } from "../../base/clock.ts";
import { parseIp } from "../../base/ip.ts";
import { decodeQuery, encodeAddresses, encodeEmpty, type Rcode, rcode } from "../../wire/dns/mod.ts";
import { Forwarder } from "./forwarder.ts";
import type { Upstream } from "./mod.ts";

const query = decodeQuery(dnsPacket.encode({ type: "query", id: 1, questions: [{ name: "example.org", type: "A" }] }));
const upstream = (ip: string): Upstream => ({ address: parseIp(ip), portHostOrder: 53, from: "host" });
const upstreams = ["192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4"].map(upstream);
const never = new AbortController().signal;

type Behaviour = { readonly afterMs: number; readonly answer: Uint8Array | undefined };
const says = (ip: string, afterMs = 0): Behaviour => ({
  afterMs,
  answer: encodeAddresses(query, { family: 4, addresses: [parseIp(ip)], ttlSeconds: 1 }, 512),
});
const fails = (code: Rcode, afterMs = 0): Behaviour => ({ afterMs, answer: encodeEmpty(query, code) });
const silent = (afterMs: number): Behaviour => ({ afterMs, answer: undefined });

function world(behaviours: readonly Behaviour[]) {
  const asked: string[] = [];
  const forwarder = new Forwarder(fastClock, async (_query, { address }, _transport, signal) => {
    asked.push(address);
    const behaviour = behaviours[upstreams.findIndex((u) => u.address === address)] as Behaviour;
    try {
      await fastClock.sleep(behaviour.afterMs, signal);
    } catch {
      return undefined;
    }
    return behaviour.answer;
  });
  const ask = async (count = behaviours.length) => {
    asked.length = 0;
    const answer = await forwarder.forward(query, upstreams.slice(0, count), "udp", never);
    return typeof answer === "string" ? answer : { code: (answer[3] as number) & 15, last: answer.at(-1) };
  };
  return { asked, ask };
}

/** Ten times as fast as the real one. */
const fastClock = {
  ...systemClock,
  after: (ms: number, run: () => void) => systemClock.after(ms / 10, run),
  sleep: (ms: number, signal: AbortSignal) => systemClock.sleep(ms / 10, signal),
};

test("the first upstream's answer is taken and nobody else is asked", async () => {
  const { ask, asked } = world([says("10.0.0.1", 50), says("10.0.0.2")]);
  assert.deepEqual(await ask(), { code: 0, last: 1 });
  assert.deepEqual(asked, ["192.0.2.1"]);
});

test("SERVFAIL and REFUSED lead to the next one at once, at most three are asked", async () => {
  const first = world([fails(rcode.serverFailure), fails(rcode.refused), says("10.0.0.3")]);
  const started = performance.now();
  assert.deepEqual(await first.ask(), { code: 0, last: 3 });
  assert.ok(performance.now() - started < 25);
  const all = world([silent(0), fails(rcode.refused), fails(rcode.serverFailure), says("10.0.0.4")]);
  assert.equal(await all.ask(), "failed");
  assert.equal(all.asked.length, 3);
  assert.equal(await world([]).ask(), "failed");
});

test("NXDOMAIN is final", async () => {
  const { ask, asked } = world([fails(rcode.nameError), says("10.0.0.2")]);
  assert.equal(((await ask()) as { code: number }).code, rcode.nameError);
  assert.equal(asked.length, 1);
});

test("the next one is asked while a slow one may still answer", async () => {
  const { ask, asked } = world([silent(4000), says("10.0.0.2")]);
  const started = performance.now();
  assert.deepEqual(await ask(), { code: 0, last: 2 });
  assert.ok(performance.now() - started < 200);
  assert.deepEqual(asked, ["192.0.2.1", "192.0.2.2"]);
});

test("finding nothing does not overtake an earlier, slow upstream", async () => {
  const { ask } = world([says("10.0.0.1", 1000), fails(rcode.nameError)]);
  assert.deepEqual(await ask(), { code: 0, last: 1 });
  const dead = world([silent(4000), fails(rcode.nameError)]);
  assert.equal(((await dead.ask()) as { code: number }).code, rcode.nameError);
});

test("a silent upstream is asked last until it answers again", async () => {
  const { ask, asked } = world([silent(4000), says("10.0.0.2")]);
  await ask();
  await ask();
  await ask();
  assert.deepEqual(asked, ["192.0.2.2"]);
});

test("more than 1024 at once wait, then are refused", async () => {
  let finish: (() => void) | undefined;
  const held = new Promise<undefined>((resolve) => {
    finish = () => resolve(undefined);
  });
  const forwarder = new Forwarder(fastClock, () => held);
  const forward = () => forwarder.forward(query, upstreams.slice(0, 1), "udp", never);
  const running = Array.from({ length: 1024 }, forward);
  assert.equal(await forward(), "busy");
  const waiting = forward();
  finish?.();
  assert.equal(await waiting, "failed");
  await Promise.all(running);
  assert.equal(await forward(), "failed");
});
