import assert from "node:assert/strict";
import { test } from "node:test";
import { cgroupParentOf, removeUnusedCgroups } from "./cgroup.ts";

test("every exec root has a cgroup of its own, and no other path is ever removed", () => {
  assert.match(cgroupParentOf("/run/weft"), /^\/weft-[0-9a-f]{12}$/);
  assert.notEqual(cgroupParentOf("/run/weft"), cgroupParentOf("/run/weft2"));
  for (const path of ["/", "/docker", "/weft-", "/weft-0123456789ab/../../docker"]) {
    assert.throws(() => removeUnusedCgroups(path), TypeError);
  }
  removeUnusedCgroups(cgroupParentOf("/no/such/root"));
});
