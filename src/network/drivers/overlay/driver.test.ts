import assert from "node:assert/strict";
import { test } from "node:test";
import { type Clock, systemClock } from "../../../base/clock.ts";
import { macFromIpv4, parseCidr, parseIp, parseMac } from "../../../base/ip.ts";
import { silentLog } from "../../../base/log.ts";
import { type Kernel, type KernelObject, objectKey } from "../../../kernel/mod.ts";
import type { Endpoint, Network } from "../../model.ts";
import type { OverlayPeer, PeerTable } from "../../networks.ts";
import { openOverlayDriver } from "./mod.ts";

const signal = new AbortController().signal;
const netnsDirectory = "/x/netns";
const here = parseIp("192.0.2.1");

function network(overrides: { options?: Record<string, string>; vnis?: number[]; subnets?: string[] } = {}): Network {
  const subnets = overrides.subnets ?? ["10.0.1.0/24"];
  return {
    id: "abcdefghij0123456789abcde",
    createdAt: "",
    scope: "swarm",
    spec: {
      name: "web",
      driver: "overlay",
      scope: "swarm",
      ipam: { driver: "default", options: {}, pools: [] },
      enableIpv4: true,
      enableIpv6: false,
      internal: false,
      attachable: true,
      ingress: false,
      configOnly: false,
      configFrom: undefined,
      options: overrides.options ?? {},
      labels: {},
    },
    pools: subnets.map((text) => {
      const subnet = parseCidr(text);
      return { subnet, gateway: parseIp(subnet.address.replace(/0$/, "1")), auxiliary: {} };
    }),
    vnis: overrides.vnis ?? subnets.map((_, i) => 4097 + i),
  };
}

function endpoint(id: string, ip: string): Endpoint {
  const address = parseCidr(ip);
  return {
    id,
    networkId: network().id,
    networkName: "web",
    sandboxId: "s",
    containerId: "c",
    containerName: "c",
    request: {
      network: "web",
      ipv4: undefined,
      ipv6: undefined,
      mac: undefined,
      aliases: [],
      links: [],
      driverOptions: {},
      gatewayPriority: 0,
    },
    mac: macFromIpv4(address.address),
    ipv4: address,
    ipv6: undefined,
    gateway: undefined,
    gateway6: undefined,
    dnsNames: [],
    interfaceName: "eth0",
    attachmentId: undefined,
    ports: [],
  };
}

const peer = (endpointId: string, ip: string, vtep = "192.0.2.2"): OverlayPeer => ({
  endpointId,
  address: parseCidr(ip),
  mac: macFromIpv4(parseCidr(ip).address),
  vtep: parseIp(vtep),
});

function world(options: { dataPath?: boolean; refuse?: (unit: string) => boolean } = {}) {
  const units = new Map<string, readonly KernelObject[]>();
  const calls: string[] = [];
  const told: string[] = [];
  let listener: Parameters<PeerTable["watchPeers"]>[1] | undefined;
  let synced = () => {};
  const timers: { readonly delayMs: number; run: () => void }[] = [];
  const clock: Clock = {
    ...systemClock,
    after(delayMs, run) {
      // Those that wait for other nodes run when the test says so.
      if (delayMs < 10_000) return systemClock.after(delayMs, run);
      const timer = { delayMs, run };
      timers.push(timer);
      return { [Symbol.dispose]: () => void timers.splice(timers.indexOf(timer) >>> 0, 1) };
    },
  };
  const kernel = {
    async reconcile(unit: string, desired: readonly KernelObject[]) {
      if (options.refuse?.(unit)) throw new Error("refused");
      calls.push(`${unit} ${desired.length}`);
      if (desired.length === 0) units.delete(unit);
      else units.set(unit, desired);
    },
    async sweepPeers({ path }: { readonly path: string }) {
      if (options.refuse?.("sweep")) throw new Error("refused");
      calls.push(`sweep ${path}`);
      return [];
    },
    announce() {},
  } as Partial<Kernel> as Kernel;
  const peers: PeerTable = {
    join: async (id) => void told.push(`join ${id.slice(0, 3)}`),
    leave: (id) => void told.push(`leave ${id.slice(0, 3)}`),
    publishPeer: (_id, p) => void told.push(`publish ${p.endpointId} ${p.address.address} ${p.vtep}`),
    withdrawPeer: (_id, endpointId) => void told.push(`withdraw ${endpointId}`),
    publishName() {},
    withdrawName() {},
    watchPeers(_id, l) {
      listener = l;
      return {
        [Symbol.dispose]() {
          listener = undefined;
        },
      };
    },
    watchNames: () => ({ [Symbol.dispose]() {} }),
    whenSynced(_id, l) {
      synced = l;
      return { [Symbol.dispose]() {} };
    },
    peers: () => [],
  };
  const swarm = () => ({ dataPath: options.dataPath === false ? undefined : { address: here, portHostOrder: 4789 } });
  const driver = openOverlayDriver({ kernel, peers, swarm, netnsDirectory, clock, log: silentLog });
  const tell = async (endpointId: string, value: OverlayPeer | undefined) => {
    listener?.(endpointId, value);
    await driver.settle();
  };
  const keys = (prefix: string) =>
    [...units].filter(([unit]) => unit.startsWith(prefix)).flatMap(([, objects]) => objects.map(objectKey));
  /** Runs the waits that there are; returns how many. */
  const wait = async () => {
    const due = timers.splice(0);
    for (const { run } of due) run();
    await driver.settle();
    await new Promise(setImmediate);
    return due.length;
  };
  const isWatched = () => listener !== undefined;
  return { driver, units, calls, told, tell, keys, isWatched, synced: () => synced(), wait };
}

