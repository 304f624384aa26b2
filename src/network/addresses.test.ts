import assert from "node:assert/strict";
import { test } from "node:test";
import { formatCidr, parseCidr, parseIp } from "../base/ip.ts";
import { assignAddresses, assignPools } from "./addresses.ts";
import { localDefaultPools } from "./ipam/mod.ts";
import { testEndpoint, testNetwork, testRequest, testSpec } from "./testing.ts";

test("assignPools() takes the first default block that nothing uses, with .1 as gateway", () => {
  const context = {
    used: [parseCidr("172.17.0.0/16")],
    avoid: [parseCidr("172.18.3.0/24")],
    defaults: localDefaultPools,
  };
  const [pool] = assignPools(testSpec("n"), context);
  assert.equal(pool && formatCidr(pool.subnet), "172.19.0.0/16");
  assert.equal(pool?.gateway, "172.19.0.1");
});

test("assignPools() refuses an overlap with another network but not with a route", () => {
  const spec = testSpec("n", {
    ipam: { driver: "default", options: {}, pools: [{ subnet: parseCidr("10.9.0.0/24"), auxiliary: {} }] },
  });
  const context = { used: [], avoid: [parseCidr("10.9.0.0/16")], defaults: localDefaultPools };
  assert.equal(assignPools(spec, context)[0]?.gateway, "10.9.0.1");
  assert.throws(() => assignPools(spec, { ...context, used: [parseCidr("10.9.0.0/25")] }), {
    code: "forbidden",
    message: "invalid pool request: Pool overlaps with other one on this address space",
  });
});

test("assignPools() takes a default gateway from the range, and a size for a subnet", () => {
  const pools = (pool: object) => ({ driver: "default", options: {}, pools: [{ auxiliary: {}, ...pool }] });
  const context = { used: [], avoid: [], defaults: localDefaultPools };
  const ranged = testSpec("n", {
    ipam: pools({ subnet: parseCidr("172.30.5.0/24"), ipRange: parseCidr("172.30.5.128/25") }),
  });
  assert.equal(assignPools(ranged, context)[0]?.gateway, "172.30.5.128");
  const sized = testSpec("n", { ipam: pools({ subnet: parseCidr("0.0.0.0/26") }) });
  assert.equal(formatCidr(assignPools(sized, context)[0]?.subnet ?? parseCidr("::/0")), "172.17.0.0/26");
});

test("assignAddresses() keeps clear of the gateway and of others, and follows the last one given", () => {
  const network = testNetwork("n", {}, "10.5.0.0/24");
  const others = [testEndpoint(network, "10.5.0.2")];
  const give = (last: string | undefined, wanted?: string) =>
    assignAddresses(
      network,
      testRequest("n", { ipv4: wanted === undefined ? undefined : parseIp(wanted) }),
      others,
      () => (last === undefined ? undefined : parseIp(last)),
    );
  assert.equal(give(undefined).ipv4?.address, "10.5.0.3");
  assert.equal(give("10.5.0.9").ipv4?.address, "10.5.0.10");
  assert.equal(give(undefined).gateway, "10.5.0.1");
  assert.throws(() => give(undefined, "10.5.0.2"), { code: "forbidden", message: "Address already in use" });
});

test("assignAddresses() names the network that is full", () => {
  const network = testNetwork("tiny", {}, "10.5.0.0/30");
  assert.throws(
    () => assignAddresses(network, testRequest("tiny"), [testEndpoint(network, "10.5.0.2")], () => undefined),
    {
      message: `no available IPv4 addresses on this network's address pools: tiny (${network.id})`,
    },
  );
});
