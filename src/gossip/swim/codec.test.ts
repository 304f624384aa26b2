import assert from "node:assert/strict";
import { test } from "node:test";
import { crc32 } from "node:zlib";
import fc from "fast-check";
import { DecodeError } from "../../base/errors.ts";
import { parseIp } from "../../base/ip.ts";
import { type Random, seededRandom } from "../../base/random.ts";
import { encode } from "../../wire/msgpack/mod.ts";
import { type Keyring, ringKey } from "../keyring.ts";
import {
  decodeMessage,
  decodeStreamMessage,
  encodeMessage,
  encodeStreamMessage,
  type PacketMessage,
  type StreamMessage,
} from "./codec.ts";
import { seal, unseal } from "./envelope.ts";
import type { Member, Versions } from "./model.ts";
import { decodePacket, encodeCompound, encodePackets } from "./packet.ts";
import { encodeStream, StreamDecoder } from "./stream.ts";

const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString("hex");
const unhex = (text: string) => new Uint8Array(Buffer.from(text, "hex"));
const key = ringKey(Uint8Array.from({ length: 16 }, (_, i) => i));
const otherKey = ringKey(Uint8Array.from({ length: 16 }, (_, i) => 255 - i));
const random = seededRandom(1);
const fixedNonce: Random = { bytes: (n) => Uint8Array.from({ length: n }, (_, i) => 0x20 + i), below: () => 0 };

const pingHex =
  "0085a55365714e6f01a44e6f6465a26232aa536f7572636541646472a4c0a8010aaa536f75726365506f7274cd1f0aaa536f757263654e6f6465a26131";
const ackHex = "0282a55365714e6f01a75061796c6f6164c0";
const aliveHex =
  "0486ab496e6361726e6174696f6e01a44e6f6465a26131a441646472a4c0a8010aa4506f7274cd1f0aa44d657461a0a356736ea6010502000000";
const ping: PacketMessage = {
  kind: "ping",
  sequence: 1,
  node: "b2",
  source: { address: parseIp("192.168.1.10"), portHostOrder: 7946, node: "a1" },
};
const ack: PacketMessage = { kind: "ack", sequence: 1 };
const alive: PacketMessage = {
  kind: "alive",
  incarnation: 1,
  node: "a1",
  address: parseIp("192.168.1.10"),
  portHostOrder: 7946,
  meta: new Uint8Array(),
  versions: [1, 5, 2, 0, 0, 0],
};

test("messages give the reference vectors", () => {
  for (const [message, text] of [
    [ping, pingHex],
    [ack, ackHex],
    [alive, aliveHex],
  ] as const) {
    assert.equal(hex(encodeMessage(message)), text);
    assert.deepEqual(plain(decodeMessage(unhex(text))), message);
  }
  assert.equal(hex(encodeCompound([unhex(pingHex), unhex(ackHex)])), `0702003d0012${pingHex}${ackHex}`);
});

test("the envelope gives the reference vectors", () => {
  const text = unhex("0068656c6c6f");
  const packet = "01202122232425262728292a2bc09d77c8ea9fa13ea71fac83e8a63d5925cfe85c058e";
  const stream = "01202122232425262728292a2bc09d77c8ea9f916e49ff66a11d35a9efc7fd662a0426";
  const header = unhex("0a00000023");
  assert.equal(hex(seal(text, [key], fixedNonce, new Uint8Array())), packet);
  assert.equal(hex(seal(text, [key], fixedNonce, header)), stream);
  assert.equal(hex(unseal(unhex(stream), [otherKey, key], header)), hex(text));
  assert.throws(() => unseal(unhex(stream), [key], new Uint8Array()), /no installed keys/);
  assert.equal(crc32(text), 0x41f0f038);
});

test("decoding takes both generations' nil and integers, and missing fields", () => {
  const member = { Name: "n", Addr: Uint8Array.of(10, 0, 0, 1), Incarnation: 1 };
  // Nodes as a signed int16, UserStateLen 0, Join false.
  const header = unhex("83a54e6f646573d10001ac5573657253746174654c656e00a44a6f696ec2");
  const decoded = decodeStreamMessage(Buffer.concat([Uint8Array.of(6), header, encode(member)]));
  assert.ok(decoded.kind === "push-pull");
  assert.deepEqual(plain(decoded.members), [
    {
      name: "n",
      address: "10.0.0.1",
      portHostOrder: 0,
      meta: new Uint8Array(),
      incarnation: 1,
      state: "alive",
      versions: undefined,
    },
  ]);
  const mapped = Buffer.concat([
    Uint8Array.of(4),
    encode({ Node: "n", Addr: unhex("00000000000000000000ffff0a000001"), Meta: null }),
  ]);
  assert.equal((decodeMessage(mapped) as { address: string }).address, "10.0.0.1");
});

