import { DecodeError } from "../../base/errors.ts";
import { type IpAddress, type IpFamily, ipFromBytes, ipToBytes } from "../../base/ip.ts";

/*
 * Message (RFC 1035 s4.1); all numbers big-endian:
 *
 *   offset  size  field
 *        0     2  id
 *        2     2  QR 1 bit, OPCODE 4, AA 1, TC 1, RD 1 | RA 1, Z 1, AD 1, CD 1, RCODE 4
 *        4     2  QDCOUNT       6  2  ANCOUNT       8  2  NSCOUNT       10  2  ARCOUNT
 *       12     -  question: QNAME (labels: length 1, bytes; ended by a zero length), QTYPE 2, QCLASS 2
 *        -     -  resource records: NAME, TYPE 2, CLASS 2, TTL 4, RDLENGTH 2, RDATA
 *
 * OPT (RFC 6891 s6.1.2): a record of the additional section, NAME root, TYPE 41, CLASS = UDP payload size of the sender.
 */
export const headerSize = 12;
export const maxMessageSize = 65535;
/** What a client without EDNS0 accepts over UDP (RFC 1035 s2.3.4). */
export const plainUdpSize = 512;
const maxNameSize = 255;
const maxLabelSize = 63;
/** A query has nothing to say in 16 records beyond OPT and a signature; more is refused rather than walked. */
const maxQueryRecords = 16;

export const recordType = { A: 1, PTR: 12, MX: 15, AAAA: 28, OPT: 41 } as const;
export const rcode = {
  noError: 0,
  formatError: 1,
  serverFailure: 2,
  nameError: 3,
  notImplemented: 4,
  refused: 5,
} as const;
export type Rcode = (typeof rcode)[keyof typeof rcode];
const classIn = 1;

/** A standard query with one question; `bytes` is the message itself, answers are made from it. */
export interface Query {
  readonly bytes: Uint8Array;
  readonly id: number;
  /**
   * Lower case, without the final dot; the empty string is the root. Undefined when a label holds bytes that no host name has
   * (a dot, a control or 8-bit character), so that it cannot be mistaken for another name.
   */
  readonly name: string | undefined;
  readonly type: number;
  readonly isInternet: boolean;
  /** Offset of the first byte behind the question. */
  readonly questionEnd: number;
  /** UDP payload size that the client offers by EDNS0, 512 at least; undefined without OPT. */
  readonly ednsSize: number | undefined;
}

/** What to do with a message that is no standard query. */
export type Unanswerable = { readonly kind: "ignore" } | { readonly kind: "refuse"; readonly rcode: Rcode };

/**
 * Reads a query. @throws {DecodeError} for a header that is cut off, or a question or record that is malformed.
 * A response, another opcode or another number of questions is no error here: ask `unanswerable` first.
 */
export function decodeQuery(bytes: Uint8Array): Query {
  if (bytes.length < headerSize) throw new DecodeError("header", bytes.length, "cut off");
  const question = decodeQuestion(bytes);
  const records = u16(bytes, 6) + u16(bytes, 8) + u16(bytes, 10);
  return {
    bytes,
    id: u16(bytes, 0),
    ...question,
    ednsSize: records === 0 ? undefined : findEdnsSize(bytes, question.questionEnd, records),
  };
}

/** Undefined for a standard query with one question, else how to treat the message. Needs a whole header. */
export function unanswerable(bytes: Uint8Array): Unanswerable | undefined {
  if (bytes.length < headerSize || ((bytes[2] as number) & 0x80) !== 0) return { kind: "ignore" };
  if (((bytes[2] as number) & 0x78) !== 0) return { kind: "refuse", rcode: rcode.notImplemented };
  if (u16(bytes, 4) !== 1) return { kind: "refuse", rcode: rcode.formatError };
  return undefined;
}

type Question = Pick<Query, "name" | "type" | "isInternet" | "questionEnd">;

function decodeQuestion(bytes: Uint8Array): Question {
  let offset = headerSize;
  let name = "";
  let isHostName = true;
  for (;;) {
    const length = bytes[offset];
    if (length === undefined) throw new DecodeError("question name", offset, "cut off");
    if (length === 0) break;
    // Nothing stands before the first name, so there is nothing it could point to.
    if (length > maxLabelSize) throw new DecodeError("question name", offset, "label too long or compressed");
    const end = offset + 1 + length;
    if (end >= bytes.length) throw new DecodeError("question name", offset, "cut off");
    if (end + 1 - headerSize > maxNameSize) throw new DecodeError("question name", offset, "longer than 255 bytes");
    if (name !== "") name += ".";
    for (let i = offset + 1; i < end; i++) {
      let c = bytes[i] as number;
      if (c >= 0x41 && c <= 0x5a) c |= 0x20;
      else if (c <= 0x20 || c >= 0x7f || c === 0x2e) isHostName = false;
      name += String.fromCharCode(c);
    }
    offset = end;
  }
  const fixed = offset + 1;
  if (fixed + 4 > bytes.length) throw new DecodeError("question", fixed, "cut off");
  return {
    name: isHostName ? name : undefined,
    type: u16(bytes, fixed),
    isInternet: u16(bytes, fixed + 2) === classIn,
    questionEnd: fixed + 4,
  };
}

