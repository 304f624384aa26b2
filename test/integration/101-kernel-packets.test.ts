import assert from "node:assert/strict";
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { createServer, Socket } from "node:net";
import { afterEach, beforeEach, test } from "node:test";
import { parseCidr, parseIp, parseMac } from "../../src/base/ip.ts";
import { silentLog } from "../../src/base/log.ts";
import { unshareNetwork } from "../../src/kernel/ffi/libc.ts";
import { inNamespace } from "../../src/kernel/ffi/namespace.ts";
import { isBusy, type Kernel, type KernelObject, type Netns, openKernel } from "../../src/kernel/mod.ts";
import { Namespaces, namespaceFiles, removeNamespaceFile } from "../../src/kernel/netns/namespaces.ts";

const signal = new AbortController().signal;
const directory = process.env["WK_DIRECTORY"] ?? "";

// This file is also the program of a host that is started inside a namespace: it builds its half of the overlay and waits.
if (process.env["WK_HOST"] !== undefined) await overlayHost(Number(process.env["WK_HOST"]));

const machine = readlinkSync("/proc/self/ns/net");
unshareNetwork("leave the machine's network namespace");

let at: string;
let kernel: Kernel & AsyncDisposable;
let namespaces: Namespaces;
const children: ChildProcess[] = [];

beforeEach(async () => {
  at = mkdtempSync("/run/wk-packets-");
  kernel = await openKernel({ log: silentLog }, signal);
  namespaces = new Namespaces();
});
afterEach(async () => {
  for (const child of children.splice(0)) {
    if (child.exitCode === null && child.signalCode === null) {
      child.kill("SIGKILL");
      await once(child, "exit");
    }
  }
  await kernel[Symbol.asyncDispose]();
  await namespaces[Symbol.asyncDispose]();
  for (const folder of [at, `${at}/1`, `${at}/2`]) for (const path of namespaceFiles(folder)) removeNamespaceFile(path);
  rmSync(at, { recursive: true });
});

const run = (ns: Netns, ...args: string[]): string =>
  inNamespace(namespaces.get(ns).fd, () =>
    execFileSync(args[0] as string, args.slice(1), { encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] }),
  );
const canPing = (from: Netns, to: string): boolean => {
  try {
    run(from, "busybox", "ping", "-c1", "-W1", to);
    return true;
  } catch {
    return false;
  }
};
const macOf = (last: number) => parseMac(`02:42:0a:01:00:0${last}`);

/** A namespace with `eth0` at 10.1.0.N on the bridge of `host`. */
function container(host: Netns, last: number, options: { isolated?: boolean } = {}): readonly KernelObject[] {
  const ns = { path: `${at}/c${last}` };
  const peer = { ns, name: "eth0", mac: macOf(last) };
  return [
    { kind: "netns", path: ns.path },
    { kind: "link", ns, link: { type: "loopback" } },
    {
      kind: "link",
      ns: host,
      link: { type: "veth", name: `v${last}`, mtuBytes: 1450, master: "br0", ...options, peer },
    },
    { kind: "address", ns, link: "eth0", address: parseCidr(`10.1.0.${last}/24`) },
    { kind: "address", ns, link: "eth0", address: parseCidr(`fd00:1::${last}/64`), noDad: true },
    { kind: "route", ns, route: { destination: parseCidr("0.0.0.0/0"), gateway: parseIp("10.1.0.254"), link: "eth0" } },
  ];
}

function network(host: { readonly path: string }): readonly KernelObject[] {
  return [
    { kind: "netns", path: host.path },
    { kind: "link", ns: host, link: { type: "loopback" } },
    {
      kind: "link",
      ns: host,
      link: { type: "bridge", name: "br0", mtuBytes: 1450, mac: parseMac("02:42:00:00:00:01") },
    },
    { kind: "address", ns: host, link: "br0", address: parseCidr("10.1.0.254/24") },
  ];
}