test("nothing is in the kernel before the first endpoint and after the last, and peers are kept meanwhile", async () => {
  const { driver, units, told, tell, keys, isWatched } = world();
  const net = network();
  await driver.ensureNetwork(net, signal);
  await tell("r1", peer("r1", "10.0.1.9/24"));
  assert.equal(units.size, 0);
  await driver.join(net, endpoint("e1", "10.0.1.5/24"), "/x/netns/s", signal);
  await driver.settle();
  const ns = "/x/netns/1-abcdefghij";
  assert.deepEqual(keys("peer/"), [`neighbour ${ns} vxlan0 10.0.1.9`, `fdb ${ns} vxlan0 02:42:0a:00:01:09`]);
  assert.ok(keys("network/").includes(`netns ${ns}`));
  assert.ok(keys("network/").includes(`address ${ns} br0 10.0.1.1/24`));
  assert.ok(keys("endpoint/").includes("address /x/netns/s eth0 10.0.1.5/24"));
  await driver.join(net, endpoint("e2", "10.0.1.6/24"), "/x/netns/t", signal);
  await driver.leave(net, endpoint("e1", "10.0.1.5/24"), signal);
  assert.ok(keys("network/").length > 0);
  await driver.leave(net, endpoint("e2", "10.0.1.6/24"), signal);
  assert.deepEqual(
    [...units.keys()].filter((unit) => unit !== "overlay/tuning"),
    [],
  );
  await driver.join(net, endpoint("e3", "10.0.1.7/24"), "/x/netns/u", signal);
  await driver.settle();
  assert.equal(keys("peer/").length, 2, "replayed");
  await driver.removeNetwork(net, signal);
  assert.equal(isWatched(), false);
  assert.deepEqual(told, [
    "join abc",
    "publish e1 10.0.1.5 192.0.2.1",
    "publish e2 10.0.1.6 192.0.2.1",
    "withdraw e1",
    "withdraw e2",
    "publish e3 10.0.1.7 192.0.2.1",
    "leave abc",
  ]);
});

test("a peer's change costs two units, whatever else there is", async () => {
  const { driver, calls, tell } = world();
  const net = network();
  await driver.join(net, endpoint("e1", "10.0.1.5/24"), "/x/netns/s", signal);
  for (let i = 10; i < 60; i++) await tell(`r${i}`, peer(`r${i}`, `10.0.1.${i}/24`));
  calls.length = 0;
  await tell("r10", undefined);
  assert.deepEqual(calls, [`peer/${net.id}/10.0.1.10 0`, `peer/${net.id}/02:42:0a:00:01:0a 0`]);
  calls.length = 0;
  await tell("r11", peer("r11", "10.0.1.11/24"));
  assert.deepEqual(calls, []);
});

test("records about this host, and records that cannot be programmed, are ignored", async () => {
  const { driver, keys, tell } = world();
  await driver.join(network(), endpoint("e1", "10.0.1.5/24"), "/x/netns/s", signal);
  await tell("own", peer("own", "10.0.1.9/24", "192.0.2.1"));
  await tell("prefix", peer("prefix", "10.0.1.9/16"));
  await tell("subnet", peer("subnet", "10.9.1.9/24"));
  await tell("vtep", peer("vtep", "10.0.1.9/24", "0.0.0.0"));
  await tell("family", peer("family", "10.0.1.9/24", "fd00::1"));
  await tell("mac", { ...peer("mac", "10.0.1.9/24"), mac: parseMac("01:00:5e:00:00:01") });
  assert.deepEqual(keys("peer/"), []);
  await tell("good", peer("good", "10.0.1.9/24"));
  await tell("good", peer("good", "10.9.1.9/24"));
  assert.deepEqual(keys("peer/"), [], "a record that became bad takes its entries with it");
});

