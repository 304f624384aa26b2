import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import {
  contains,
  formatCidr,
  ipFromBigInt,
  ipFromBytes,
  ipToBigInt,
  ipToBytes,
  lastAddress,
  macFromIpv4,
  networkOf,
  overlaps,
  parseCidr,
  parseIp,
  tryParseCidr,
  tryParseIp,
  tryParseMac,
} from "./ip.ts";

test("parseIp() gives RFC 5952 text", () => {
  assert.equal(parseIp("2001:DB8:0:0:1:0:0:1"), "2001:db8::1:0:0:1");
  assert.equal(parseIp("::"), "::");
  assert.equal(parseIp("fe80:0:0:0:0:0:0:1"), "fe80::1");
  assert.equal(parseIp("::ffff:10.0.0.1"), "10.0.0.1");
  assert.equal(parseIp("64:ff9b::192.0.2.33"), "64:ff9b::c000:221");
  for (const bad of ["", "10.0.0", "10.0.0.256", "fe80::1%eth0", "a", "1::2::3"])
    assert.equal(tryParseIp(bad), undefined);
});

test("addresses survive bytes and numbers", () => {
  fc.assert(
    fc.property(fc.oneof(fc.ipV4(), fc.ipV6()), (text) => {
      const ip = parseIp(text);
      assert.equal(ipFromBytes(ipToBytes(ip)), ip);
      assert.equal(ipFromBigInt(ipToBigInt(ip), ip.includes(":") ? 6 : 4), ip);
      assert.equal(parseIp(ip), ip);
    }),
  );
});

test("subnets", () => {
  const net = parseCidr("172.30.5.77/24");
  assert.equal(formatCidr(networkOf(net)), "172.30.5.0/24");
  assert.equal(lastAddress(net), "172.30.5.255");
  assert.ok(contains(net, parseIp("172.30.5.1")));
  assert.ok(!contains(net, parseIp("172.30.6.1")));
  assert.ok(overlaps(parseCidr("10.0.0.0/8"), parseCidr("10.1.0.0/24")));
  assert.ok(overlaps(parseCidr("10.1.0.0/24"), parseCidr("10.0.0.0/8")));
  assert.ok(!overlaps(parseCidr("10.0.0.0/24"), parseCidr("10.0.1.0/24")));
  for (const bad of ["10.1.2.3.4/24", "10.0.0.0/33", "10.0.0.0", "::/129", "10.0.0.0/-1"]) {
    assert.equal(tryParseCidr(bad), undefined);
  }
});

test("MAC addresses", () => {
  assert.equal(macFromIpv4(parseIp("10.0.1.5")), "02:42:0a:00:01:05");
  assert.equal(tryParseMac("02-42-AC-11-00-02"), "02:42:ac:11:00:02");
  assert.equal(tryParseMac("02:42:ac:11:00"), undefined);
});