test("containers on a bridge reach each other and the host; isolated ports do not reach each other", async () => {
  const host = { path: `${at}/h` };
  await kernel.reconcile("net", network(host), signal);
  for (const last of [1, 2]) await kernel.reconcile(`c${last}`, container(host, last), signal);
  for (const last of [3, 4]) await kernel.reconcile(`c${last}`, container(host, last, { isolated: true }), signal);
  const [one, three] = [{ path: `${at}/c1` }, { path: `${at}/c3` }];
  assert.ok(canPing(one, "10.1.0.2"));
  assert.ok(canPing(one, "fd00:1::2"));
  assert.ok(canPing(one, "10.1.0.254"));
  assert.ok(canPing(three, "10.1.0.1"));
  assert.ok(!canPing(three, "10.1.0.4"));
  assert.equal(kernel.links(host).find((link) => link.name === "br0")?.mac, "02:42:00:00:00:01");
});

test("a port map of an nftables table carries connections as its elements say, and connections can be forgotten", async () => {
  const host = { path: `${at}/h` };
  const body = [
    "map ports { type inet_proto . inet_service : ipv4_addr . inet_service; }",
    "chain out { type nat hook output priority -100; dnat to meta l4proto . th dport map @ports; }",
  ].join("\n");
  await kernel.reconcile(
    "net",
    [...network(host), { kind: "nft-table", ns: host, table: { family: "ip", name: "weft", body } }],
    signal,
  );
  for (const last of [1, 2]) await kernel.reconcile(`c${last}`, container(host, last), signal);
  const published = (last: number): KernelObject => ({
    kind: "nft-element",
    ns: host,
    element: { family: "ip", table: "weft", set: "ports", key: "tcp . 8080", value: `10.1.0.${last} . 80` },
  });
  const servers = [1, 2].map((last) => {
    const server = createServer((socket) => socket.end(`c${last}`));
    const fd = kernel.openSocket(
      { path: `${at}/c${last}` },
      { type: "tcp", address: parseIp("0.0.0.0"), portHostOrder: 80 },
    );
    server.listen({ fd });
    return server;
  });
  const fetchFrom = async (port: number) => {
    const socket = new Socket({ fd: kernel.openUnbound(host, "tcp4") }).connect(port, "10.1.0.254");
    const chunks: Buffer[] = [];
    for await (const chunk of socket) chunks.push(chunk as Buffer);
    return Buffer.concat(chunks).toString();
  };
  try {
    await kernel.reconcile("p", [published(1)], signal);
    assert.equal(await fetchFrom(8080), "c1");
    await kernel.reconcile("p", [published(2)], signal);
    assert.equal(await fetchFrom(8080), "c2");
    assert.equal(
      kernel.flushConntrack(host, { protocol: "tcp", originalDestinationPort: 8080, replySource: parseIp("10.1.0.1") }),
      1,
    );
    assert.equal(kernel.flushConntrack(host, { protocol: "udp" }), 0);
    assert.equal(kernel.flushConntrack(host, { protocol: "tcp", originalDestinationPort: 8080 }), 1);
    await kernel.reconcile("p", [], signal);
    await assert.rejects(fetchFrom(8080), /ECONNREFUSED/);
  } finally {
    for (const server of servers) server.close();
  }
});

test("sockets live in the namespace they were opened in, and refusals have their errno", async () => {
  const host = { path: `${at}/h` };
  await kernel.reconcile("net", network(host), signal);
  const address = parseIp("127.0.0.1");
  const server = createSocket("udp4");
  server.on("message", (text, from) => server.send(`<${text}>`, from.port, from.address));
  server.bind({ fd: kernel.openSocket(host, { type: "udp", address, portHostOrder: 5353 }) });
  assert.throws(() => kernel.openSocket(host, { type: "udp", address, portHostOrder: 5353 }), isBusy);
  const client = createSocket("udp4");
  client.bind({ fd: kernel.openSocket(host, { type: "udp", address, portHostOrder: 0 }) });
  client.send("hello", 5353, "127.0.0.1");
  const [answer] = (await once(client, "message")) as [Buffer];
  assert.equal(answer.toString(), "<hello>");
  client.close();
  server.close();
});

