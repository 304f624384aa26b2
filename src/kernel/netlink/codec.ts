import { DecodeError } from "../../base/errors.ts";

/*
 * Netlink messages (linux/netlink.h). Multi-byte integers are in host order; x86-64 and arm64 are both little-endian.
 *
 *   header   0  u32 length, header included      4  u16 type    6  u16 flags    8  u32 sequence   12  u32 port
 *   then a fixed structure that the type decides, then attributes, all padded to 4 bytes
 *   attribute  0  u16 length, header included    2  u16 type (top bits: 15 nested, 14 network order)   4  value
 */
const headerBytes = 16;
const attributeHeaderBytes = 4;
/** An attribute's length is a u16. */
const maxAttributeBytes = 0xffff;

const NLM_F_ACK = 4;

const pad4 = (length: number) => (length + 3) & ~3;

export interface NetlinkMessage {
  readonly type: number;
  readonly flags: number;
  readonly sequence: number;
  readonly port: number;
  readonly payload: Uint8Array;
  /** Of the payload, in the bytes given to the decoder. */
  readonly offset: number;
}

/** Writes one message front to back; `finish` fills in length and sequence. */
export class MessageBuilder {
  #bytes = new Uint8Array(256);
  #view = new DataView(this.#bytes.buffer);
  #length = headerBytes;

  /** Whether an acknowledgement was asked for, so that it ends the answer. */
  readonly acknowledged: boolean;

  constructor(type: number, flags: number) {
    this.acknowledged = (flags & NLM_F_ACK) !== 0;
    this.#view.setUint16(4, type, true);
    this.#view.setUint16(6, flags, true);
  }

  /** The fixed structure, or any bytes already laid out. */
  raw(bytes: Uint8Array): this {
    const at = this.#grow(pad4(bytes.length));
    this.#bytes.set(bytes, at);
    return this;
  }

  bytes(type: number, value: Uint8Array): this {
    const length = attributeHeaderBytes + value.length;
    if (length > maxAttributeBytes) throw new RangeError(`attribute ${type} is too long: ${value.length} bytes`);
    const at = this.#grow(pad4(length));
    this.#view.setUint16(at, length, true);
    this.#view.setUint16(at + 2, type, true);
    this.#bytes.set(value, at + attributeHeaderBytes);
    return this;
  }

  flag(type: number): this {
    return this.bytes(type, new Uint8Array(0));
  }

  u8(type: number, value: number): this {
    return this.bytes(type, Uint8Array.of(value));
  }

  u16(type: number, value: number): this {
    return this.bytes(type, Uint8Array.of(value & 0xff, value >> 8));
  }

  /** Network order. */
  u16be(type: number, value: number): this {
    return this.bytes(type, Uint8Array.of(value >> 8, value & 0xff));
  }

  u32(type: number, value: number): this {
    return this.bytes(type, Uint8Array.of(value & 0xff, (value >>> 8) & 0xff, (value >>> 16) & 0xff, value >>> 24));
  }

  /** With the closing zero byte. */
  string(type: number, value: string): this {
    return this.bytes(type, new TextEncoder().encode(`${value}\0`));
  }

  nest(type: number, fill: (inner: this) => void): this {
    const at = this.#grow(attributeHeaderBytes);
    fill(this);
    const length = this.#length - at;
    if (length > maxAttributeBytes) throw new RangeError(`attribute ${type} is too long: ${length} bytes`);
    this.#view.setUint16(at, length, true);
    this.#view.setUint16(at + 2, type, true);
    return this;
  }

  finish(sequence: number): Uint8Array {
    this.#view.setUint32(0, this.#length, true);
    this.#view.setUint32(8, sequence, true);
    return this.#bytes.subarray(0, this.#length);
  }

