import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { encodeFrame, FrameDecoder } from "./frames.ts";
import { decodeChunked } from "./hijack.ts";

test("encodeFrame() has stream, zeros and a big-endian length", () => {
  assert.equal(encodeFrame(2, Buffer.from("hi")).toString("hex"), "02000000000000026869");
});

test("FrameDecoder gives back what was encoded, in whatever pieces it comes", () => {
  const frame = fc.record({
    stream: fc.constantFrom(1 as const, 2 as const),
    payload: fc.uint8Array({ maxLength: 50 }),
  });
  fc.assert(
    fc.property(fc.array(frame), fc.integer({ min: 1, max: 20 }), (frames, step) => {
      const bytes = Buffer.concat(frames.map((f) => encodeFrame(f.stream, f.payload)));
      const decoder = new FrameDecoder();
      const out = [];
      for (let at = 0; at < bytes.length; at += step) out.push(...decoder.push(bytes.subarray(at, at + step)));
      assert.deepEqual(
        out.map((f) => ({ stream: f.stream, payload: Uint8Array.from(f.payload) })),
        frames.map(({ stream, payload }) => ({ stream, payload })),
      );
    }),
  );
});

test("FrameDecoder refuses unknown streams and absurd lengths", () => {
  assert.throws(() => new FrameDecoder().push(Buffer.from("0900000000000001", "hex")), { name: "DecodeError" });
  assert.throws(() => new FrameDecoder().push(Buffer.from("01000000ffffffff", "hex")), { name: "DecodeError" });
});

test("decodeChunked() waits for the whole body and keeps what follows", () => {
  const whole = Buffer.from("3\r\nabc\r\n2\r\nde\r\n0\r\n\r\nstdin");
  const end = whole.indexOf("stdin");
  for (let length = 0; length < end; length++) assert.equal(decodeChunked(whole.subarray(0, length)), undefined);
  const { body, rest } = decodeChunked(whole) ?? {};
  assert.equal(body?.toString(), "abcde");
  assert.equal(rest?.toString(), "stdin");
  assert.throws(() => decodeChunked(Buffer.from("zz\r\n")), SyntaxError);
});
