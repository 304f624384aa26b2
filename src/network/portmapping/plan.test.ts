import assert from "node:assert/strict";
import { test } from "node:test";
import { parseIp } from "../../base/ip.ts";
import type { PortPublish } from "../model.ts";
import { conflicts, hostAddresses, hostPorts, keptBindings, parsePortRange } from "./plan.ts";

const publish = (change: Partial<PortPublish> = {}): PortPublish => ({
  protocol: "tcp",
  containerPort: 80,
  hostAddress: undefined,
  hostPortFirst: 8080,
  hostPortLast: 8080,
  ...change,
});

test("hostAddresses() binds both families unless an address is said", () => {
  assert.deepEqual(hostAddresses(publish(), { address: undefined, hasIpv6: true }), ["0.0.0.0", "::"]);
  assert.deepEqual(hostAddresses(publish(), { address: undefined, hasIpv6: false }), ["0.0.0.0"]);
  const local = parseIp("127.0.0.1");
  assert.deepEqual(hostAddresses(publish(), { address: local, hasIpv6: true }), [local]);
  assert.deepEqual(hostAddresses(publish({ hostAddress: local }), { address: undefined, hasIpv6: true }), [local]);
});

test("hostPorts() and parsePortRange() know ranges, single ports and any port", () => {
  const ephemeral = parsePortRange("32768\t60999\n");
  assert.deepEqual(ephemeral, { first: 32768, last: 60999 });
  assert.deepEqual(parsePortRange("junk"), { first: 49153, last: 65535 });
  assert.deepEqual(hostPorts(publish(), ephemeral), { first: 8080, last: 8080 });
  assert.deepEqual(hostPorts(publish({ hostPortFirst: 0, hostPortLast: 0 }), ephemeral), ephemeral);
});

test("keptBindings() finds the port that an open publish was given before", () => {
  const earlier = [{ protocol: "tcp" as const, containerPort: 80, hostAddress: parseIp("0.0.0.0"), hostPort: 32770 }];
  const open = publish({ hostPortFirst: 0, hostPortLast: 0 });
  assert.deepEqual(keptBindings(open, [parseIp("0.0.0.0")], earlier), earlier);
  assert.equal(keptBindings(publish(), [parseIp("0.0.0.0")], earlier), undefined);
  assert.equal(keptBindings(open, [parseIp("0.0.0.0"), parseIp("::")], earlier), undefined);
});

test("conflicts() by protocol, port and meeting addresses", () => {
  const at = (address: string, protocol: "tcp" | "udp" = "tcp") => ({
    protocol,
    containerPort: 1,
    hostAddress: parseIp(address),
    hostPort: 53,
  });
  assert.equal(conflicts(at("0.0.0.0"), at("127.0.0.1")), true);
  assert.equal(conflicts(at("127.0.0.2"), at("127.0.0.1")), false);
  assert.equal(conflicts(at("0.0.0.0"), at("::")), false);
  assert.equal(conflicts(at("0.0.0.0"), at("0.0.0.0", "udp")), false);
});
