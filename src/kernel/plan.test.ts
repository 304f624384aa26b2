import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { parseCidr, parseIp, parseMac } from "../base/ip.ts";
import { type FakeKernel, openFakeKernel } from "./fake.ts";
import type { KernelObject, Netns } from "./model.ts";
import { objectKey } from "./model.ts";
import { describeStep } from "./ops.ts";
import { type Held, plan } from "./plan.ts";

const signal = new AbortController().signal;
const host: Netns = { path: "/ns/h" };
const inside: Netns = { path: "/ns/c" };
const mac = parseMac("02:42:0a:01:00:02");

const container: readonly KernelObject[] = [
  { kind: "nft-element", ns: host, element: { family: "ip", table: "weft", set: "m", key: "80", value: "10.1.0.2" } },
  {
    kind: "route",
    ns: inside,
    route: { destination: parseCidr("0.0.0.0/0"), gateway: parseIp("10.1.0.1"), link: "eth0" },
  },
  { kind: "route", ns: inside, route: { destination: parseCidr("10.8.0.0/16"), link: "eth0" } },
  { kind: "address", ns: inside, link: "eth0", address: parseCidr("10.1.0.2/24") },
  { kind: "sysctl", ns: inside, key: "net.ipv4.conf.eth0.rp_filter", value: "0" },
  { kind: "sysctl", ns: inside, key: "net.ipv4.conf.all.rp_filter", value: "0" },
  {
    kind: "link",
    ns: host,
    link: { type: "veth", name: "v1", mtuBytes: 1450, master: "br0", peer: { ns: inside, name: "eth0", mac } },
  },
  { kind: "link", ns: inside, link: { type: "loopback" } },
  { kind: "link", ns: host, link: { type: "bridge", name: "br0", mtuBytes: 1450 } },
  { kind: "nft-table", ns: host, table: { family: "ip", name: "weft", body: "map m { }" } },
  { kind: "netns", path: "/ns/c" },
  { kind: "netns", path: "/ns/h" },
];

const holding = (objects: readonly KernelObject[], sure = true): ReadonlyMap<string, Held> =>
  new Map(objects.map((object) => [objectKey(object), { object, sure }]));
const describePlan = (
  held: readonly KernelObject[],
  desired: readonly KernelObject[],
  isClaimed = (_: string) => false,
) => plan(holding(held), desired, isClaimed).map(describeStep);

test("plan() makes things in the order in which they need each other", () => {
  assert.deepEqual(describePlan([], container), [
    "netns.ensure /ns/c",
    "netns.ensure /ns/h",
    "sysctl.ensure /ns/c net.ipv4.conf.all.rp_filter=0",
    "link.ensure /ns/c lo",
    "link.ensure /ns/h br0",
    "link.ensure /ns/h v1",
    "sysctl.ensure /ns/c net.ipv4.conf.eth0.rp_filter=0",
    "address.ensure /ns/c eth0 10.1.0.2/24",
    "route.ensure /ns/c 10.8.0.0/16 dev eth0",
    "route.ensure /ns/c 0.0.0.0/0 via 10.1.0.1 dev eth0",
    "nft.apply /ns/h",
  ]);
});

test("plan() removes a link without its addresses and routes, and a namespace without what is in it", () => {
  const rest = container.filter(({ kind }) => kind === "netns");
  assert.deepEqual(describePlan(container, rest), ["nft.apply /ns/h", "link.remove /ns/h v1", "link.remove /ns/h br0"]);
  // The veth's end in /ns/h goes by name: /ns/c may be kept alive by somebody.
  const network = container.filter((object) => object.kind !== "netns" || object.path === "/ns/h");
  assert.deepEqual(describePlan(container, [{ kind: "netns", path: "/ns/h" }]), [
    "nft.apply /ns/h",
    "link.remove /ns/h v1",
    "link.remove /ns/h br0",
    "netns.remove /ns/c",
  ]);
  assert.deepEqual(describePlan(network, []).at(-1), "netns.remove /ns/h");
  assert.deepEqual(describePlan(container, []), ["netns.remove /ns/h", "netns.remove /ns/c"]);
});

test("plan() makes a moved veth anew, with what was on it", () => {
  const moved = container.map(
    (object): KernelObject =>
      object.kind === "link" && object.link.type === "veth"
        ? { ...object, link: { ...object.link, peer: { ...object.link.peer, name: "eth1" } } }
        : object,
  );
  assert.deepEqual(describePlan(container, moved).slice(0, 2), ["link.remove /ns/h v1", "link.ensure /ns/h v1"]);
  assert.ok(describePlan(container, moved).includes("address.ensure /ns/c eth0 10.1.0.2/24"));
});

test("plan() leaves what another unit has, and repeats what is in doubt", () => {
  assert.deepEqual(
    describePlan(container, [], (key) => key.startsWith("link") || key.startsWith("netns")),
    [
      "nft.apply /ns/h",
      "route.remove /ns/c 10.8.0.0/16 dev eth0",
      "route.remove /ns/c 0.0.0.0/0 via 10.1.0.1 dev eth0",
      "address.remove /ns/c eth0 10.1.0.2/24",
    ].toSorted((a, b) => order(a) - order(b)),
  );
  assert.equal(plan(holding(container, false), container, () => false).length, 11);
  assert.deepEqual(describePlan(container, container), []);
});

