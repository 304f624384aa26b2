import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { DecodeError } from "../../base/errors.ts";
import { encode, MsgpackReader, type RawValue, TruncatedError, type Value } from "./codec.ts";

const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString("hex");
const read = (text: string) => new MsgpackReader(Buffer.from(text, "hex")).value("test");

test("encode() writes text and bytes as legacy raw, positives unsigned", () => {
  assert.equal(hex(encode({ SeqNo: 1, Payload: null })), "82a55365714e6f01a75061796c6f6164c0");
  assert.equal(hex(encode("x".repeat(31))).slice(0, 2), "bf");
  assert.equal(hex(encode("x".repeat(32))).slice(0, 6), "da0020");
  assert.equal(hex(encode(new Uint8Array(0x10000))).slice(0, 10), "db00010000");
  assert.equal(
    hex(encode([127, 128, 256, 65536, 2 ** 32, true, false])),
    "977fcc80cd0100ce00010000cf0000000100000000c3c2",
  );
  assert.equal(hex(encode([-1, -32, -33, -129, -32769, -2147483649n])), "96ffe0d0dfd1ff7fd2ffff7fffd3ffffffff7fffffff");
});

test("the reader takes what either codec in the field writes", () => {
  const abc = Buffer.from("abc");
  for (const form of ["a3", "d903", "c403", "c50003", "da0003", "c600000003", "db00000003"]) {
    assert.deepEqual(Buffer.from(read(`${form}616263`) as Uint8Array), abc);
  }
  for (const form of ["cc80", "cd0080", "ce00000080", "cf0000000000000080", "d10080", "d200000080"]) {
    assert.equal(read(form), 128);
  }
  assert.equal(read("d0ff"), -1);
  assert.equal(read("cfffffffffffffffff"), 0xffff_ffff_ffff_ffffn);
  assert.equal(read("cb3ff8000000000000"), 1.5);
  assert.deepEqual(new MsgpackReader(Uint8Array.of(0xc0)).struct("nil"), new Map());
});

test("values survive the wire", () => {
  const leaf = fc.oneof(
    fc.constant(null),
    fc.boolean(),
    fc.integer(),
    fc.maxSafeInteger(),
    fc.uint8Array({ maxLength: 70000, size: "large" }),
  );
  const { value } = fc.letrec<{ value: Value }>((tie) => ({
    value: fc.oneof(
      { depthSize: "small", maxDepth: 4 },
      leaf,
      fc.array(tie("value")),
      fc.dictionary(fc.string({ maxLength: 40 }), tie("value"), { maxKeys: 20 }),
    ),
  }));
  fc.assert(
    fc.property(value, (v) => {
      const reader = new MsgpackReader(encode(v));
      assert.deepEqual(reader.value("v"), expected(v));
      assert.equal(reader.offset, encode(v).length);
    }),
    { numRuns: 200 },
  );
});

test("reading is total", () => {
  assert.throws(() => read("c1"), DecodeError);
  assert.throws(() => read("ddffffffff"), TruncatedError);
  assert.throws(() => read("81".repeat(20)), DecodeError);
  assert.throws(() => read("81a1ffc0"), /UTF-8/);
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 64 }), (bytes) => {
      try {
        new MsgpackReader(bytes).value("fuzz");
      } catch (error) {
        assert.ok(error instanceof DecodeError);
      }
    }),
    { numRuns: 2000 },
  );
});

function expected(value: Value): RawValue {
  if (typeof value === "string") return Buffer.from(value);
  if (value instanceof Uint8Array) return Buffer.from(value);
  if (Array.isArray(value)) return (value as readonly Value[]).map(expected);
  if (value !== null && typeof value === "object") {
    return new Map(Object.entries(value).map(([key, field]) => [key, expected(field)]));
  }
  return value;
}
