import assert from "node:assert/strict";
import { test } from "node:test";
import { keyringOf } from "./keyring.ts";

const key = (n: number, bytes = 16) => ({ key: new Uint8Array(bytes).fill(n), lamportTime: BigInt(n) });
const order = (...ns: number[]) => keyringOf(ns.map((n) => key(n))).map((k) => k.key.export()[0]);

test("T1: the second oldest key transmits, then the oldest, then the newest", () => {
  assert.deepEqual(order(3, 1, 2), [2, 1, 3]);
  assert.deepEqual(order(9, 5), [9, 5]);
  assert.deepEqual(order(4), [4]);
});

test("unusable keys are refused", () => {
  assert.throws(() => keyringOf([]), { code: "invalid" });
  assert.throws(() => keyringOf([key(1, 15)]), { code: "invalid" });
});
