import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { hasCode } from "../../base/errors.ts";
import {
  type Cidr,
  contains,
  formatCidr,
  type IpAddress,
  ipToBigInt,
  nthAddress,
  overlaps,
  parseCidr,
  parseIp,
  sizeOf,
} from "../../base/ip.ts";
import { globalDefaultPools, ipam, localDefaultPools, ulaPool } from "./mod.ts";

const cidrs = (...texts: string[]): Cidr[] => texts.map(parseCidr);

function use(subnet: string, taken: Iterable<string> = [], range?: string) {
  const set = new Set<string>(taken);
  return {
    subnet: parseCidr(subnet),
    range: range === undefined ? undefined : parseCidr(range),
    isTaken: (ip: IpAddress) => set.has(ip),
  };
}

test("choosePool() gives the first free default block", () => {
  const next = (...taken: string[]) => formatCidr(ipam.choosePool(localDefaultPools, 4, cidrs(...taken)));
  assert.equal(next(), "172.17.0.0/16");
  assert.equal(next("172.17.0.0/16"), "172.18.0.0/16");
  assert.equal(next("172.17.0.0/16", "172.18.4.0/24", "172.19.0.0/16"), "172.20.0.0/16");
  assert.equal(next("172.16.0.0/12"), "192.168.0.0/20");
  assert.equal(next("172.16.0.0/12", "192.168.0.0/24", "192.168.16.1/32"), "192.168.32.0/20");
  assert.throws(
    () => ipam.choosePool(localDefaultPools, 4, cidrs("0.0.0.0/0")),
    /all predefined address pools have been fully subnetted/,
  );
  assert.equal(formatCidr(ipam.choosePool(globalDefaultPools, 4, cidrs("10.0.0.0/24"))), "10.0.1.0/24");
});

test("choosePool() works in IPv6 and keeps families apart", () => {
  const pools = [...localDefaultPools, ulaPool("engine")];
  const first = ipam.choosePool(pools, 6, cidrs("0.0.0.0/0"));
  assert.equal(first.prefix, 64);
  assert.ok(first.address.startsWith("fd"));
  assert.notEqual(ipam.choosePool(pools, 6, [first]).address, first.address);
  assert.throws(
    () => ipam.choosePool(localDefaultPools, 6, []),
    (e) => hasCode(e, "invalid"),
  );
});

test("choosePool() property: inside its pool, overlapping nothing, and the first such block", () => {
  const anyCidr = fc
    .tuple(fc.integer({ min: 0, max: 0xffff }), fc.integer({ min: 16, max: 30 }))
    .map(([host, prefix]) => parseCidr(`10.1.${host >> 8}.${host & 0xff}/${prefix}`));
  const pools = [{ base: parseCidr("10.1.0.0/16"), size: 22 }];
  fc.assert(
    fc.property(fc.array(anyCidr, { maxLength: 40 }), (taken) => {
      const blocks = Array.from({ length: 64 }, (_, i): Cidr => ({ address: parseIp(`10.1.${i * 4}.0`), prefix: 22 }));
      const wanted = blocks.find((block) => !taken.some((cidr) => overlaps(block, cidr)));
      if (wanted === undefined) assert.throws(() => ipam.choosePool(pools, 4, taken));
      else assert.deepEqual(ipam.choosePool(pools, 4, taken), wanted);
    }),
  );
});

test("chooseAddress() skips the network's own addresses", () => {
  assert.equal(ipam.chooseAddress(use("10.0.0.0/24"), {}), "10.0.0.1");
  assert.equal(ipam.chooseAddress(use("10.0.0.0/31"), {}), "10.0.0.0");
  assert.equal(ipam.chooseAddress(use("10.0.0.7/32"), {}), "10.0.0.7");
  assert.equal(ipam.chooseAddress(use("fd00::/64"), {}), "fd00::1");
  assert.equal(ipam.chooseAddress(use("10.0.0.0/30", ["10.0.0.1"]), {}), "10.0.0.2");
  assert.throws(
    () => ipam.chooseAddress(use("10.0.0.0/30", ["10.0.0.1", "10.0.0.2"]), {}),
    /no available IPv4 addresses on this network's address pools/,
  );
});

test("chooseAddress() goes on after the last one and wraps", () => {
  const net = use("10.0.0.0/29", ["10.0.0.1"]);
  assert.equal(ipam.chooseAddress(net, { last: parseIp("10.0.0.4") }), "10.0.0.5");
  assert.equal(ipam.chooseAddress(net, { last: parseIp("10.0.0.6") }), "10.0.0.2");
  assert.equal(ipam.chooseAddress(net, { last: parseIp("192.0.2.1") }), "10.0.0.2");
});

test("chooseAddress() stays in the range, explicit addresses need not", () => {
  const net = use("10.0.0.0/24", [], "10.0.0.128/30");
  assert.equal(ipam.chooseAddress(net, {}), "10.0.0.128");
  assert.equal(ipam.chooseAddress(net, { last: parseIp("10.0.0.131") }), "10.0.0.128");
  assert.equal(ipam.chooseAddress(net, { wanted: parseIp("10.0.0.9") }), "10.0.0.9");
  assert.equal(ipam.chooseAddress(use("10.0.0.0/24", [], "10.0.0.0/16"), {}), "10.0.0.1");
  for (const ip of ["10.0.0.0", "10.0.0.255"]) {
    assert.throws(() => ipam.chooseAddress(net, { wanted: parseIp(ip) }), /^EngineError: Address already in use$/);
  }
  assert.throws(
    () => ipam.chooseAddress(net, { wanted: parseIp("10.0.1.1") }),
    (e) => hasCode(e, "invalid"),
  );
  assert.throws(
    () => ipam.chooseAddress(use("10.0.0.0/24", ["10.0.0.9"]), { wanted: parseIp("10.0.0.9") }),
    (e) => hasCode(e, "forbidden"),
  );
});

test("chooseAddress() property: the next free address in cyclic order, or exhausted exactly when none is", () => {
  const offsets = fc.uniqueArray(fc.integer({ min: 0, max: 63 }), { maxLength: 64 });
  const subnet = parseCidr("10.9.8.64/26");
  fc.assert(
    fc.property(offsets, fc.option(fc.integer({ min: 0, max: 63 }), { nil: undefined }), (taken, last) => {
      const at = (i: number) => nthAddress(subnet, BigInt(i));
      const net = use("10.9.8.64/26", taken.map(at));
      const order = Array.from({ length: 62 }, (_, i) => i + 1);
      const start = last === undefined || last > 61 ? 0 : last;
      const wanted = [...order.slice(start), ...order.slice(0, start)].find((i) => !taken.includes(i));
      const choose = () => ipam.chooseAddress(net, last === undefined ? {} : { last: at(last) });
      if (wanted === undefined) assert.throws(choose, (e) => hasCode(e, "exhausted"));
      else assert.equal(choose(), at(wanted));
    }),
  );
});

test("chooseAddress() cost follows what is taken, not the size of the pool", () => {
  for (const pool of ["10.0.0.0/8", "fd00::/8"]) {
    let asked = 0;
    const subnet = parseCidr(pool);
    const first = ipToBigInt(nthAddress(subnet, 1n));
    const isTaken = (ip: IpAddress) => {
      asked += 1;
      return ipToBigInt(ip) < first + 500n;
    };
    const ip = ipam.chooseAddress({ subnet, range: undefined, isTaken }, {});
    assert.ok(contains(subnet, ip));
    assert.equal(asked, 501);
    assert.ok(sizeOf(subnet) > 1n << 20n);
  }
});
