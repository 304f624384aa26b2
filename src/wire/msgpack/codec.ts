import { DecodeError } from "../../base/errors.ts";

/**
 * What can be written. Strings and bytes both become raw (reference: network-data-plane 5.3).
 */
export type Value =
  | null
  | boolean
  | number
  | bigint
  | string
  | Uint8Array
  | readonly Value[]
  | { readonly [field: string]: Value };

/** What reading gives: text and bytes look the same on the wire, so both are bytes. */
export type RawValue = null | boolean | number | bigint | Uint8Array | RawValue[] | Map<string, RawValue>;

/** The input ends inside a value. On a stream this means: wait for more. */
export class TruncatedError extends DecodeError {
  constructor(field: string, offset: number) {
    super(field, offset, "input ends inside the value");
    this.name = "TruncatedError";
  }
}

const maxDepth = 8;
const utf8 = new TextDecoder("utf-8", { fatal: true });
const utf8Encoder = new TextEncoder();

export function encode(value: Value): Uint8Array {
  const parts: Uint8Array[] = [];
  write(value, parts);
  return Buffer.concat(parts);
}

function write(value: Value, out: Uint8Array[]): void {
  if (value === null) out.push(Uint8Array.of(0xc0));
  else if (typeof value === "boolean") out.push(Uint8Array.of(value ? 0xc3 : 0xc2));
  else if (typeof value === "number" || typeof value === "bigint") out.push(integer(value));
  else if (typeof value === "string") writeRaw(utf8Encoder.encode(value), out);
  else if (value instanceof Uint8Array) writeRaw(value, out);
  else if (isArray(value)) {
    out.push(header(value.length, 0x90, 0xdc));
    for (const item of value) write(item, out);
  } else {
    const fields = Object.entries(value);
    out.push(header(fields.length, 0x80, 0xde));
    for (const [name, field] of fields) {
      write(name, out);
      write(field, out);
    }
  }
}

function isArray(value: readonly Value[] | { readonly [field: string]: Value }): value is readonly Value[] {
  return Array.isArray(value);
}

/** Fix form below 16, else the 16-bit form `wide` or the 32-bit form right after it. */
function header(count: number, fix: number, wide: number): Uint8Array {
  if (count < 16) return Uint8Array.of(fix | count);
  return count <= 0xffff ? tagged(wide, BigInt(count), 2) : tagged(wide + 1, BigInt(count), 4);
}

/** The legacy raw family; never str8 nor bin, which engines up to 28 cannot read. */
function writeRaw(bytes: Uint8Array, out: Uint8Array[]): void {
  if (bytes.length < 32) out.push(Uint8Array.of(0xa0 | bytes.length));
  else if (bytes.length <= 0xffff) out.push(tagged(0xda, BigInt(bytes.length), 2));
  else out.push(tagged(0xdb, BigInt(bytes.length), 4));
  out.push(bytes);
}

/** Positives in the unsigned forms, negatives in the signed ones. @throws {RangeError} when no 64-bit integer. */
function integer(number: number | bigint): Uint8Array {
  const value = BigInt(number);
  if (value > 0xffff_ffff_ffff_ffffn || value < -0x8000_0000_0000_0000n) {
    throw new RangeError(`msgpack has no integer as large as ${value}`);
  }
  if (value >= 0n) {
    if (value < 0x80n) return Uint8Array.of(Number(value));
    if (value <= 0xffn) return tagged(0xcc, value, 1);
    if (value <= 0xffffn) return tagged(0xcd, value, 2);
    if (value <= 0xffff_ffffn) return tagged(0xce, value, 4);
    return tagged(0xcf, value, 8);
  }
  if (value >= -0x20n) return Uint8Array.of(Number(value) & 0xff);
  if (value >= -0x80n) return tagged(0xd0, value, 1);
  if (value >= -0x8000n) return tagged(0xd1, value, 2);
  if (value >= -0x8000_0000n) return tagged(0xd2, value, 4);
  return tagged(0xd3, value, 8);
}

function tagged(tag: number, value: bigint, width: 1 | 2 | 4 | 8): Uint8Array {
  const out = new Uint8Array(1 + width);
  out[0] = tag;
  let rest = BigInt.asUintN(width * 8, value);
  for (let i = width; i > 0; i--) {
    out[i] = Number(rest & 0xffn);
    rest >>= 8n;
  }
  return out;
}

/**
 * Reads values one after another; `offset` stands behind the last one. Accepts raw, str8 and bin for bytes and both
 * signs of every width for integers, since the two codecs in the field differ there.
 */
export class MsgpackReader {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  offset: number;

