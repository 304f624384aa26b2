import assert from "node:assert/strict";
import { test } from "node:test";
import { findNetwork } from "./lookup.ts";
import { testNetwork } from "./testing.ts";

test("findNetwork() by id, then name, then unique prefix", () => {
  const [ab, ac] = [testNetwork("ab"), testNetwork("ac")];
  const all = [ab, ac];
  assert.equal(findNetwork(all, ab.id), ab);
  assert.equal(findNetwork(all, "ac"), ac);
  assert.equal(findNetwork(all, ab.id.slice(0, 4)), ab);
  assert.throws(() => findNetwork(all, "61"), { message: "network 61 is ambiguous (2 matches found on ID prefix)" });
  assert.throws(() => findNetwork(all, "nope"), { code: "not-found", message: "network nope not found" });
  assert.throws(() => findNetwork(all, ""), { code: "not-found" });
});
