import assert from "node:assert/strict";
import { test } from "node:test";
import { confirm, deadlineOf, type Suspicion, suspect } from "./suspicion.ts";

test("confirmations shorten the time from 6 × min to min", () => {
  const first = suspect("a", 10, 1000, 0);
  assert.equal(deadlineOf(first), 24_000);
  assert.equal(confirm(first, "a"), undefined);
  const second = confirm(first, "b") as Suspicion;
  assert.ok(deadlineOf(second) < 24_000 && deadlineOf(second) > 4_000);
  assert.equal(deadlineOf(second), 24_000 - (20_000 * Math.log(2)) / Math.log(3));
  const third = confirm(second, "c") as Suspicion;
  assert.equal(deadlineOf(third), 4_000);
  assert.equal(confirm(third, "d"), undefined);
});

test("without others who could confirm the time is the minimum; it grows with the cluster", () => {
  for (const members of [1, 2, 3]) assert.equal(deadlineOf(suspect("a", members, 1000, 500)), 4_500);
  assert.equal(suspect("a", 1000, 1000, 0).minMs, 12_000);
});
