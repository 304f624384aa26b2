import assert from "node:assert/strict";
import { EventEmitter } from "node:events";
import { text } from "node:stream/consumers";
import { test } from "node:test";
import { OutputHub } from "./output-hub.ts";

class FakeSource extends EventEmitter {
  paused = false;
  pause(): void {
    this.paused = true;
  }
  resume(): void {
    this.paused = false;
  }
  destroy(): void {
    this.emit("close");
  }
}

test("every reader gets all of it; the slowest holds the source back", async () => {
  const seen: string[] = [];
  const hub = new OutputHub((chunk) => seen.push(chunk.toString()));
  const source = new FakeSource();
  const ended = hub.pump(source);
  const [fast, slow] = [hub.attach(), hub.attach()];
  const fastText = text(fast);
  const chunk = Buffer.alloc(40 << 10, "x");
  source.emit("data", chunk);
  source.emit("data", chunk);
  assert.ok(source.paused, "64 KiB are waiting for the slow one");
  const slowText = text(slow);
  await new Promise(setImmediate);
  assert.ok(!source.paused);
  hub.end();
  await ended;
  assert.equal((await fastText).length, 80 << 10);
  assert.equal((await slowText).length, 80 << 10);
  assert.equal(seen.join("").length, 80 << 10);
});

test("letting go frees the source; a hurried hub waits for nobody", () => {
  const hub = new OutputHub(() => {});
  const source = new FakeSource();
  void hub.pump(source);
  const reader = hub.attach();
  source.emit("data", Buffer.alloc(100 << 10));
  assert.ok(source.paused);
  reader.destroy();
  return new Promise<void>((resolve) => {
    reader.once("close", () => {
      assert.ok(!source.paused);
      hub.attach();
      hub.hurry();
      source.emit("data", Buffer.alloc(100 << 10));
      assert.ok(!source.paused);
      resolve();
    });
  });
});
