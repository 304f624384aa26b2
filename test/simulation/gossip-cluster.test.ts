import assert from "node:assert/strict";
import { test } from "node:test";
import { ringKey } from "../../src/gossip/keyring.ts";
import type { Host } from "./gossip-world.ts";
import { key, World, withSeeds } from "./gossip-world.ts";

const seeds = [1, 2, 3];

function clusterWithEntries(
  world: World,
  count: number,
): { readonly hosts: Host[]; readonly expected: Record<string, string> } {
  const hosts = world.startCluster(count);
  world.runUntil("all see all", () => world.allAlive(), 60_000);
  const expected: Record<string, string> = {};
  for (const [i, host] of hosts.entries()) {
    world.joinNetwork(host, "n1");
    world.put(host, "n1", `ep${i}`, `v${i}`);
    expected[`ep${i}`] = `v${i}`;
  }
  return { hosts, expected };
}

test("a small cluster: everybody is known at once, own events arrive within a round trip", () => {
  withSeeds(seeds, (seed) => {
    const world = new World({ seed });
    const hosts = world.startCluster(5);
    const membershipMs = world.runUntil("all see all", () => world.allAlive(), 2_000);
    assert.ok(membershipMs <= 500, `membership took ${membershipMs} ms`);
    for (const host of hosts) world.joinNetwork(host, "n1");
    world.runFor(20);
    world.put(hosts[0] as Host, "n1", "ep", "one");
    world.runFor(20);
    assert.ok(world.agrees("n1", { ep: "one" }), "a put is not there after 20 ms");
    world.put(hosts[0] as Host, "n1", "ep", "two");
    world.put(hosts[3] as Host, "n1", "other", "three");
    world.runFor(20);
    assert.ok(world.agrees("n1", { ep: "two", other: "three" }), "an update is not there after 20 ms");
    world.remove(hosts[0] as Host, "n1", "ep");
    world.runFor(20);
    assert.ok(world.agrees("n1", { other: "three" }), "a removal is not there after 20 ms");
  });
});

test("T6: join and put in one breath, on all nodes at the same time, right after joining the cluster", () => {
  withSeeds([1, 2, 3, 4, 5, 6], (seed) => {
    const world = new World({ seed });
    const { expected } = clusterWithEntries(world, 4);
    const ms = world.runUntil("tables agree", () => world.agrees("n1", expected), 3_000);
    assert.ok(ms <= 40, `tables agreed after ${ms} ms`);
    const late = world.start("10.0.9.9");
    world.join(late, [world.hosts[0] as Host]);
    world.joinNetwork(late, "n1");
    world.put(late, "n1", "late", "x");
    const lateMs = world.runUntil("the late one too", () => world.agrees("n1", { ...expected, late: "x" }), 3_000);
    assert.ok(lateMs <= 400, `the late node's table agreed after ${lateMs} ms`);
  });
});

test("a third of all packets lost: tables converge, nobody is declared dead for good", () => {
  withSeeds(seeds, (seed) => {
    const world = new World({ seed, lossPercent: 33 });
    const { hosts, expected } = clusterWithEntries(world, 8);
    world.runUntil("tables agree", () => world.agrees("n1", expected), 60_000);
    for (let i = 0; i < 30; i++) {
      const at = world.random.below(hosts.length);
      world.put(hosts[at] as Host, "n1", `ep${at}`, `round ${i}`);
      expected[`ep${at}`] = `round ${i}`;
      world.runFor(50);
    }
    world.remove(hosts[2] as Host, "n1", "ep2");
    delete expected["ep2"];
    world.runUntil("tables agree again", () => world.agrees("n1", expected), 90_000);
  });
});

test("forty nodes: gossip reaches those whom no direct message does", () => {
  const world = new World({ seed: 7, lossPercent: 5 });
  const { expected } = clusterWithEntries(world, 40);
  world.runUntil("tables agree", () => world.agrees("n1", expected), 40_000);
  world.put(world.hosts[11] as Host, "n1", "ep11", "new");
  const ms = world.runUntil("an update is everywhere", () => world.agrees("n1", { ...expected, ep11: "new" }), 30_000);
  assert.ok(ms < 5_000, `took ${ms} ms`);
});

test("a crash: entries are gone within the detector's time, and only those", () => {
  withSeeds(seeds, (seed) => {
    const world = new World({ seed });
    const { hosts, expected } = clusterWithEntries(world, 6);
    world.runUntil("tables agree", () => world.agrees("n1", expected), 3_000);
    world.runFor(30_000);
    world.crash(hosts[4] as Host);
    delete expected["ep4"];
    // A probe of the right one within a round, 1 s until suspicion, at most 24 s of it, 4 s when two confirm.
    const ms = world.runUntil("the entries are gone", () => world.agrees("n1", expected), 32_000);
    assert.ok(ms > 3_000, `gone after ${ms} ms, before the detector can know`);
    assert.ok(world.running().every((host) => !world.peers(host, "n1").includes((hosts[4] as Host).name)));
  });
});

test("a leave: everybody knows at once", () => {
  const world = new World({ seed: 3 });
  const { hosts, expected } = clusterWithEntries(world, 5);
  world.runUntil("tables agree", () => world.agrees("n1", expected), 3_000);
  world.feed(hosts[1] as Host, { kind: "leave" });
  world.runFor(250);
  world.crash(hosts[1] as Host);
  delete expected["ep1"];
  assert.ok(world.agrees("n1", expected));
  assert.ok(world.running().every((host) => world.seesAlive(host, 4)));
  world.runFor(60_000);
  assert.ok(world.agrees("n1", expected));
});

