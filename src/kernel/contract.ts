import assert from "node:assert/strict";
import { afterEach, beforeEach, describe, test } from "node:test";
import { parseCidr, parseIp, parseMac } from "../base/ip.ts";
import { isExists, isNotFound, type Kernel, type LinkInfo } from "./kernel.ts";
import { type KernelObject, type Netns, objectKey } from "./model.ts";

/** One kernel under test, and the questions that the port does not answer. */
export interface ContractSubject {
  readonly kernel: Kernel;
  /** Where namespaces may be made; empty at the start. */
  readonly directory: string;
  /** As FakeKernel's. */
  elements(ns: Netns, table: { readonly family: "ip"; readonly name: string }, set: string): Promise<readonly string[]>;
  sysctl(ns: Netns, key: string): string | undefined;
  /** Somebody else makes a link. */
  addStrangersLink(ns: Netns, name: string): void;
  /** Another process on the same machine: it knows nothing of what this one has. */
  restart(): Promise<Kernel>;
  close(): Promise<void>;
}

const signal = new AbortController().signal;
const mac = parseMac("02:42:0a:01:00:02");

/** What every `Kernel` does; run against the real one and the fake. */
export function kernelContract(name: string, open: () => Promise<ContractSubject>): void {
  describe(`contract of ${name}`, () => {
    let subject: ContractSubject;
    let kernel: Kernel;
    beforeEach(async () => {
      subject = await open();
      kernel = subject.kernel;
    });
    afterEach(() => subject.close());

    const at = (file: string): { readonly path: string } => ({ path: `${subject.directory}/${file}` });
    const bridge = (ns: Netns, mtuBytes = 1450): KernelObject => ({
      kind: "link",
      ns,
      link: { type: "bridge", name: "br0", mtuBytes },
    });
    const veth = (
      ns: Netns,
      peer: Netns,
      more: { readonly name?: string; readonly master?: string } = {},
    ): KernelObject => ({
      kind: "link",
      ns,
      link: { type: "veth", name: "v1", mtuBytes: 1450, ...more, peer: { ns: peer, name: "eth0", mac } },
    });
    const netns = (ns: { readonly path: string }): KernelObject => ({ kind: "netns", path: ns.path });
    const address = (ns: Netns, text: string, link = "eth0"): KernelObject => ({
      kind: "address",
      ns,
      link,
      address: parseCidr(text),
    });
    const table = (
      ns: Netns,
      body = "set s { type ipv4_addr; }\nmap m { type inet_service : ipv4_addr; }",
    ): KernelObject => ({
      kind: "nft-table",
      ns,
      table: { family: "ip", name: "weft_test", body },
    });
    const element = (ns: Netns, set: string, key: string, value?: string): KernelObject => ({
      kind: "nft-element",
      ns,
      element: { family: "ip", table: "weft_test", set, key, ...(value !== undefined && { value }) },
    });
    const elements = (ns: Netns, set: string) => subject.elements(ns, { family: "ip", name: "weft_test" }, set);
    const linkOf = (ns: Netns, link: string): LinkInfo | undefined => kernel.links(ns).find((one) => one.name === link);

    test("a container's links, addresses and routes come and go", async () => {
      const [host, inside] = [at("h"), at("c")];
      const network = [netns(host), bridge(host), address(host, "10.1.0.1/24", "br0")];
      const container: KernelObject[] = [
        netns(inside),
        { kind: "link", ns: inside, link: { type: "loopback" } },
        veth(host, inside, { master: "br0" }),
        address(inside, "10.1.0.2/24"),
        {
          kind: "route",
          ns: inside,
          route: { destination: parseCidr("0.0.0.0/0"), gateway: parseIp("10.1.0.1"), link: "eth0" },
        },
      ];
      await kernel.reconcile("net", network, signal);
      await kernel.reconcile("c", container, signal);
      const outer = linkOf(host, "v1");
      assert.equal(outer?.unit, "c");
      assert.equal(outer?.type, "veth");
      assert.equal(outer?.master, linkOf(host, "br0")?.index);
      const inner = linkOf(inside, "eth0");
      assert.deepEqual([inner?.mac, inner?.mtuBytes, inner?.up, inner?.unit], [mac, 1450, true, undefined]);
      assert.ok(inner?.addresses.some((one) => one.address === "10.1.0.2" && one.prefix === 24));
      assert.equal(linkOf(inside, "lo")?.up, true);
      assert.ok(kernel.routes(inside).some((route) => route.gateway === "10.1.0.1" && route.destination.prefix === 0));
      assert.ok(kernel.routes(inside).some((route) => route.destination.address === "10.1.0.0" && !route.gateway));

      await kernel.reconcile("c", [], signal);
      assert.equal(linkOf(host, "v1"), undefined);
      assert.throws(() => kernel.links(inside), isNotFound);
      assert.ok(linkOf(host, "br0"));
    });

    test("another process that wants the same changes nothing, one that wants other values changes them in place", async () => {
      const [host, inside] = [at("h"), at("c")];
      const objects = [netns(host), netns(inside), bridge(host), veth(host, inside, { master: "br0" })];
      await kernel.reconcile("u", objects, signal);
      const before = [linkOf(host, "br0")?.index, linkOf(host, "v1")?.index];
      kernel = await subject.restart();
      await kernel.reconcile("u", objects, signal);
      assert.deepEqual([linkOf(host, "br0")?.index, linkOf(host, "v1")?.index], before);
      await kernel.reconcile("u", [netns(host), netns(inside), bridge(host, 1400), veth(host, inside)], signal);
      assert.deepEqual([linkOf(host, "br0")?.index, linkOf(host, "v1")?.index], before);
      assert.equal(linkOf(host, "br0")?.mtuBytes, 1400);
      assert.equal(linkOf(host, "v1")?.master, undefined);
    });

    test("a link that has to be made anew gets its addresses again", async () => {
      const host = at("h");
      const inside = at("c");
      const vxlan = (vni: number): KernelObject => ({
        kind: "link",
        ns: host,
        link: { type: "vxlan", name: "vx0", vni, portHostOrder: 24789, mtuBytes: 1450, outerFamily: 4 },
      });
      const rest = [netns(host), netns(inside), address(host, "10.9.0.1/24", "vx0")];
      await kernel.reconcile("u", [vxlan(70001), ...rest], signal);
      assert.equal(linkOf(host, "vx0")?.vni, 70001);
      await kernel.reconcile("u", [vxlan(70002), ...rest], signal);
      assert.equal(linkOf(host, "vx0")?.vni, 70002);
      assert.ok(linkOf(host, "vx0")?.addresses.some((one) => one.address === "10.9.0.1"));
    });

    test("a stranger's link is refused by name and left alone", async () => {
      const host = at("h");
      await kernel.reconcile("net", [netns(host)], signal);
      subject.addStrangersLink(host, "br0");
      const refused = await kernel.reconcile("u", [bridge(host)], signal).catch((error: unknown) => error);
      assert.ok(isExists(refused), String(refused));
      assert.match(String(refused), /"br0"/);
      await kernel.reconcile("u", [], signal);
      assert.ok(linkOf(host, "br0"));
    });

    test("a missing namespace, link, bridge, table or gateway is refused", async () => {
      const host = at("h");
      await kernel.reconcile("net", [netns(host)], signal);
      const attempts: [KernelObject[], (error: unknown) => boolean][] = [
        [[bridge(at("nowhere"))], isNotFound],
        [[address(host, "10.0.0.1/24", "eth7")], isNotFound],
        [[veth(host, host, { master: "br7" })], isNotFound],
        [[element(host, "s", "10.0.0.1")], isNotFound],
        [[table(host), element(host, "t", "10.0.0.1")], isNotFound],
      ];
      for (const [index, [objects, expected]] of attempts.entries()) {
        const error = await kernel.reconcile(`u${index}`, objects, signal).catch((reason: unknown) => reason);
        assert.ok(expected(error), `attempt ${index}: ${String(error)}`);
        await kernel.reconcile(`u${index}`, [], signal);
      }
    });

    test("removing a namespace takes what is in it; made again, every unit's things come back on their next turn", async () => {
      const [host, inside] = [at("h"), at("c")];
      const pair = [netns(host), veth(host, inside)];
      await kernel.reconcile("ns", [netns(inside)], signal);
      await kernel.reconcile("u", pair, signal);
      await kernel.reconcile("ns", [], signal);
      await kernel.reconcile("ns", [netns(inside)], signal);
      assert.equal(linkOf(inside, "eth0"), undefined);
      await kernel.reconcile("u", pair, signal);
      assert.equal(linkOf(inside, "eth0")?.mac, mac);
    });

    test("elements of several units share a table, and survive its replacement", async () => {
      const host = at("h");
      await kernel.reconcile("t", [netns(host), table(host)], signal);
      await kernel.reconcile("a", [element(host, "s", "10.0.0.1"), element(host, "m", "80", "10.0.0.1")], signal);
      await kernel.reconcile("b", [element(host, "m", "81", "10.0.0.2")], signal);
      assert.deepEqual(await elements(host, "m"), ["80 : 10.0.0.1", "81 : 10.0.0.2"]);
      await kernel.reconcile("b", [element(host, "m", "81", "10.0.0.3")], signal);
      assert.deepEqual(await elements(host, "m"), ["80 : 10.0.0.1", "81 : 10.0.0.3"]);
      const larger = "set s { type ipv4_addr; }\nmap m { type inet_service : ipv4_addr; }\nset n { type mark; }";
      await kernel.reconcile("t", [netns(host), table(host, larger)], signal);
      assert.deepEqual(await elements(host, "m"), ["80 : 10.0.0.1", "81 : 10.0.0.3"]);
      assert.deepEqual(await elements(host, "s"), ["10.0.0.1"]);
      await kernel.reconcile("a", [], signal);
      assert.deepEqual(await elements(host, "m"), ["81 : 10.0.0.3"]);
    });

    test("after a restart elements stay until the sweep, which takes those that nobody claims", async () => {
      const host = at("h");
      await kernel.reconcile("t", [netns(host), table(host)], signal);
      await kernel.reconcile("a", [element(host, "m", "80", "10.0.0.1")], signal);
      await kernel.reconcile("b", [element(host, "m", "81", "10.0.0.2")], signal);
      kernel = await subject.restart();
      const larger = "map m { type inet_service : ipv4_addr; }\nset n { type mark; }";
      await kernel.reconcile("t", [netns(host), table(host, larger)], signal);
      assert.deepEqual(await elements(host, "m"), ["80 : 10.0.0.1", "81 : 10.0.0.2"]);
      await kernel.reconcile("a", [element(host, "m", "80", "10.0.0.9")], signal);
      assert.deepEqual(await elements(host, "m"), ["80 : 10.0.0.9", "81 : 10.0.0.2"]);
      const removed = await kernel.sweep(subject.directory, signal);
      assert.deepEqual(
        removed.map(({ kind }) => kind),
        ["nft-element"],
      );
      assert.deepEqual(await elements(host, "m"), ["80 : 10.0.0.9"]);
      assert.deepEqual(await kernel.sweep(subject.directory, signal), []);
    });

    test("the sweep removes a dead process's namespaces, links and tables, and nothing of a stranger's", async () => {
      const [host, inside] = [at("h"), at("c")];
      await kernel.reconcile("net", [netns(host), bridge(host)], signal);
      await kernel.reconcile("c", [netns(inside), veth(host, inside, { master: "br0" }), table(host)], signal);
      subject.addStrangersLink(host, "other0");
      kernel = await subject.restart();
      await kernel.reconcile("net", [netns(host), bridge(host)], signal);
      const removed = await kernel.sweep(subject.directory, signal);
      assert.deepEqual(
        [...new Set(removed.map(({ kind }) => kind))]
          .toSorted((a, b) => (a < b ? -1 : 1))
          .filter((kind) => kind !== "link"),
        ["netns", "nft-table"],
      );
      assert.equal(linkOf(host, "v1"), undefined);
      assert.ok(linkOf(host, "br0"));
      assert.ok(linkOf(host, "other0"));
      assert.throws(() => kernel.links(inside), isNotFound);
    });

    test("the sweep leaves peers behind tunnels to a sweep of their own, which takes those that nobody claims", async () => {
      const ns = at("h");
      const devices = [
        netns(ns),
        bridge(ns),
        {
          kind: "link",
          ns,
          link: { type: "vxlan", name: "vx0", vni: 70003, portHostOrder: 24789, mtuBytes: 1450, outerFamily: 4 },
        },
      ] as const;
      const peer = (last: number): KernelObject[] => {
        const peerMac = parseMac(`02:42:0a:01:00:0${last}`);
        return [
          { kind: "neighbour", ns, link: "vx0", ip: parseIp(`10.1.0.${last}`), mac: peerMac },
          { kind: "fdb", ns, link: "vx0", mac: peerMac, vtep: parseIp("192.0.2.1") },
        ];
      };
      await kernel.reconcile("net", devices, signal);
      await kernel.reconcile("peer/3", peer(3), signal);
      await kernel.reconcile("peer/4", peer(4), signal);
      kernel = await subject.restart();
      await kernel.reconcile("net", devices, signal);
      assert.deepEqual(await kernel.sweep(subject.directory, signal), []);
      await kernel.reconcile("peer/3", peer(3), signal);
      const removed = await kernel.sweepPeers(ns, signal);
      assert.deepEqual(new Set(removed.map(objectKey)), new Set(peer(4).map(objectKey)));
      assert.deepEqual(await kernel.sweepPeers(ns, signal), []);
      await assert.rejects(kernel.sweepPeers(at("none"), signal), isNotFound);
    });

    test("what two units want goes with the second", async () => {
      const host = at("h");
      await kernel.reconcile("a", [netns(host), bridge(host)], signal);
      await kernel.reconcile("b", [netns(host), bridge(host)], signal);
      await kernel.reconcile("a", [], signal);
      assert.ok(linkOf(host, "br0"));
      await kernel.reconcile("b", [], signal);
      assert.throws(() => kernel.links(host), isNotFound);
    });

    test("sysctls are those of the namespace", async () => {
      const host = at("h");
      const forward: KernelObject = { kind: "sysctl", ns: host, key: "net.ipv4.ip_forward", value: "1" };
      await kernel.reconcile("u", [netns(host), forward], signal);
      assert.equal(subject.sysctl(host, "net.ipv4.ip_forward"), "1");
    });

    test("listeners hear of changes on a later tick, and not after they left", async () => {
      const host = at("h");
      await kernel.reconcile("u", [netns(host)], signal);
      let heard = 0;
      const watch = kernel.watchLinks(host, () => {
        heard += 1;
      });
      await kernel.reconcile("u", [netns(host), bridge(host)], signal);
      for (let wait = 0; heard === 0 && wait < 100; wait++) await new Promise((resolve) => setTimeout(resolve, 5));
      assert.ok(heard > 0);
      watch[Symbol.dispose]();
      const before = heard;
      await kernel.reconcile("u", [netns(host)], signal);
      await new Promise((resolve) => setTimeout(resolve, 20));
      assert.equal(heard, before);
    });
  });
}