/** Routes to gateways go before the routes that reach them. */
function order(step: string): number {
  return ["nft", "route.remove /ns/c 0.0", "route.remove /ns/c 10", "address"].findIndex((start) =>
    step.startsWith(start),
  );
}

/** Small worlds: some of a few objects, in any combination that can exist. */
const desiredStates = fc
  .record({
    bridge: fc.option(fc.constantFrom(1450, 1400)),
    ports: fc.uniqueArray(fc.constantFrom(1, 2, 3)),
    peerName: fc.constantFrom("eth0", "eth1"),
    addresses: fc.uniqueArray(fc.constantFrom("10.1.0.1/24", "10.1.0.2/24", "fd00::1/64")),
    value: fc.constantFrom("10.0.0.1", "10.0.0.2"),
    elements: fc.uniqueArray(fc.constantFrom("80", "81", "82")),
    body: fc.constantFrom("map m { type inet_service : ipv4_addr; }", "map m { type inet_service : ipv4_addr; } # 2"),
  })
  .map(({ bridge, ports, peerName, addresses, value, elements, body }): readonly KernelObject[] => [
    { kind: "netns", path: "/ns/h" },
    { kind: "nft-table", ns: host, table: { family: "ip", name: "weft", body } },
    ...elements.map(
      (key): KernelObject => ({
        kind: "nft-element",
        ns: host,
        element: { family: "ip", table: "weft", set: "m", key, value },
      }),
    ),
    ...(bridge === null
      ? []
      : [{ kind: "link", ns: host, link: { type: "bridge", name: "br0", mtuBytes: bridge } } as const]),
    ...(bridge === null
      ? []
      : addresses.map((text): KernelObject => ({ kind: "address", ns: host, link: "br0", address: parseCidr(text) }))),
    ...(bridge === null ? [] : ports).flatMap((number): KernelObject[] => {
      const peer = { ns: { path: `/ns/c${number}` }, name: peerName, mac };
      return [
        { kind: "netns", path: `/ns/c${number}` },
        { kind: "link", ns: host, link: { type: "veth", name: `v${number}`, mtuBytes: 1450, master: "br0", peer } },
        { kind: "address", ns: peer.ns, link: peerName, address: parseCidr(`10.1.0.1${number}/24`) },
      ];
    }),
  ]);

function snapshot(kernel: FakeKernel): unknown {
  return kernel.namespaces().map((path) => {
    const links = kernel.links({ path });
    const nameOf = (index: number | undefined) => links.find((link) => link.index === index)?.name;
    return {
      path,
      links: links
        .map(({ index: _, master, addresses, ...link }) => ({
          ...link,
          master: nameOf(master),
          addresses: addresses.map(({ address }) => address).toSorted((a, b) => (a < b ? -1 : 1)),
        }))
        .toSorted((a, b) => (a.name < b.name ? -1 : 1)),
      elements:
        kernel.tables({ path }).length === 0 ? [] : kernel.elements({ path }, { family: "ip", name: "weft" }, "m"),
    };
  });
}

test("incremental = full: any way to a state ends in the same world, from which nothing leads on", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(desiredStates, { minLength: 1, maxLength: 4 }), async (states) => {
      const [incremental, full] = [openFakeKernel(), openFakeKernel()];
      for (const state of states) await incremental.reconcile("u", state, signal);
      const last = states.at(-1) as readonly KernelObject[];
      await full.reconcile("u", last, signal);
      assert.deepEqual(snapshot(incremental), snapshot(full));
      assert.deepEqual(
        plan(holding(last), last, () => false),
        [],
      );
      await incremental.reconcile("u", [], signal);
      assert.deepEqual(incremental.namespaces(), []);
    }),
    { numRuns: 150 },
  );
});

test("a crash after any step, a new process, the same state: the same world", async () => {
  await fc.assert(
    fc.asyncProperty(desiredStates, desiredStates, fc.nat(12), async (before, after, steps) => {
      const [crashed, full] = [openFakeKernel(), openFakeKernel()];
      await crashed.reconcile("u", before, signal);
      await crashed.reconcile("u", after, stopAfter(steps)).catch(() => {});
      const next = crashed.restart();
      await next.reconcile("u", after, signal);
      await next.sweep("/ns", signal);
      await full.reconcile("u", after, signal);
      assert.deepEqual(snapshot(next), snapshot(full));
    }),
    { numRuns: 150 },
  );
});

/** A signal that aborts when it is looked at for the n-th time: the reconciler looks before every step. */
function stopAfter(steps: number): AbortSignal {
  let left = steps;
  const controller = new AbortController();
  const stop = controller.signal;
  stop.throwIfAborted = () => {
    if (left-- <= 0) throw new Error("crash");
  };
  return stop;
}
