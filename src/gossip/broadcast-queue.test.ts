import assert from "node:assert/strict";
import { test } from "node:test";
import { BroadcastQueue, transmitLimit } from "./broadcast-queue.ts";

const bytes = (n: number, length: number) => new Uint8Array(length).fill(n);
const take = (queue: BroadcastQueue, limitBytes: number) =>
  queue.take({ overheadBytes: 2, limitBytes, nodes: 2 }).map((message) => message[0]);

test("fewest transmissions first, larger first among them, within the budget", () => {
  const queue = new BroadcastQueue();
  queue.add("a", bytes(1, 10));
  queue.add("b", bytes(2, 30));
  queue.add("c", bytes(3, 20));
  assert.deepEqual(take(queue, 54), [2, 3]);
  assert.deepEqual(take(queue, 54), [1, 2]);
});

test("a newer message replaces the older of its key; without a key none is replaced", () => {
  const queue = new BroadcastQueue();
  queue.add("a", bytes(1, 5));
  queue.add("a", bytes(2, 5));
  queue.add(undefined, bytes(3, 4));
  queue.add(undefined, bytes(4, 3));
  assert.deepEqual(take(queue, 100), [2, 3, 4]);
});

test("each message is sent 4 × ceil(log10(n + 1)) times", () => {
  assert.deepEqual([1, 9, 10, 99, 100].map(transmitLimit), [4, 4, 8, 8, 12]);
  const queue = new BroadcastQueue();
  queue.add("a", bytes(1, 5));
  for (let i = 0; i < 4; i++) assert.equal(take(queue, 100).length, 1);
  assert.equal(queue.length, 0);
});
