import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { DecodeError } from "../../base/errors.ts";
import { seededRandom } from "../../base/random.ts";
import { compress, decompress } from "./codec.ts";

const cap = 1 << 20;

test("compress() gives the reference vector", () => {
  const input = Buffer.from("a".repeat(24));
  assert.equal(Buffer.from(compress(input)).toString("hex"), "00c3081c48b0a0c1810101");
  assert.deepEqual(Buffer.from(decompress(Buffer.from("00c3081c48b0a0c1810101", "hex"), cap)), input);
});

test("bytes survive, through full tables and clear codes", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 3000, size: "max" }), (bytes) => {
      assert.deepEqual(Buffer.from(decompress(compress(bytes), cap)), Buffer.from(bytes));
    }),
  );
  const random = seededRandom(7);
  const noise = random.bytes(60_000);
  const text = Buffer.from(Array.from({ length: 9000 }, (_, i) => `key-${i % 977}:${random.below(50)};`).join(""));
  for (const input of [noise, text, new Uint8Array(200_000)]) {
    assert.deepEqual(Buffer.from(decompress(compress(input), cap)), Buffer.from(input));
  }
  assert.ok(compress(text).length < text.length / 2);
});

test("decompress() is total and keeps to its cap", () => {
  assert.throws(() => decompress(compress(new Uint8Array(5000)), 4999), DecodeError);
  assert.equal(decompress(compress(new Uint8Array(5000)), 5000).length, 5000);
  assert.throws(() => decompress(Uint8Array.of(0, 3), cap), /no end code/);
  const valid = compress(Buffer.from("the quick brown fox the quick brown fox".repeat(40)));
  fc.assert(
    fc.property(fc.nat(valid.length - 1), fc.nat(255), fc.nat(valid.length), (at, byte, end) => {
      const mutated = Uint8Array.from(valid);
      mutated[at] = byte;
      try {
        assert.ok(decompress(mutated.subarray(0, end), cap).length <= cap);
      } catch (error) {
        assert.ok(error instanceof DecodeError);
      }
    }),
    { numRuns: 1000 },
  );
});