function findEdnsSize(bytes: Uint8Array, start: number, count: number): number | undefined {
  if (count > maxQueryRecords) throw new DecodeError("record counts", 6, `${count} records in a query`);
  let offset = start;
  let found: number | undefined;
  for (let i = 0; i < count; i++) {
    const name = offset;
    offset = skipName(bytes, offset);
    if (offset + 10 > bytes.length) throw new DecodeError("record", offset, "cut off");
    if (u16(bytes, offset) === recordType.OPT && offset === name + 1) {
      found = Math.max(u16(bytes, offset + 2), plainUdpSize);
    }
    offset += 10 + u16(bytes, offset + 8);
    if (offset > bytes.length) throw new DecodeError("record data", offset, "cut off");
  }
  return found;
}

/** Offset behind a name, without following its pointer. */
function skipName(bytes: Uint8Array, start: number): number {
  let offset = start;
  for (;;) {
    const length = bytes[offset];
    if (length === undefined) throw new DecodeError("name", offset, "cut off");
    if (length === 0) return offset + 1;
    if (length >= 0xc0) return offset + 2;
    if (length > maxLabelSize) throw new DecodeError("name", offset, `reserved label type ${length >> 6}`);
    offset += 1 + length;
    if (offset - start > maxNameSize) throw new DecodeError("name", start, "longer than 255 bytes");
  }
}

/** An answer without records: a failure, or `noError` for a name that has nothing of the asked type. */
export function encodeEmpty(query: Query, code: Rcode): Uint8Array {
  const out = copyOf(query.bytes, query.questionEnd);
  writeHeader(out, code, 1, 0);
  return out;
}

/** The answer to a message whose question could not be read: header only. `bytes` holds a whole header. */
export function encodeRefusal(bytes: Uint8Array, code: Rcode): Uint8Array {
  const out = copyOf(bytes, headerSize);
  writeHeader(out, code, 0, 0);
  return out;
}

const fixedRecordSize = 12;

/**
 * One A or AAAA record per address, all of `family`. What does not fit into `limitBytes` is left out and TC says so.
 */
export function encodeAddresses(
  query: Query,
  answer: { readonly family: IpFamily; readonly addresses: readonly IpAddress[]; readonly ttlSeconds: number },
  limitBytes: number,
): Uint8Array {
  const dataSize = answer.family === 4 ? 4 : 16;
  const recordSize = fixedRecordSize + dataSize;
  const room = Math.max(0, Math.floor((limitBytes - query.questionEnd) / recordSize));
  const count = Math.min(room, answer.addresses.length);
  const out = Buffer.allocUnsafe(query.questionEnd + count * recordSize);
  out.set(query.questionEnd === query.bytes.length ? query.bytes : query.bytes.subarray(0, query.questionEnd), 0);
  writeHeader(out, rcode.noError, 1, count);
  if (count < answer.addresses.length) truncated(out);
  let offset = query.questionEnd;
  for (let i = 0; i < count; i++) {
    const type = answer.family === 4 ? recordType.A : recordType.AAAA;
    offset = writeRecordHead(out, offset, { type, ttlSeconds: answer.ttlSeconds, dataSize });
    const ip = answer.addresses[i] as IpAddress;
    if (answer.family === 4) writeIpv4(out, offset, ip);
    else out.set(ipToBytes(ip), offset);
    offset += dataSize;
  }
  return out;
}

/** One PTR record that names `target` (without a final dot). A target that is no valid name gives an empty answer. */
export function encodePointer(
  query: Query,
  answer: { readonly target: string; readonly ttlSeconds: number },
  limitBytes: number,
): Uint8Array {
  const data = encodeName(answer.target);
  const size = query.questionEnd + fixedRecordSize + (data?.length ?? 0);
  if (data === undefined || size > limitBytes) {
    const empty = encodeEmpty(query, rcode.noError);
    if (data !== undefined) truncated(empty);
    return empty;
  }
  const out = Buffer.allocUnsafe(size);
  out.set(query.bytes.subarray(0, query.questionEnd), 0);
  writeHeader(out, rcode.noError, 1, 1);
  const { ttlSeconds } = answer;
  const offset = writeRecordHead(out, query.questionEnd, { type: recordType.PTR, ttlSeconds, dataSize: data.length });
  out.set(data, offset);
  return out;
}

