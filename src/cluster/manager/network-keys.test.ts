import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { seededRandom } from "../../base/random.ts";
import { firstKeys, gossipSubsystem, ipsecSubsystem, rotateKeys } from "./network-keys.ts";

describe("network keys", () => {
  it("are three per subsystem with consecutive times, and rotate one each", () => {
    const random = seededRandom(3);
    let current = firstKeys(random);
    const times = current.keys.map((key) => key.lamportTime);
    assert.deepEqual(
      times,
      times.map((_, i) => (times[0] as bigint) + BigInt(i)),
    );
    const seen = new Set<bigint>(times);
    for (let round = 0; round < 5; round++) {
      const next = rotateKeys(current, random);
      for (const subsystem of [gossipSubsystem, ipsecSubsystem]) {
        const before = current.keys.filter((key) => key.subsystem === subsystem);
        const after = next.keys.filter((key) => key.subsystem === subsystem);
        assert.equal(after.length, 3);
        assert.deepEqual(after.slice(0, 2), before.slice(1), "the two youngest stay");
        assert.ok(!seen.has(after[2]?.lamportTime as bigint), "a time is never used twice (T11)");
        seen.add(after[2]?.lamportTime as bigint);
        assert.equal(after[2]?.key.length, 16);
      }
      current = next;
    }
  });
});
