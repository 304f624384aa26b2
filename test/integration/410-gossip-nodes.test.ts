import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { connect } from "node:net";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { type Agent, Lab, skipReason, until } from "./gossip-lab.ts";

const skip = skipReason;
const keys = ["01".repeat(16), "02".repeat(16), "03".repeat(16)];

async function pair(lab: Lab): Promise<[Agent, Agent]> {
  lab.host(1);
  lab.host(2);
  const agents = await Promise.all([lab.agent(1, { keys }), lab.agent(2, { keys })]);
  return agents;
}

test("two hosts exchange tables over real sockets, at once and never in clear", {
  skip,
  timeout: 30_000,
}, async (t) => {
  await using lab = new Lab("wg-n0");
  const [a, b] = await pair(lab);
  const capture = existsSync("/usr/bin/tcpdump")
    ? lab.spawn(1, "tcpdump", ["-i", "eth0", "-w", "-", "-U", "--immediate-mode"])
    : undefined;
  const captured: Buffer[] = [];
  capture?.stdout?.on("data", (chunk: Buffer) => captured.push(chunk));
  await until("the capture runs", () => capture === undefined || captured.length > 0, 5_000);

  await b.ask("join", "10.77.0.1:7946");
  await a.ask("joinNetwork", "network-secret");
  await b.ask("joinNetwork", "network-secret");
  await a.ask("watch", "network-secret");
  await b.ask("watch", "network-secret");
  const delays: number[] = [];
  for (let i = 0; i < 20; i++) {
    const sentAt = await b.ask<number>("put", "network-secret", `key-secret-${i}`, `value-secret-${i}`);
    await until("it arrives", () => a.changes.length > i, 2_000);
    delays.push((a.changes[i]?.at ?? 0) - sentAt);
  }
  delays.sort((x, y) => x - y);
  t.diagnostic(`put to watch, ms: median ${delays[10]}, worst ${delays[19]}`);
  assert.ok((delays[10] ?? 99) <= 20, `delays ${delays}`);
  await b.ask("remove", "network-secret", "key-secret-0");
  await until("the removal arrives", () => a.changes.at(-1)?.change === "delete", 500);
  // More than a packet holds: goes over TCP.
  await a.ask("put", "network-secret", "large", "large-secret ".repeat(500));
  await until("a large value arrives", () => b.changes.some(({ key }) => key === "large"), 1_000);
  const names = async (agent: Agent) => {
    const peers = await agent.ask<{ name: string }[]>("peers", "network-secret");
    return peers.map(({ name }) => name).sort((x, y) => (x < y ? -1 : 1));
  };
  assert.deepEqual(await names(a), await names(b));
  assert.deepEqual(await a.ask("entries", "network-secret"), await b.ask("entries", "network-secret"));

  if (capture !== undefined) {
    await sleep(300);
    const bytes = Buffer.concat(captured);
    assert.ok(bytes.length > 5_000, `only ${bytes.length} bytes captured`);
    for (const secret of ["secret", a.name, b.name, "SourceAddr", "Incarnation", "UserMsgLen"]) {
      assert.ok(!bytes.includes(secret), `"${secret}" travels in clear`);
    }
  }
});

test("keys rotate on live nodes; a node with other keys is not heard", { skip, timeout: 30_000 }, async () => {
  await using lab = new Lab("wg-n1");
  const [a, b] = await pair(lab);
  await b.ask("join", "10.77.0.1:7946");
  for (const agent of [a, b]) await agent.ask("joinNetwork", "n");
  await a.ask("watch", "n");
  const rotated = [keys[1], keys[2], "04".repeat(16)] as string[];
  await b.ask("setKeys", ...rotated);
  await b.ask("put", "n", "k", "by b");
  await until("b is heard with its new transmit key", () => a.changes.length === 1, 200);
  await a.ask("setKeys", ...rotated);
  await a.ask("put", "n", "k2", "by a");
  await until("a is heard", async () => (await b.ask<unknown[]>("entries", "n")).length === 2, 200);

  lab.host(3);
  const stranger = await lab.agent(3, { keys: ["0a".repeat(16), "0b".repeat(16)] });
  await stranger.ask("join", "10.77.0.1:7946");
  assert.deepEqual(await stranger.others(), {});
  assert.ok(!(stranger.name in (await a.others())));
});