test("an entry that the kernel refuses is tried again, the others do not wait", async () => {
  let refusing = true;
  const { driver, keys, tell } = world({ refuse: (unit) => refusing && unit.endsWith("10.0.1.9") });
  await driver.join(network(), endpoint("e1", "10.0.1.5/24"), "/x/netns/s", signal);
  await tell("r1", peer("r1", "10.0.1.9/24"));
  await tell("r2", peer("r2", "10.0.1.10/24"));
  assert.equal(keys("peer/").length, 3);
  refusing = false;
  await new Promise((resolve) => setTimeout(resolve, 1100));
  await driver.settle();
  assert.equal(keys("peer/").length, 4);
});

test("what an earlier life knew of peers is swept some time after the first exchange with other nodes, once", async () => {
  let refusing = true;
  const { driver, calls, synced, wait } = world({ refuse: (unit) => refusing && unit === "sweep" });
  const swept = () => calls.filter((call) => call.startsWith("sweep"));
  await driver.join(network(), endpoint("e1", "10.0.1.5/24"), "/x/netns/s", signal);
  assert.equal(await wait(), 0, "not before gossip has spoken");
  synced();
  assert.deepEqual(swept(), []);
  assert.equal(await wait(), 1);
  assert.deepEqual(swept(), [], "refused");
  refusing = false;
  assert.equal(await wait(), 1);
  assert.deepEqual(swept(), ["sweep /x/netns/1-abcdefghij"]);
  await driver.join(network(), endpoint("e2", "10.0.1.6/24"), "/x/netns/t", signal);
  assert.equal(await wait(), 0);
});

test("a network that comes up after the first exchange is swept as well, one that was made anew is not", async () => {
  const { driver, calls, synced, wait } = world();
  const swept = () => calls.filter((call) => call.startsWith("sweep")).length;
  const net = network();
  await driver.ensureNetwork(net, signal);
  synced();
  await wait();
  assert.equal(swept(), 0);
  await driver.join(net, endpoint("e1", "10.0.1.5/24"), "/x/netns/s", signal);
  await wait();
  assert.equal(swept(), 1);
  await driver.leave(net, endpoint("e1", "10.0.1.5/24"), signal);
  await driver.join(net, endpoint("e1", "10.0.1.5/24"), "/x/netns/s", signal);
  assert.equal(await wait(), 0);
});

test("encrypted networks are refused, and nothing is made or told", async () => {
  const { driver, units, told } = world();
  const net = network({ options: { encrypted: "" } });
  await assert.rejects(driver.join(net, endpoint("e1", "10.0.1.5/24"), "/x", signal), /encrypted.*IPsec.*ESP.*xfrm/);
  assert.equal(units.size, 0);
  assert.deepEqual(told, []);
});

test("what cannot be joined leaves nothing behind", async () => {
  const outside = world({ dataPath: false });
  await assert.rejects(
    outside.driver.join(network(), endpoint("e1", "10.0.1.5/24"), "/x", signal),
    /no data path address/,
  );
  const { driver, units, told } = world({ refuse: (unit) => unit.startsWith("endpoint/") });
  const no = endpoint("e1", "10.0.2.5/24");
  await assert.rejects(driver.join(network(), no, "/x", signal), /no matching subnet for IP "10.0.2.5\/24"/);
  await assert.rejects(
    driver.join(network({ vnis: [] }), endpoint("e1", "10.0.1.5/24"), "/x", signal),
    /no VNI provided/,
  );
  const two = network({ vnis: [4097], subnets: ["10.0.1.0/24", "10.0.2.0/24"] });
  await assert.rejects(
    driver.join(two, endpoint("e1", "10.0.1.5/24"), "/x", signal),
    /insufficient vnis\(1\) passed to overlay/,
  );
  await assert.rejects(driver.join(network(), endpoint("e1", "10.0.1.5/24"), "/x", signal), /refused/);
  assert.deepEqual(
    [...units.keys()].filter((unit) => unit !== "overlay/tuning"),
    [],
  );
  assert.deepEqual(told, ["join abc"]);
});

test("several subnets: a bridge and a tunnel each, and routes from one to the others", async () => {
  const { driver, keys, tell } = world();
  const net = network({ subnets: ["10.0.1.0/24", "10.0.2.0/24"] });
  await driver.join(net, endpoint("e1", "10.0.2.5/24"), "/x/netns/s", signal);
  const ns = "/x/netns/1-abcdefghij";
  assert.ok(keys("endpoint/").includes("route /x/netns/s 254 10.0.1.0/24"));
  assert.ok(keys("network/").includes(`link ${ns} vxlan1`));
  await tell("r1", peer("r1", "10.0.2.9/24"));
  assert.deepEqual(keys("peer/"), [`neighbour ${ns} vxlan1 10.0.2.9`, `fdb ${ns} vxlan1 02:42:0a:00:02:09`]);
});

test("an endpoint that leaves before any has joined does not take the namespace of those to come", async () => {
  const { driver, calls } = world();
  await driver.ensureNetwork(network(), signal);
  await driver.leave(network(), endpoint("gone", "10.0.1.5/24"), signal);
  assert.deepEqual(calls, ["endpoint/gone 0"]);
});
