import { crc32 } from "node:zlib";
import { DecodeError } from "../../base/errors.ts";
import type { Random } from "../../base/random.ts";
import { compress, decompress } from "../../wire/lzw/mod.ts";
import { encode, MsgpackReader, TruncatedError } from "../../wire/msgpack/mod.ts";
import type { Keyring } from "../keyring.ts";
import { decodeMessage, messageType, type PacketMessage } from "./codec.ts";
import { envelopeOverheadBytes, seal, unseal } from "./envelope.ts";

// A packet, outermost layer first (reference: network-data-plane 5.4): envelope, CRC, compress, compound, message.

export const compoundHeaderBytes = 2;
export const compoundPartBytes = 2;
const maxCompoundParts = 255;
const maxPacketBytes = 65_507;
const maxInflatedBytes = 1 << 20;
const maxLayers = 4;
/**
 * Compression's own frame takes about 20 bytes, and a code for each new pair of bytes is 9 bits at the least: packets below
 * this, pings and acks above all, come out larger, whatever is in them but runs of one byte.
 */
const leastCompressibleBytes = 64;
const noAad = new Uint8Array();

export interface PacketOptions {
  readonly keyring: Keyring;
  readonly random: Random;
  /** Only peers that understand protocol 5 get a CRC header. */
  readonly withCrc: boolean;
}

/** Messages to datagrams: more than one only beyond 255 parts. */
export function encodePackets(parts: readonly Uint8Array[], options: PacketOptions): Uint8Array[] {
  const packets: Uint8Array[] = [];
  for (let i = 0; i < parts.length; i += maxCompoundParts) {
    const group = parts.slice(i, i + maxCompoundParts);
    const plain = group.length === 1 ? (group[0] as Uint8Array) : encodeCompound(group);
    const small = plain.length < leastCompressibleBytes ? plain : smaller(plain, encodeCompressed(plain));
    const checked = options.withCrc ? withCrc(small) : small;
    packets.push(options.keyring.length > 0 ? seal(checked, options.keyring, options.random, noAad) : checked);
  }
  return packets;
}

/** What is left of a UDP budget for a compound's parts. */
export function partsBudgetBytes(udpBudgetBytes: number, isEncrypted: boolean): number {
  return udpBudgetBytes - compoundHeaderBytes - (isEncrypted ? envelopeOverheadBytes : 0);
}

export interface DecodedPacket {
  readonly messages: readonly PacketMessage[];
  /** Parts left out since they were cut off or made no sense; the rest of the packet counts all the same. */
  readonly damaged: number;
}

/** @throws {DecodeError} when the packet as a whole cannot be read. */
export function decodePacket(bytes: Uint8Array, keyring: Keyring): DecodedPacket {
  if (bytes.length > maxPacketBytes) throw new DecodeError("packet", 0, `${bytes.length} bytes`);
  if (bytes[0] === messageType.label) throw new DecodeError("packet", 0, "labelled, but this cluster has no label");
  const plain = keyring.length > 0 ? unseal(bytes, keyring, noAad) : bytes;
  const checked = plain[0] === messageType.crc ? checkCrc(plain) : plain;
  const messages: PacketMessage[] = [];
  const damaged = unwrap(checked, messages, 0);
  return { messages, damaged };
}

/** Collects the messages inside; returns how many parts had to be left out. */
function unwrap(bytes: Uint8Array, into: PacketMessage[], layer: number): number {
  if (layer > maxLayers) throw new DecodeError("packet", 0, `more than ${maxLayers} layers`);
  if (bytes[0] === messageType.compress) return unwrap(inflate(bytes, maxInflatedBytes), into, layer + 1);
  if (bytes[0] !== messageType.compound) {
    into.push(decodeMessage(bytes));
    return 0;
  }
  const { parts, missing } = decodeCompound(bytes);
  let damaged = missing;
  for (const part of parts) {
    try {
      damaged += unwrap(part, into, layer + 1);
    } catch (error) {
      if (!(error instanceof DecodeError)) throw error;
      damaged += 1;
    }
  }
  return damaged;
}

/** `07`, count u8, count lengths u16 big-endian, then the parts. */
export function encodeCompound(parts: readonly Uint8Array[]): Uint8Array {
  const head = new Uint8Array(compoundHeaderBytes + parts.length * compoundPartBytes);
  const view = new DataView(head.buffer);
  head[0] = messageType.compound;
  head[1] = parts.length;
  for (const [i, part] of parts.entries()) {
    if (part.length > 0xffff) throw new RangeError(`a compound part has at most 65535 bytes, got ${part.length}`);
    view.setUint16(compoundHeaderBytes + i * compoundPartBytes, part.length);
  }
  return Buffer.concat([head, ...parts]);
}

function decodeCompound(bytes: Uint8Array): { readonly parts: Uint8Array[]; readonly missing: number } {
  const count = bytes[1];
  if (count === undefined) throw new TruncatedError("compound", 1);
  let offset = compoundHeaderBytes + count * compoundPartBytes;
  if (bytes.length < offset) throw new TruncatedError("compound lengths", compoundHeaderBytes);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const parts: Uint8Array[] = [];
  for (let i = 0; i < count; i++) {
    const length = view.getUint16(compoundHeaderBytes + i * compoundPartBytes);
    if (offset + length > bytes.length) return { parts, missing: count - i };
    parts.push(bytes.subarray(offset, offset + length));
    offset += length;
  }
  return { parts, missing: 0 };
}

export function encodeCompressed(plain: Uint8Array): Uint8Array {
  return Buffer.concat([Uint8Array.of(messageType.compress), encode({ Algo: 0, Buf: compress(plain) })]);
}

/** @throws {DecodeError} `TruncatedError` when the message is cut off. */
export function inflate(bytes: Uint8Array, maxBytes: number): Uint8Array {
  const fields = new MsgpackReader(bytes, 1).struct("compress");
  const algorithm = fields.get("Algo") ?? 0;
  if (algorithm !== 0) throw new DecodeError("compress Algo", 1, "only LZW is known");
  const body = fields.get("Buf");
  if (!(body instanceof Uint8Array)) throw new DecodeError("compress Buf", 1, "expected bytes");
  return decompress(body, maxBytes);
}

function smaller(a: Uint8Array, b: Uint8Array): Uint8Array {
  return b.length < a.length ? b : a;
}

/** `0C` + CRC-32 (IEEE) big-endian of all that follows. */
function withCrc(plain: Uint8Array): Uint8Array {
  const head = new Uint8Array(5);
  head[0] = messageType.crc;
  new DataView(head.buffer).setUint32(1, crc32(plain));
  return Buffer.concat([head, plain]);
}

function checkCrc(bytes: Uint8Array): Uint8Array {
  if (bytes.length < 5) throw new TruncatedError("crc", 1);
  const body = bytes.subarray(5);
  const claimed = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength).getUint32(1);
  if (crc32(body) !== claimed) throw new DecodeError("crc", 1, "does not match");
  return body;
}