  constructor(bytes: Uint8Array, offset = 0) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.offset = offset;
  }

  /** `field` names the value in errors. @throws {DecodeError} */
  value(field: string): RawValue {
    return this.#value(field, 0);
  }

  /** A struct: a map with text keys, or an empty map for nil. @throws {DecodeError} */
  struct(field: string): Map<string, RawValue> {
    const start = this.offset;
    const value = this.value(field);
    if (value === null) return new Map();
    if (value instanceof Map) return value;
    throw new DecodeError(field, start, "expected a map");
  }

  /** `length` bytes as they are, a view of the input. @throws {TruncatedError} */
  take(field: string, length: number): Uint8Array {
    if (length > this.#bytes.length - this.offset) throw new TruncatedError(field, this.offset);
    const taken = this.#bytes.subarray(this.offset, this.offset + length);
    this.offset += length;
    return taken;
  }

  #value(field: string, depth: number): RawValue {
    const start = this.offset;
    const tag = this.#unsigned(field, 1);
    if (tag < 0x80) return tag;
    if (tag < 0x90) return this.#map(field, tag & 0x0f, depth);
    if (tag < 0xa0) return this.#array(field, tag & 0x0f, depth);
    if (tag < 0xc0) return this.take(field, tag & 0x1f);
    if (tag >= 0xe0) return tag - 0x100;
    switch (tag) {
      case 0xc0:
        return null;
      case 0xc2:
        return false;
      case 0xc3:
        return true;
      case 0xc4:
      case 0xd9:
        return this.take(field, this.#unsigned(field, 1));
      case 0xc5:
      case 0xda:
        return this.take(field, this.#unsigned(field, 2));
      case 0xc6:
      case 0xdb:
        return this.take(field, this.#unsigned(field, 4));
      case 0xca:
        return this.#float(field, 4);
      case 0xcb:
        return this.#float(field, 8);
      case 0xcc:
        return this.#unsigned(field, 1);
      case 0xcd:
        return this.#unsigned(field, 2);
      case 0xce:
        return this.#unsigned(field, 4);
      case 0xcf:
      case 0xd3:
        return this.#wide(field, tag === 0xd3);
      case 0xd0:
        return (this.#unsigned(field, 1) << 24) >> 24;
      case 0xd1:
        return (this.#unsigned(field, 2) << 16) >> 16;
      case 0xd2:
        return this.#unsigned(field, 4) | 0;
      case 0xdc:
        return this.#array(field, this.#unsigned(field, 2), depth);
      case 0xdd:
        return this.#array(field, this.#unsigned(field, 4), depth);
      case 0xde:
        return this.#map(field, this.#unsigned(field, 2), depth);
      case 0xdf:
        return this.#map(field, this.#unsigned(field, 4), depth);
      default:
        throw new DecodeError(field, start, `unknown msgpack type 0x${tag.toString(16)}`);
    }
  }

  #map(field: string, count: number, depth: number): Map<string, RawValue> {
    this.#checkNesting(field, count * 2, depth);
    const map = new Map<string, RawValue>();
    for (let i = 0; i < count; i++) {
      const start = this.offset;
      const key = this.#value(field, depth + 1);
      if (!(key instanceof Uint8Array)) throw new DecodeError(field, start, "expected a text key");
      map.set(textOf(field, key, start), this.#value(field, depth + 1));
    }
    return map;
  }

  #array(field: string, count: number, depth: number): RawValue[] {
    this.#checkNesting(field, count, depth);
    const items: RawValue[] = [];
    for (let i = 0; i < count; i++) items.push(this.#value(field, depth + 1));
    return items;
  }

  /** Every value takes a byte at least, so a count beyond the input is found before anything is built. */
  #checkNesting(field: string, values: number, depth: number): void {
    if (depth >= maxDepth) throw new DecodeError(field, this.offset, `nested deeper than ${maxDepth}`);
    if (values > this.#bytes.length - this.offset) throw new TruncatedError(field, this.offset);
  }

  #unsigned(field: string, width: 1 | 2 | 4): number {
    const at = this.offset;
    this.take(field, width);
    if (width === 1) return this.#view.getUint8(at);
    return width === 2 ? this.#view.getUint16(at) : this.#view.getUint32(at);
  }

  #float(field: string, width: 4 | 8): number {
    const at = this.offset;
    this.take(field, width);
    return width === 4 ? this.#view.getFloat32(at) : this.#view.getFloat64(at);
  }

  #wide(field: string, signed: boolean): number | bigint {
    const at = this.offset;
    this.take(field, 8);
    const value = signed ? this.#view.getBigInt64(at) : this.#view.getBigUint64(at);
    return Number.isSafeInteger(Number(value)) ? Number(value) : value;
  }
}

/** Text of raw bytes. @throws {DecodeError} when it is not UTF-8. */
export function textOf(field: string, raw: Uint8Array, offset: number): string {
  try {
    return utf8.decode(raw);
  } catch {
    throw new DecodeError(field, offset, "text is not UTF-8");
  }
}