const address = fc.oneof(fc.ipV4(), fc.ipV6()).map(parseIp);
const u32 = fc.nat(0xffff_ffff);
const port = fc.integer({ min: 1, max: 0xffff });
const versions = fc.option(
  fc.tuple(...Array.from({ length: 6 }, () => fc.nat(255))).map((v) => v as unknown as Versions),
  { nil: undefined },
);
const source = fc.option(fc.record({ address, portHostOrder: port, node: fc.string() }), { nil: undefined });
const presence = {
  incarnation: u32,
  address,
  portHostOrder: port,
  meta: fc.uint8Array({ maxLength: 512 }),
  versions,
};
const pings = fc.record({ kind: fc.constant("ping" as const), sequence: u32, node: fc.string(), source });
const users = fc.record({ kind: fc.constant("user" as const), payload: fc.uint8Array({ maxLength: 900 }) });
const accusation = { incarnation: u32, node: fc.string(), from: fc.string() };
const packetMessages: fc.Arbitrary<PacketMessage> = fc.oneof(
  pings,
  users,
  fc.record({
    kind: fc.constant("indirect-ping" as const),
    sequence: u32,
    node: fc.string(),
    source,
    target: fc.record({ address, portHostOrder: port }),
    wantsNack: fc.boolean(),
  }),
  fc.record({ kind: fc.constantFrom("ack" as const, "nack" as const), sequence: u32 }),
  fc.record({ kind: fc.constantFrom("suspect" as const, "dead" as const), ...accusation }),
  fc.record({ kind: fc.constant("alive" as const), node: fc.string(), ...presence }),
);
const members: fc.Arbitrary<Member> = fc.record({
  name: fc.string(),
  ...presence,
  state: fc.constantFrom("alive" as const, "suspect" as const, "dead" as const, "left" as const),
});
const streamMessages: fc.Arbitrary<StreamMessage> = fc.oneof(
  pings,
  users,
  fc.record({ kind: fc.constant("ack" as const), sequence: u32 }),
  fc.record({ kind: fc.constant("error" as const), message: fc.string() }),
  fc.record({
    kind: fc.constant("push-pull" as const),
    isJoin: fc.boolean(),
    members: fc.array(members, { maxLength: 40 }),
    userState: fc.uint8Array({ maxLength: 2000 }),
  }),
);
const keyrings = fc.constantFrom([], [key], [otherKey, key]);

test("messages survive packets with every layer", () => {
  fc.assert(
    fc.property(
      fc.array(packetMessages, { minLength: 1, maxLength: 60 }),
      keyrings,
      fc.boolean(),
      (sent, ring, withCrc) => {
        const packets = encodePackets(sent.map(encodeMessage), { keyring: ring, random, withCrc });
        const received = packets.flatMap((packet) => decodeWhole(packet, ring));
        assert.deepEqual(received, plain(sent));
      },
    ),
    { numRuns: 60 },
  );
});

test("messages survive streams cut anywhere", () => {
  fc.assert(
    fc.property(streamMessages, keyrings, fc.integer({ min: 1, max: 700 }), (sent, ring, chunkBytes) => {
      const bytes = encodeStream(sent, ring, random);
      const decoder = new StreamDecoder(ring);
      let received: StreamMessage | undefined;
      for (let i = 0; i < bytes.length; i += chunkBytes) received = decoder.push(bytes.subarray(i, i + chunkBytes));
      assert.deepEqual(plain(received), plain(sent));
    }),
    { numRuns: 60 },
  );
});

test("decoding is total", () => {
  const sample = fc.oneof(
    packetMessages.map(
      (m) => encodePackets([encodeMessage(m), encodeMessage(m)], { keyring: [], random, withCrc: false })[0],
    ),
    packetMessages.map(encodeMessage),
    streamMessages.map(encodeStreamMessage),
  );
  fc.assert(
    fc.property(sample, fc.array(fc.tuple(fc.nat(), fc.nat(255)), { maxLength: 4 }), fc.nat(), (bytes, edits, cut) => {
      const mutated = Uint8Array.from(bytes ?? []);
      for (const [at, value] of edits) mutated[at % mutated.length] = value;
      const input = cut % 3 === 0 ? mutated.subarray(0, cut % mutated.length) : mutated;
      for (const decode of [
        () => decodePacket(input, []),
        () => decodePacket(input, [key]),
        () => decodeStreamMessage(input),
        () => new StreamDecoder([]).push(input),
        () => new StreamDecoder([key]).push(input),
      ]) {
        try {
          decode();
        } catch (error) {
          assert.ok(error instanceof DecodeError, String(error));
        }
      }
    }),
    { numRuns: 500 },
  );
});

test("with a keyring clear packets and streams are refused", () => {
  const [clear] = encodePackets([encodeMessage(ack)], { keyring: [], random, withCrc: false });
  assert.throws(() => decodePacket(clear as Uint8Array, [key]), DecodeError);
  assert.throws(
    () => new StreamDecoder([key]).push(encodeStream({ kind: "ack", sequence: 1 }, [], random)),
    /not encrypted/,
  );
  assert.throws(
    () => new StreamDecoder([]).push(encodeStream({ kind: "ack", sequence: 1 }, [key], random)),
    /is encrypted/,
  );
});

test("packets too small to gain from it are not compressed, larger ones only when they do", () => {
  const packetOf = (bytes: Uint8Array) => encodePackets([bytes], { keyring: [], random, withCrc: false })[0];
  for (const small of [encodeMessage(ack), random.bytes(1000)]) assert.equal(packetOf(small), small);
  assert.equal(packetOf(Buffer.concat([encodeMessage(ack), Buffer.alloc(1000)]))?.[0], 9);
});

test("a compound cut off keeps its whole parts", () => {
  const compound = encodeCompound([encodeMessage(ack), encodeMessage(alive)]);
  const { messages, damaged } = decodePacket(compound.subarray(0, compound.length - 3), []);
  assert.deepEqual(messages, [ack]);
  assert.equal(damaged, 1);
});

function decodeWhole(packet: Uint8Array, ring: Keyring): readonly PacketMessage[] {
  const { messages, damaged } = decodePacket(packet, ring);
  assert.equal(damaged, 0);
  return plain(messages);
}

/** Without prototypes and Buffers, so that deepEqual compares contents. */
function plain<T>(value: T): T {
  return structuredClone(value);
}