test("an announcement is heard by the neighbours", async () => {
  const host = { path: `${at}/h` };
  await kernel.reconcile("net", network(host), signal);
  await kernel.reconcile("c1", container(host, 1), signal);
  await kernel.reconcile("c2", container(host, 2), signal);
  assert.ok(canPing({ path: `${at}/c2` }, "10.1.0.1"));
  const inside = { path: `${at}/c1` };
  kernel.announce(inside, "eth0", parseIp("10.1.0.1"), parseMac("02:42:0a:01:00:77"));
  kernel.announce(inside, "eth0", parseIp("fd00:1::1"), macOf(1));
  kernel.announce(inside, "nothere", parseIp("10.1.0.1"), macOf(1));
  assert.match(run({ path: `${at}/c2` }, "ip", "neigh"), /10\.1\.0\.1 .*02:42:0a:01:00:77/);
  // Opening and closing a packet socket for each would take 6 to 23 ms every time, on the main thread.
  const begin = performance.now();
  for (let i = 0; i < 20; i++) kernel.announce(inside, "eth0", parseIp("10.1.0.1"), macOf(1));
  const tookMs = performance.now() - begin;
  // Closing a packet socket for each would take a kernel grace period each, 120 ms and more in all.
  assert.ok(tookMs < 100, `20 announcements took ${tookMs.toFixed(1)} ms`);
});

test("a large load of elements does not hold up the event loop", async () => {
  const host = { path: `${at}/h` };
  const map = "map m { type ipv4_addr . inet_service : ipv4_addr; }";
  const table: KernelObject = { kind: "nft-table", ns: host, table: { family: "ip", name: "weft", body: map } };
  await kernel.reconcile("net", [...network(host), table], signal);
  const elements = Array.from({ length: 10_000 }, (_, i): KernelObject => {
    const key = `10.0.${i >> 8}.${i & 255} . 80`;
    return {
      kind: "nft-element",
      ns: host,
      element: { family: "ip", table: "weft", set: "m", key, value: "10.1.0.1" },
    };
  });
  let turns = 0;
  const ticking = setInterval(() => {
    turns += 1;
  }, 1);
  await kernel.reconcile("load", elements, signal);
  clearInterval(ticking);
  assert.ok(turns > 3, `${turns} turns of the loop`);
  assert.equal(run(host, "nft", "list", "map", "ip", "weft", "m").match(/ : 10\.1\.0\.1/g)?.length, 10_000);
  // One more costs no more than it did before there were that many.
  const started = performance.now();
  const one = { family: "ip", table: "weft", set: "m", key: "10.9.9.9 . 80", value: "10.1.0.2" } as const;
  for (let i = 0; i < 20; i++) {
    await kernel.reconcile("one", i % 2 === 0 ? [{ kind: "nft-element", ns: host, element: one }] : [], signal);
  }
  assert.ok((performance.now() - started) / 20 < 5, "ms for one element among 10 000");
});

test("a listener that was overrun by changes still hears that there were some", async () => {
  const host = { path: `${at}/h` };
  await kernel.reconcile("net", network(host), signal);
  let heard = 0;
  using _watch = kernel.watchLinks(host, () => {
    heard += 1;
  });
  // No turn of the event loop in between: nobody reads the socket, and its buffer overflows.
  const bridge = (mtuBytes: number): KernelObject => ({
    kind: "link",
    ns: host,
    link: { type: "bridge", name: "br0", mtuBytes },
  });
  for (let i = 0; i < 1500; i++) await kernel.reconcile("mtu", [bridge(1400 + (i % 2))], signal);
  assert.equal(heard, 0);
  await new Promise((resolve) => setTimeout(resolve, 50));
  assert.ok(heard > 0 && heard < 20, `${heard} calls`);
});

test("a namespace replaced behind our back is noticed", async () => {
  const host = { path: `${at}/h` };
  await kernel.reconcile("net", network(host), signal);
  await using other = await openKernel({ log: silentLog }, signal);
  await other.reconcile("net", network(host), signal);
  await other.reconcile("net", [], signal);
  await other.reconcile("net", [{ kind: "netns", path: host.path }], signal);
  assert.deepEqual(
    kernel.links(host).map(({ name }) => name),
    ["lo"],
  );
});

