import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { DecodeError } from "../../base/errors.ts";
import { type DbMessage, decodeDbMessage, encodeDbMessage } from "./codec.ts";

const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString("hex");

test("a network event gives the reference vector", () => {
  const event: DbMessage = { kind: "network", change: "join", time: 3n, node: "a1b2c3d4e5f6", networkId: "n1" };
  const text = "08011216080110031a0c61316232633364346535663622026e31";
  assert.equal(hex(encodeDbMessage(event)), text);
  assert.deepEqual(decodeDbMessage(Buffer.from(text, "hex")), event);
});

const time = fc.bigInt({ min: 0n, max: 2n ** 64n - 1n });
const id = fc.string();
const bytes = fc.uint8Array({ maxLength: 100 });
const joinOrLeave = fc.constantFrom("join" as const, "leave" as const);
const parts = fc.array(bytes, { maxLength: 5 });
const messages: fc.Arbitrary<DbMessage> = fc.oneof(
  fc.record({ kind: fc.constant("node" as const), change: joinOrLeave, time, node: id }),
  fc.record({ kind: fc.constant("network" as const), change: joinOrLeave, time, node: id, networkId: id }),
  fc.record({
    kind: fc.constant("table" as const),
    change: fc.constantFrom("create" as const, "update" as const, "delete" as const),
    time,
    node: id,
    networkId: id,
    table: id,
    key: id,
    value: bytes,
    residualSeconds: fc.nat(),
  }),
  fc.record({
    kind: fc.constant("push-pull" as const),
    time,
    node: id,
    attachments: fc.array(fc.record({ networkId: id, node: id, time, isLeaving: fc.boolean() })),
  }),
  fc.record({
    kind: fc.constant("bulk-sync" as const),
    time,
    isRequest: fc.boolean(),
    node: id,
    networkIds: fc.array(id),
    messages: parts,
  }),
  fc.record({ kind: fc.constant("compound" as const), messages: parts }),
);

test("messages survive the wire", () => {
  fc.assert(
    fc.property(messages, (message) => {
      assert.deepEqual(structuredClone(decodeDbMessage(encodeDbMessage(message))), structuredClone(message));
    }),
  );
});

test("decoding is total, and refuses what is not NetworkDB's", () => {
  for (const text of ["", "0a", "0300", "08631200", "84a54c54696d6501"]) {
    assert.throws(() => decodeDbMessage(Buffer.from(text, "hex")), DecodeError);
  }
  fc.assert(
    fc.property(messages, fc.array(fc.tuple(fc.nat(), fc.nat(255)), { maxLength: 5 }), (message, edits) => {
      const mutated = Uint8Array.from(encodeDbMessage(message));
      for (const [at, value] of edits) mutated[at % mutated.length] = value;
      try {
        decodeDbMessage(mutated);
      } catch (error) {
        assert.ok(error instanceof DecodeError, String(error));
      }
    }),
    { numRuns: 500 },
  );
});
