import assert from "node:assert/strict";
import { test } from "node:test";
import { type IpAddress, parseCidr, parseIp } from "../base/ip.ts";
import { checkSpec } from "./check-spec.ts";
import type { IpamPoolSpec } from "./model.ts";
import { testSpec } from "./testing.ts";

const withPool = (pool: Partial<IpamPoolSpec>) =>
  testSpec("n", { ipam: { driver: "default", options: {}, pools: [{ auxiliary: {}, ...pool }] } });

test("checkSpec() names every fault of a pool on a line of its own", () => {
  const spec = withPool({
    subnet: parseCidr("10.1.0.5/16"),
    ipRange: parseCidr("10.2.0.0/24"),
    gateway: parseIp("10.3.0.1"),
    auxiliary: { a: "10.4.0.1" as IpAddress },
  });
  assert.throws(() => checkSpec(spec), {
    code: "invalid",
    message: [
      "invalid network config:",
      "invalid subnet 10.1.0.5/16: it should be 10.1.0.0/16",
      "invalid ip-range 10.2.0.0/24: parent subnet 10.1.0.5/16 doesn't contain ip-range",
      "invalid gateway 10.3.0.1: parent subnet 10.1.0.5/16 doesn't contain this address",
      "invalid auxiliary address 10.4.0.1: parent subnet 10.1.0.5/16 doesn't contain this address",
    ].join("\n"),
  });
});

test("checkSpec() refuses a range bigger than its subnet, and predefined names", () => {
  const wide = withPool({ subnet: parseCidr("10.1.0.0/16"), ipRange: parseCidr("10.0.0.0/8") });
  assert.throws(() => checkSpec(wide), /invalid ip-range 10.0.0.0\/8: CIDR block is bigger than its parent subnet/);
  assert.throws(() => checkSpec(testSpec("host")), {
    code: "forbidden",
    message: "operation is not permitted on predefined host network ",
  });
});

test("checkSpec() takes what is right", () => {
  checkSpec(
    withPool({
      subnet: parseCidr("172.30.5.0/24"),
      ipRange: parseCidr("172.30.5.128/25"),
      gateway: parseIp("172.30.5.1"),
    }),
  );
  checkSpec(withPool({ subnet: parseCidr("0.0.0.0/26") }));
});