test("the thread pool and the main thread stay in the namespace they started in", async () => {
  const host = { path: `${at}/h` };
  const own = readlinkSync("/proc/thread-self/ns/net");
  await kernel.reconcile(
    "net",
    [...network(host), { kind: "sysctl", ns: host, key: "net.ipv4.ip_forward", value: "1" }],
    signal,
  );
  await Promise.all(Array.from({ length: 8 }, () => readFile("/proc/self/stat")));
  const threads = readdirSync("/proc/self/task").map((task) => readlinkSync(`/proc/self/task/${task}/ns/net`));
  // Node's own threads are older than the namespace this file runs in; the pool's are not.
  assert.deepEqual(new Set(threads), new Set([machine, own]));
  assert.equal(readlinkSync("/proc/thread-self/ns/net"), own);
});

test("containers on two hosts reach each other over vxlan, by fixed neighbours and forwarding entries alone", async () => {
  const wire = { path: `${at}/wire` };
  await kernel.reconcile(
    "wire",
    [
      { kind: "netns", path: wire.path },
      { kind: "link", ns: wire, link: { type: "bridge", name: "br0", mtuBytes: 1500 } },
    ],
    signal,
  );
  for (const number of [1, 2]) {
    const host = { path: `${at}/host${number}` };
    const peer = { ns: host, name: "eth0", mac: parseMac(`02:1a:b0:00:00:0${number}`) };
    await kernel.reconcile(
      `host${number}`,
      [
        { kind: "netns", path: host.path },
        { kind: "link", ns: host, link: { type: "loopback" } },
        { kind: "link", ns: wire, link: { type: "veth", name: `p${number}`, mtuBytes: 1500, master: "br0", peer } },
        { kind: "address", ns: host, link: "eth0", address: parseCidr(`10.30.10.11${number}/24`) },
      ],
      signal,
    );
    const env = { ...process.env, WK_HOST: String(number), WK_DIRECTORY: `${at}/${number}` };
    const child = inNamespace(namespaces.get(host).fd, () =>
      spawn(process.execPath, [import.meta.filename], { env, stdio: ["pipe", "pipe", "inherit"] }),
    );
    children.push(child);
    const [line] = (await once(child.stdout as NodeJS.ReadableStream, "data")) as [Buffer];
    assert.equal(line.toString(), "ready\n");
  }
  assert.match(run({ path: `${at}/host1` }, "cat", "/proc/net/udp"), /:12B5 /);
  assert.ok(canPing({ path: `${at}/1/c` }, "10.9.0.2"));
  assert.ok(canPing({ path: `${at}/2/c` }, "10.9.0.1"));
  const kept = readFileSync("/proc/self/mountinfo", "utf8").includes(`${at}/1/c`);
  assert.ok(kept);
  // One dies without a word; another process on that host takes everything over, and then takes everything away.
  children[0]?.kill("SIGKILL");
  const again = inNamespace(namespaces.get({ path: `${at}/host1` }).fd, () =>
    spawn(process.execPath, [import.meta.filename], {
      env: { ...process.env, WK_HOST: "1", WK_DIRECTORY: `${at}/1`, WK_THEN: "leave" },
      stdio: ["pipe", "pipe", "inherit"],
    }),
  );
  children.push(again);
  await once(again.stdout as NodeJS.ReadableStream, "data");
  assert.ok(canPing({ path: `${at}/1/c` }, "10.9.0.2"));
  again.stdin?.end("go\n");
  await once(again, "exit");
  assert.deepEqual(namespaceFiles(`${at}/1`), []);
});