test("a restart at the same address: the older name goes at once", () => {
  withSeeds(seeds, (seed) => {
    const world = new World({ seed });
    const { hosts, expected } = clusterWithEntries(world, 5);
    world.runUntil("tables agree", () => world.agrees("n1", expected), 3_000);
    world.crash(hosts[2] as Host);
    delete expected["ep2"];
    world.runFor(700);
    const again = world.start("10.0.0.3");
    world.join(again, [hosts[0] as Host]);
    world.joinNetwork(again, "n1");
    world.put(again, "n1", "ep2b", "after");
    expected["ep2b"] = "after";
    world.runUntil("old entries gone, new ones there", () => world.agrees("n1", expected), 6_500);
    world.runFor(90_000);
    assert.ok(world.agrees("n1", expected), "it did not stay so");
    assert.ok(world.allAlive());
  });
});

test("a partition heals: both sides drop the other's entries and have them back soon after", () => {
  withSeeds(seeds, (seed) => {
    const world = new World({ seed });
    const { hosts, expected } = clusterWithEntries(world, 6);
    world.runUntil("tables agree", () => world.agrees("n1", expected), 3_000);
    const side = (address: string) => Number(address.split(".")[3]) <= 3;
    world.cut((a, b) => side(a) !== side(b));
    const isAlone = (host: Host) => world.peers(host, "n1").length === 2;
    world.runUntil("each side is alone", () => hosts.every(isAlone), 60_000);
    world.put(hosts[0] as Host, "n1", "during", "cut");
    world.remove(hosts[5] as Host, "n1", "ep5");
    world.put(hosts[4] as Host, "n1", "ep4", "changed");
    delete expected["ep5"];
    Object.assign(expected, { during: "cut", ep4: "changed" });
    world.runFor(200_000);
    world.cut(() => false);
    const ms = world.runUntil("all agree", () => world.agrees("n1", expected) && world.allAlive(), 60_000);
    assert.ok(ms < 15_000, `took ${ms} ms`);
    world.runFor(60_000);
    assert.ok(world.agrees("n1", expected));
  });
});

test("the only manager restarts while the others know each other: bootstrap merges them", () => {
  const world = new World({ seed: 11 });
  const { hosts, expected } = clusterWithEntries(world, 4);
  world.runUntil("tables agree", () => world.agrees("n1", expected), 3_000);
  world.crash(hosts[0] as Host);
  delete expected["ep0"];
  world.runFor(120_000);
  const manager = world.start("10.0.0.1");
  world.joinNetwork(manager, "n1");
  world.put(manager, "n1", "fresh", "y");
  world.runUntil("merged", () => world.allAlive() && world.agrees("n1", { ...expected, fresh: "y" }), 65_000);
});

test("keys rotate node by node under way: nothing is lost", () => {
  withSeeds(seeds, (seed) => {
    const world = new World({ seed, keys: [key(1), key(2), key(3)] });
    const { hosts, expected } = clusterWithEntries(world, 5);
    world.runUntil("tables agree", () => world.agrees("n1", expected), 3_000);
    for (const [i, host] of hosts.entries()) {
      host.keyring = [key(3), key(2), key(4)].map(({ key: bytes }) => ringKey(bytes));
      world.put(host, "n1", `ep${i}`, "rotated");
      expected[`ep${i}`] = "rotated";
      world.runFor(20);
      assert.ok(world.agrees("n1", expected), `node ${i} is not understood`);
      world.runFor(4_000);
      assert.ok(world.allAlive());
    }
  });
});

test("leaving and joining a network again", () => {
  withSeeds(seeds, (seed) => {
    const world = new World({ seed });
    const { hosts, expected } = clusterWithEntries(world, 4);
    world.runUntil("tables agree", () => world.agrees("n1", expected), 3_000);
    const [first] = hosts as [Host, ...Host[]];
    world.feed(first, { kind: "leave-network", networkId: "n1" });
    const { ep0: _, ...others } = expected;
    world.runFor(50);
    assert.ok(world.agrees("n1", others));
    assert.equal([...first.seen.keys()].length, 0);
    world.joinNetwork(first, "n1");
    world.put(first, "n1", "ep0", "back");
    world.runFor(50);
    assert.ok(world.agrees("n1", { ...others, ep0: "back" }));
  });
});

test("tombstones and left attachments are forgotten in time", () => {
  const world = new World({ seed: 5 });
  const { hosts, expected } = clusterWithEntries(world, 3);
  world.runUntil("tables agree", () => world.agrees("n1", expected), 3_000);
  world.remove(hosts[0] as Host, "n1", "ep0");
  world.feed(hosts[1] as Host, { kind: "leave-network", networkId: "n1" });
  world.runFor(60_000);
  const counts = () => hosts.map(({ node }) => node.db.tables.all().filter((e) => e.deletedUntil !== undefined).length);
  assert.deepEqual(counts(), [1, 1, 1]);
  world.runFor(1_900_000);
  assert.deepEqual(counts(), [0, 0, 0]);
  assert.ok(!(hosts[1] as Host).node.db.own.has("n1"));
  assert.ok(world.agrees("n1", { ep2: "v2" }));
});
