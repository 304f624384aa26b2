import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { deferred } from "../../base/async.ts";
import { SharedWork, Slots } from "./transfers.ts";

const never = new AbortController().signal;

describe("SharedWork", () => {
  it("does once what several want, and shows latecomers the last progress", async () => {
    const work = new SharedWork<number, string>();
    const gate = deferred<void>();
    let starts = 0;
    const start = async (progress: (p: string) => void) => {
      starts += 1;
      progress("half");
      await gate.promise;
      return 7;
    };
    const seen: string[][] = [[], []];
    const results = seen.map((list) => work.run("k", start, (p) => list.push(p), never));
    gate.resolve();
    assert.deepEqual(await Promise.all(results), [7, 7]);
    assert.equal(starts, 1);
    assert.deepEqual(seen[1], ["half"]);
  });

  it("goes on while somebody waits, and is given up with the last", async () => {
    const work = new SharedWork<void, never>();
    let given: AbortSignal | undefined;
    const start = (_: unknown, signal: AbortSignal) => {
      given = signal;
      return new Promise<void>((_resolve, reject) => signal.addEventListener("abort", () => reject(signal.reason)));
    };
    const [a, b] = [new AbortController(), new AbortController()];
    const [one, two] = [work.run("k", start, () => {}, a.signal), work.run("k", start, () => {}, b.signal)];
    a.abort(new Error("a left"));
    await assert.rejects(one, /a left/);
    assert.equal(given?.aborted, false);
    b.abort(new Error("b left"));
    await assert.rejects(two, /b left/);
    assert.equal(given?.aborted, true);
  });

  it("starts afresh after a failure", async () => {
    const work = new SharedWork<number, never>();
    await assert.rejects(
      work.run(
        "k",
        async () => Promise.reject(new Error("once")),
        () => {},
        never,
      ),
      /once/,
    );
    assert.equal(
      await work.run(
        "k",
        async () => 1,
        () => {},
        never,
      ),
      1,
    );
  });
});

describe("Slots", () => {
  it("lets in at most so many, in order, and forgets who left the queue", async () => {
    const slots = new Slots(1);
    const gate = deferred<void>();
    const order: string[] = [];
    const first = slots.run(() => gate.promise, never);
    const leaver = new AbortController();
    const second = slots.run(async () => void order.push("second"), leaver.signal);
    const third = slots.run(async () => void order.push("third"), never);
    assert.equal(slots.full, true);
    leaver.abort(new Error("left"));
    await assert.rejects(second, /left/);
    gate.resolve();
    await Promise.all([first, third]);
    assert.deepEqual(order, ["third"]);
    assert.equal(slots.full, false);
  });
});