test("killed and started again at the same address: old entries go, new ones come", {
  skip,
  timeout: 30_000,
}, async () => {
  await using lab = new Lab("wg-n2");
  const [a, b] = await pair(lab);
  await b.ask("join", "10.77.0.1:7946");
  for (const agent of [a, b]) await agent.ask("joinNetwork", "n");
  await b.ask("put", "n", "old", "1");
  await until("it is there", async () => (await a.ask<unknown[]>("entries", "n")).length === 1, 500);
  b.child.kill("SIGKILL");
  await until("b has ended", () => b.child.exitCode !== null || b.child.signalCode !== null, 1_000);
  const again = await lab.agent(2, { keys });
  const startedAt = Date.now();
  await again.ask("join", "10.77.0.1:7946");
  await again.ask("joinNetwork", "n");
  await again.ask("put", "n", "new", "2");
  // Others still list the old name at our own address: not to be waited for.
  assert.ok(Date.now() - startedAt < 2_000, `it took ${Date.now() - startedAt} ms`);
  await until("new for old", async () => JSON.stringify(await a.ask("entries", "n")) === '[["new","2"]]', 1_000);
});

test("rubbish, half-open and silent clients hurt nobody", { skip, timeout: 30_000 }, async () => {
  await using lab = new Lab("wg-n3");
  const [a, b] = await pair(lab);
  const noise = `
    const net = require("node:net"), udp = require("node:dgram").createSocket("udp4");
    for (let i = 0; i < 300; i++) udp.send(require("node:crypto").randomBytes(1 + i * 4), 7946, "10.77.0.1");
    for (let i = 0; i < 150; i++) {
      const s = net.connect(7946, "10.77.0.1", () => {
        if (i % 3 === 0) s.write(Buffer.from("0affffffff", "hex"));
        else if (i % 3 === 1) s.end(Buffer.from("0a0000", "hex"));
      });
      s.on("error", () => {});
    }
    setTimeout(() => process.exit(0), 500);`;
  lab.run(2, process.execPath, ["-e", noise]);
  await b.ask("join", "10.77.0.1:7946");
  await until("they still join", async () => (await a.others())[b.name] === "alive", 2_000);
});

test("a port that is taken is refused with its name", async () => {
  const { openGossip } = await import("../../src/gossip/mod.ts");
  const { systemClock } = await import("../../src/base/clock.ts");
  const { systemRandom } = await import("../../src/base/random.ts");
  const { silentLog } = await import("../../src/base/log.ts");
  const { parseIp } = await import("../../src/base/ip.ts");
  const { createServer } = await import("node:net");
  const taken = createServer();
  await new Promise<void>((done) => taken.listen(0, "127.0.0.1", done));
  const { port } = taken.address() as { port: number };
  const options = {
    bindAddress: parseIp("127.0.0.1"),
    advertiseAddress: parseIp("127.0.0.1"),
    portHostOrder: port,
    keys: [{ key: new Uint8Array(16), lamportTime: 1n }],
  };
  const deps = { clock: systemClock, random: systemRandom, log: silentLog };
  await assert.rejects(openGossip(deps, options, new AbortController().signal), { code: "unavailable" });
  taken.close();
  // The UDP half of the failed attempt is closed, so the port is usable now.
  await using gossip = await openGossip(deps, options, new AbortController().signal);
  await new Promise<void>((done) =>
    connect(port, "127.0.0.1", done)
      .destroy()
      .on("close", () => done()),
  );
  await assert.rejects(openGossip(deps, { ...options, keys: [] }, new AbortController().signal), { code: "invalid" });
  assert.match(gossip.nodeName, /^[0-9a-f]{12}$/);
});