  #grow(by: number): number {
    const at = this.#length;
    this.#length += by;
    if (this.#length > this.#bytes.length) {
      const larger = new Uint8Array(Math.max(this.#length, this.#bytes.length * 2));
      larger.set(this.#bytes);
      this.#bytes = larger;
      this.#view = new DataView(larger.buffer);
    }
    return at;
  }
}

/** @throws {DecodeError} */
export function decodeMessages(bytes: Uint8Array): NetlinkMessage[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const messages: NetlinkMessage[] = [];
  let at = 0;
  while (at < bytes.length) {
    if (bytes.length - at < headerBytes) {
      throw new DecodeError("netlink header", at, `${bytes.length - at} bytes are left, expected ${headerBytes}`);
    }
    const length = view.getUint32(at, true);
    if (length < headerBytes || length > bytes.length - at) {
      throw new DecodeError("netlink length", at, `${length} with ${bytes.length - at} bytes left`);
    }
    messages.push({
      type: view.getUint16(at + 4, true),
      flags: view.getUint16(at + 6, true),
      sequence: view.getUint32(at + 8, true),
      port: view.getUint32(at + 12, true),
      payload: bytes.subarray(at + headerBytes, at + length),
      offset: at + headerBytes,
    });
    at += pad4(length);
  }
  return messages;
}

/** Attributes by type; of a repeated one the last counts, as in the kernel. Values are checked when they are read. */
export class Attributes {
  readonly #values: ReadonlyMap<number, { readonly bytes: Uint8Array; readonly offset: number }>;

  constructor(values: ReadonlyMap<number, { readonly bytes: Uint8Array; readonly offset: number }>) {
    this.#values = values;
  }

  has(type: number): boolean {
    return this.#values.has(type);
  }

  bytes(type: number): Uint8Array | undefined {
    return this.#values.get(type)?.bytes;
  }

  /** Only if it has exactly that many bytes. @throws {DecodeError} otherwise. */
  sized(type: number, ...lengths: readonly number[]): Uint8Array | undefined {
    const value = this.#values.get(type);
    if (value === undefined) return undefined;
    if (!lengths.includes(value.bytes.length)) {
      throw new DecodeError(
        `attribute ${type}`,
        value.offset,
        `${value.bytes.length} bytes, expected ${lengths.join(" or ")}`,
      );
    }
    return value.bytes;
  }

  u8(type: number): number | undefined {
    return this.sized(type, 1)?.[0];
  }

  u16be(type: number): number | undefined {
    const value = this.sized(type, 2);
    return value === undefined ? undefined : (value[0] as number) * 256 + (value[1] as number);
  }

  u32(type: number): number | undefined {
    const value = this.sized(type, 4);
    return value === undefined ? undefined : new DataView(value.buffer, value.byteOffset, 4).getUint32(0, true);
  }

  i32(type: number): number | undefined {
    const value = this.u32(type);
    return value === undefined ? undefined : value | 0;
  }

  /** Up to the first zero byte. */
  string(type: number): string | undefined {
    const value = this.#values.get(type)?.bytes;
    if (value === undefined) return undefined;
    const end = value.indexOf(0);
    return new TextDecoder().decode(end < 0 ? value : value.subarray(0, end));
  }

  nested(type: number): Attributes | undefined {
    const value = this.#values.get(type);
    return value === undefined ? undefined : decodeAttributes(value.bytes, value.offset);
  }
}

/** @param offset where `bytes` starts, for the error. @throws {DecodeError} */
export function decodeAttributes(bytes: Uint8Array, offset: number): Attributes {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const values = new Map<number, { bytes: Uint8Array; offset: number }>();
  let at = 0;
  while (at < bytes.length) {
    const left = bytes.length - at;
    if (left < attributeHeaderBytes) {
      throw new DecodeError("netlink attribute", offset + at, `${left} bytes are left, expected 4`);
    }
    const length = view.getUint16(at, true);
    if (length < attributeHeaderBytes || length > left) {
      throw new DecodeError("netlink attribute length", offset + at, `${length} with ${left} bytes left`);
    }
    const type = view.getUint16(at + 2, true) & 0x3fff;
    values.set(type, {
      bytes: bytes.subarray(at + attributeHeaderBytes, at + length),
      offset: offset + at + attributeHeaderBytes,
    });
    at += pad4(length);
  }
  return new Attributes(values);
}

/** The fixed structure at the head of a payload and the attributes after it. @throws {DecodeError} when it is too short. */
export function splitPayload(
  message: NetlinkMessage,
  field: string,
  fixedBytes: number,
): { readonly fixed: DataView; readonly attributes: Attributes } {
  const { payload, offset } = message;
  if (payload.length < fixedBytes) {
    throw new DecodeError(field, offset, `${payload.length} bytes, expected at least ${fixedBytes}`);
  }
  return {
    fixed: new DataView(payload.buffer, payload.byteOffset, fixedBytes),
    attributes: decodeAttributes(payload.subarray(pad4(fixedBytes)), offset + pad4(fixedBytes)),
  };
}

export interface Acknowledgement {
  /** 0 is success. */
  readonly errno: number;
  /** The kernel's own words, when it had some. */
  readonly text: string | undefined;
}

const NLM_F_CAPPED = 0x100;
const NLM_F_ACK_TLVS = 0x200;
const NLMSGERR_ATTR_MSG = 1;

/**
 * NLMSG_ERROR:  0  i32 negated errno    4  header of the request (the whole request unless NLM_F_CAPPED)
 * then, with NLM_F_ACK_TLVS, attributes.  @throws {DecodeError}
 */
export function decodeAcknowledgement(message: NetlinkMessage): Acknowledgement {
  const { payload, offset, flags } = message;
  if (payload.length < 4) throw new DecodeError("netlink error", offset, `${payload.length} bytes, expected 4`);
  const view = new DataView(payload.buffer, payload.byteOffset, payload.byteLength);
  const errno = Math.abs(view.getInt32(0, true));
  if ((flags & NLM_F_ACK_TLVS) === 0 || payload.length < 4 + headerBytes) return { errno, text: undefined };
  const requestBytes = (flags & NLM_F_CAPPED) === 0 ? pad4(view.getUint32(4, true)) : headerBytes;
  const start = 4 + requestBytes;
  if (start > payload.length) {
    throw new DecodeError("netlink error request", offset + 4, `${requestBytes} bytes with ${payload.length - 4} left`);
  }
  return { errno, text: decodeAttributes(payload.subarray(start), offset + start).string(NLMSGERR_ATTR_MSG) };
}
