import assert from "node:assert/strict";
import { test } from "node:test";
import { hasCode } from "../../../base/errors.ts";
import { parseOverlayOptions } from "./options.ts";

const mtu = (value: string, more = {}) =>
  parseOverlayOptions({ "com.docker.network.driver.mtu": value, ...more }).mtuBytes;

test("parseOverlayOptions() takes the overhead off the MTU", () => {
  assert.deepEqual(parseOverlayOptions({}), { mtuBytes: 1450, encrypted: false });
  assert.deepEqual(parseOverlayOptions({ encrypted: "false" }), { mtuBytes: 1424, encrypted: true });
  assert.equal(mtu("0"), 1450);
  assert.equal(mtu("9000"), 8950);
  assert.equal(mtu("9000", { encrypted: "" }), 8924);
  for (const bad of ["-1", "abc", "1e3", "99999999999", "70", "65536", ""]) {
    assert.throws(
      () => mtu(bad),
      (e) => hasCode(e, "invalid"),
    );
  }
});