function encodeName(name: string): Uint8Array | undefined {
  const labels = name.split(".").map((label) => Buffer.from(label, "utf8"));
  if (labels.some((label) => label.length === 0 || label.length > maxLabelSize)) return undefined;
  const out = Buffer.concat([...labels.flatMap((label) => [Uint8Array.of(label.length), label]), Uint8Array.of(0)]);
  return out.length > maxNameSize ? undefined : out;
}

/** NAME is a pointer to the question's name, which stands right behind the header: c0 0c. */
function writeRecordHead(
  out: Uint8Array,
  offset: number,
  record: { readonly type: number; readonly ttlSeconds: number; readonly dataSize: number },
): number {
  out[offset] = 0xc0;
  out[offset + 1] = headerSize;
  put16(out, offset + 2, record.type);
  put16(out, offset + 4, classIn);
  put16(out, offset + 6, record.ttlSeconds >>> 16);
  put16(out, offset + 8, record.ttlSeconds & 0xffff);
  put16(out, offset + 10, record.dataSize);
  return offset + fixedRecordSize;
}

/** QR and RA set, OPCODE and RD as asked, AA, TC, AD and CD clear (reference: network-data-plane 7.3). */
function writeHeader(out: Uint8Array, code: Rcode, questions: number, answers: number): void {
  out[2] = 0x80 | ((out[2] as number) & 0x79);
  out[3] = 0x80 | code;
  put16(out, 4, questions);
  put16(out, 6, answers);
  put16(out, 8, 0);
  put16(out, 10, 0);
}

function truncated(message: Uint8Array): void {
  message[2] = (message[2] as number) | 0x02;
}

/** An upstream's answer as it may be passed on over UDP: whole, or cut down to its question with TC set. */
export function truncateTo(query: Query, response: Uint8Array, limitBytes: number): Uint8Array {
  if (response.length <= limitBytes) return response;
  const out = encodeEmpty(query, responseCode(response));
  truncated(out);
  return out;
}

/** Whether `response` is one and answers this question: same question, byte for byte but for case. The id is the caller's. */
export function isAnswerTo(query: Query, response: Uint8Array): boolean {
  if (response.length < query.questionEnd || ((response[2] as number) & 0x80) === 0 || u16(response, 4) !== 1)
    return false;
  for (let i = headerSize; i < query.questionEnd; i++) {
    if (lower(query.bytes[i] as number) !== lower(response[i] as number)) return false;
  }
  return true;
}

/** The low four bits; extended codes of EDNS0 are left to the client. */
export function responseCode(response: Uint8Array): Rcode {
  return ((response[3] as number) & 0x0f) as Rcode;
}

export function answerCount(response: Uint8Array): number {
  return u16(response, 6);
}

export function idOf(message: Uint8Array): number {
  return u16(message, 0);
}

/** A copy of the message under another id. */
export function withId(message: Uint8Array, id: number): Uint8Array {
  const out = copyOf(message, message.length);
  put16(out, 0, id);
  return out;
}

const ipv4Suffix = ".in-addr.arpa";
const ipv6Suffix = ".ip6.arpa";

/** The address that a reverse name (lower case) stands for, or undefined (RFC 1035 s3.5, RFC 3596 s2.5). */
export function addressOfReverseName(name: string): IpAddress | undefined {
  if (name.endsWith(ipv4Suffix)) {
    const parts = name.slice(0, -ipv4Suffix.length).split(".");
    if (parts.length !== 4 || !parts.every((part) => /^(0|[1-9]\d{0,2})$/.test(part) && Number(part) < 256))
      return undefined;
    return ipFromBytes(Uint8Array.from(parts.reverse(), Number));
  }
  if (name.endsWith(ipv6Suffix)) {
    const nibbles = name.slice(0, -ipv6Suffix.length);
    if (!/^([0-9a-f]\.){31}[0-9a-f]$/.test(nibbles)) return undefined;
    return ipFromBytes(Buffer.from(nibbles.split(".").reverse().join(""), "hex"));
  }
  return undefined;
}

/** `slice` would do, but that of a Buffer is a view. */
function copyOf(bytes: Uint8Array, end: number): Uint8Array {
  return new Uint8Array(bytes.subarray(0, end));
}

function u16(bytes: Uint8Array, offset: number): number {
  return ((bytes[offset] as number) << 8) | (bytes[offset + 1] as number);
}

function put16(out: Uint8Array, offset: number, value: number): void {
  out[offset] = value >>> 8;
  out[offset + 1] = value;
}

function lower(c: number): number {
  return c >= 0x41 && c <= 0x5a ? c | 0x20 : c;
}

/** Straight from the text, without garbage: this is on the path of every answer. */
function writeIpv4(out: Uint8Array, start: number, ip: IpAddress): void {
  let offset = start;
  let value = 0;
  for (let i = 0; i < ip.length; i++) {
    const c = ip.charCodeAt(i);
    if (c === 0x2e) {
      out[offset++] = value;
      value = 0;
    } else {
      value = value * 10 + (c - 0x30);
    }
  }
  out[offset] = value;
}