test("with a forwarding entry goes what the bridge has learnt of the address through the tunnel, and only that", async () => {
  const ns = { path: `${at}/ov` };
  const local = parseIp("192.0.2.1");
  const vxlan = { vni: 4242, portHostOrder: 4789, mtuBytes: 1450, master: "br0", outerFamily: 4, local } as const;
  const objects: readonly KernelObject[] = [
    { kind: "netns", path: ns.path },
    { kind: "link", ns, link: { type: "bridge", name: "br0", mtuBytes: 1450 } },
    { kind: "link", ns, link: { type: "vxlan", name: "vxlan0", ...vxlan } },
  ];
  await kernel.reconcile("ov", objects, signal);
  run(ns, "ip", "link", "add", "d0", "master", "br0", "type", "veth", "peer", "name", "d1");
  for (const port of ["d0", "d1"]) run(ns, "ip", "link", "set", port, "up");
  const learn = (last: number, port: string) =>
    run(ns, "bridge", "fdb", "replace", macOf(last), "dev", port, "master", "dynamic");
  const vtep = parseIp("192.0.2.9");
  const entry = (last: number): KernelObject => ({ kind: "fdb", ns, link: "vxlan0", mac: macOf(last), vtep });
  for (const last of [1, 2, 3]) await kernel.reconcile(`peer${last}`, [entry(last)], signal);
  learn(1, "vxlan0");
  learn(2, "vxlan0");
  learn(3, "d0");
  for (const last of [1, 3]) await kernel.reconcile(`peer${last}`, [], signal);
  const left = run(ns, "bridge", "fdb", "show", "br", "br0");
  assert.doesNotMatch(left, new RegExp(macOf(1)));
  assert.match(left, new RegExp(`${macOf(2)} dev vxlan0 master br0`));
  assert.match(left, new RegExp(`${macOf(2)} dev vxlan0 dst 192.0.2.9`));
  assert.match(left, new RegExp(`${macOf(3)} dev d0 master br0`));
  // The same for those that nobody claims any more.
  await using later = await openKernel({ log: silentLog }, signal);
  await later.reconcile("ov", objects, signal);
  await later.sweepPeers(ns, signal);
  assert.doesNotMatch(run(ns, "bridge", "fdb", "show", "br", "br0"), new RegExp(macOf(2)));
});

/** One host of the overlay: 10.9.0.N behind VTEP 10.30.10.11N, the other one known by heart. */
async function overlayHost(number: number): Promise<never> {
  const own = await openKernel({ log: silentLog }, signal);
  const other = 3 - number;
  const overlay = { path: `${directory}/ov` };
  const inside = { path: `${directory}/c` };
  const mac = (of: number) => parseMac(`02:42:0a:09:00:0${of}`);
  const local = parseIp(`10.30.10.11${number}`);
  const vxlan = {
    type: "vxlan",
    name: "vxlan0",
    vni: 4097,
    portHostOrder: 4789,
    mtuBytes: 1450,
    master: "br0",
    outerFamily: 4,
    local,
  } as const;
  const peer = { ns: inside, name: "eth0", mac: mac(number) };
  const vtep = parseIp(`10.30.10.11${other}`);
  const state: readonly KernelObject[] = [
    { kind: "netns", path: overlay.path },
    { kind: "netns", path: inside.path },
    { kind: "link", ns: overlay, link: { type: "bridge", name: "br0", mtuBytes: 1450 } },
    { kind: "link", ns: overlay, link: vxlan },
    { kind: "link", ns: overlay, link: { type: "veth", name: "veth0", mtuBytes: 1450, master: "br0", peer } },
    { kind: "address", ns: inside, link: "eth0", address: parseCidr(`10.9.0.${number}/24`) },
    { kind: "neighbour", ns: overlay, link: "vxlan0", ip: parseIp(`10.9.0.${other}`), mac: mac(other) },
    { kind: "fdb", ns: overlay, link: "vxlan0", mac: mac(other), vtep },
  ];
  await own.reconcile("overlay", state, signal);
  await own.sweep(directory, signal);
  process.stdout.write("ready\n");
  process.stdin.resume();
  await once(process.stdin, process.env["WK_THEN"] === "leave" ? "data" : "end");
  await own.reconcile("overlay", [], signal);
  await own[Symbol.asyncDispose]();
  process.exit(0);
}
