import { DecodeError } from "../../base/errors.ts";
import { type IpAddress, ipFromBytes, ipToBytes } from "../../base/ip.ts";
import { encode, MsgpackReader, type RawValue, TruncatedError, textOf, type Value } from "../../wire/msgpack/mod.ts";
import type { Endpoint, Member, MemberStateKind, Versions } from "./model.ts";

/** First byte of a message (reference: network-data-plane 5.2). */
export const messageType = {
  ping: 0,
  indirectPing: 1,
  ack: 2,
  suspect: 3,
  alive: 4,
  dead: 5,
  pushPull: 6,
  compound: 7,
  user: 8,
  compress: 9,
  encrypt: 10,
  nack: 11,
  crc: 12,
  error: 13,
  label: 244,
} as const;

/** Where the answer to a ping shall go; without it, to the packet's source. */
export interface PingSource extends Endpoint {
  readonly node: string;
}

export interface Ping {
  readonly kind: "ping";
  readonly sequence: number;
  /** The name the target shall have; empty: any. */
  readonly node: string;
  readonly source: PingSource | undefined;
}
export interface IndirectPing extends Omit<Ping, "kind"> {
  readonly kind: "indirect-ping";
  readonly target: Endpoint;
  readonly wantsNack: boolean;
}
export interface Ack {
  readonly kind: "ack";
  readonly sequence: number;
}
export interface Nack {
  readonly kind: "nack";
  readonly sequence: number;
}
export interface Suspect {
  readonly kind: "suspect";
  readonly incarnation: number;
  readonly node: string;
  readonly from: string;
}
export interface Dead extends Omit<Suspect, "kind"> {
  readonly kind: "dead";
}
export interface Alive extends Omit<Member, "name" | "state"> {
  readonly kind: "alive";
  readonly node: string;
}
/** The application's own message, as it is. */
export interface User {
  readonly kind: "user";
  readonly payload: Uint8Array;
}
export interface PushPull {
  readonly kind: "push-pull";
  readonly isJoin: boolean;
  readonly members: readonly Member[];
  readonly userState: Uint8Array;
}
export interface Failure {
  readonly kind: "error";
  readonly message: string;
}

export type PacketMessage = Ping | IndirectPing | Ack | Nack | Suspect | Dead | Alive | User;
export type StreamMessage = Ping | Ack | User | PushPull | Failure;

export const maxUserBytes = 20 << 20;
export const maxMembers = 1_048_576;
const maxMetaBytes = 512;
const memberStates: readonly MemberStateKind[] = ["alive", "suspect", "dead", "left"];

/** Type byte, then one msgpack map with Go's field names, in the order in which they are declared there. */
export function encodeMessage(message: PacketMessage): Uint8Array {
  switch (message.kind) {
    case "ping":
      return struct(messageType.ping, {
        SeqNo: message.sequence,
        Node: message.node,
        ...sourceFields(message.source),
      });
    case "indirect-ping":
      return struct(messageType.indirectPing, {
        SeqNo: message.sequence,
        Target: ipToBytes(message.target.address),
        Port: message.target.portHostOrder,
        Node: message.node,
        Nack: message.wantsNack,
        ...sourceFields(message.source),
      });
    case "ack":
      return struct(messageType.ack, { SeqNo: message.sequence, Payload: null });
    case "nack":
      return struct(messageType.nack, { SeqNo: message.sequence });
    case "suspect":
    case "dead":
      return struct(messageType[message.kind], {
        Incarnation: message.incarnation,
        Node: message.node,
        From: message.from,
      });
    case "alive":
      return struct(messageType.alive, {
        Incarnation: message.incarnation,
        Node: message.node,
        Addr: ipToBytes(message.address),
        Port: message.portHostOrder,
        Meta: message.meta,
        Vsn: versionBytes(message.versions),
      });
    case "user":
      return Buffer.concat([Uint8Array.of(messageType.user), message.payload]);
  }
}

/** @throws {DecodeError} */
export function decodeMessage(bytes: Uint8Array): PacketMessage {
  const type = bytes[0];
  if (type === undefined) throw new TruncatedError("message", 0);
  if (type === messageType.user) return { kind: "user", payload: bytes.subarray(1) };
  const read = (field: string) => new Fields(new MsgpackReader(bytes, 1), field);
  switch (type) {
    case messageType.ping:
      return pingOf(read("ping"));
    case messageType.indirectPing: {
      const fields = read("indirect ping");
      return {
        ...pingOf(fields),
        kind: "indirect-ping",
        target: { address: fields.address("Target"), portHostOrder: fields.unsigned("Port", 0xffff) },
        wantsNack: fields.boolean("Nack"),
      };
    }
    case messageType.ack:
      return { kind: "ack", sequence: read("ack").unsigned("SeqNo") };
    case messageType.nack:
      return { kind: "nack", sequence: read("nack").unsigned("SeqNo") };
    case messageType.suspect:
      return { kind: "suspect", ...accusationOf(read("suspect")) };
    case messageType.dead:
      return { kind: "dead", ...accusationOf(read("dead")) };
    case messageType.alive: {
      const fields = read("alive");
      return { kind: "alive", node: fields.text("Node"), ...presenceOf(fields) };
    }
    default:
      throw new DecodeError("message", 0, `unknown type ${type}`);
  }
}

export function encodeStreamMessage(message: StreamMessage): Uint8Array {
  switch (message.kind) {
    case "ping":
    case "ack":
      return encodeMessage(message);
    case "error":
      return struct(messageType.error, { Error: message.message });
    case "user":
      return Buffer.concat([struct(messageType.user, { UserMsgLen: message.payload.length }), message.payload]);
    case "push-pull":
      return Buffer.concat([
        struct(messageType.pushPull, {
          Nodes: message.members.length,
          UserStateLen: message.userState.length,
          Join: message.isJoin,
        }),
        ...message.members.map(encodeMember),
        message.userState,
      ]);
  }
}

/** @throws {DecodeError} `TruncatedError` when more bytes are needed. */
export function decodeStreamMessage(bytes: Uint8Array): StreamMessage {
  const type = bytes[0];
  if (type === undefined) throw new TruncatedError("stream", 0);
  const reader = new MsgpackReader(bytes, 1);
  switch (type) {
    case messageType.ping:
      return pingOf(new Fields(reader, "ping"));
    case messageType.ack:
      return { kind: "ack", sequence: new Fields(reader, "ack").unsigned("SeqNo") };
    case messageType.error:
      return { kind: "error", message: new Fields(reader, "error").text("Error") };
    case messageType.user: {
      const length = new Fields(reader, "user header").unsigned("UserMsgLen", maxUserBytes);
      return { kind: "user", payload: reader.take("user message", length) };
    }
    case messageType.pushPull: {
      const header = new Fields(reader, "push/pull header");
      const count = header.unsigned("Nodes", maxMembers);
      const stateBytes = header.unsigned("UserStateLen", maxUserBytes);
      const members: Member[] = [];
      for (let i = 0; i < count; i++) members.push(memberOf(new Fields(reader, "push/pull node")));
      return {
        kind: "push-pull",
        isJoin: header.boolean("Join"),
        members,
        userState: reader.take("user state", stateBytes),
      };
    }
    default:
      throw new DecodeError("stream", 0, `unknown type ${type}`);
  }
}

function encodeMember(member: Member): Uint8Array {
  return encode({
    Name: member.name,
    Addr: ipToBytes(member.address),
    Port: member.portHostOrder,
    Meta: member.meta,
    Incarnation: member.incarnation,
    State: memberStates.indexOf(member.state),
    Vsn: versionBytes(member.versions),
  });
}

function memberOf(fields: Fields): Member {
  const state = memberStates[fields.unsigned("State", memberStates.length - 1)] as MemberStateKind;
  return { name: fields.text("Name"), ...presenceOf(fields), state };
}

function struct(type: number, fields: { readonly [field: string]: Value }): Uint8Array {
  return Buffer.concat([Uint8Array.of(type), encode(fields)]);
}

function sourceFields(source: PingSource | undefined): { readonly [field: string]: Value } {
  if (source === undefined) return {};
  return { SourceAddr: ipToBytes(source.address), SourcePort: source.portHostOrder, SourceNode: source.node };
}

function versionBytes(versions: Versions | undefined): Uint8Array {
  return versions === undefined ? new Uint8Array() : Uint8Array.from(versions);
}

function pingOf(fields: Fields): Ping {
  const portHostOrder = fields.unsigned("SourcePort", 0xffff);
  const hasSource = fields.bytes("SourceAddr").length > 0 && portHostOrder > 0;
  return {
    kind: "ping",
    sequence: fields.unsigned("SeqNo"),
    node: fields.text("Node"),
    source: hasSource
      ? { address: fields.address("SourceAddr"), portHostOrder, node: fields.text("SourceNode") }
      : undefined,
  };
}

function accusationOf(fields: Fields): Omit<Suspect, "kind"> {
  return { incarnation: fields.unsigned("Incarnation"), node: fields.text("Node"), from: fields.text("From") };
}

function presenceOf(fields: Fields): Omit<Member, "name" | "state"> {
  return {
    incarnation: fields.unsigned("Incarnation"),
    address: fields.address("Addr"),
    portHostOrder: fields.unsigned("Port", 0xffff),
    meta: fields.bytes("Meta", maxMetaBytes),
    versions: fields.versions("Vsn"),
  };
}

/** The fields of one struct. A missing or nil one is Go's zero value, since either codec leaves some out. */
class Fields {
  readonly #fields: ReadonlyMap<string, RawValue>;
  readonly #name: string;
  readonly #offset: number;

  constructor(reader: MsgpackReader, name: string) {
    this.#name = name;
    this.#offset = reader.offset;
    this.#fields = reader.struct(name);
  }

  unsigned(field: string, max = 0xffff_ffff): number {
    const value = this.#fields.get(field) ?? 0;
    if (typeof value !== "number" || !Number.isInteger(value) || value < 0 || value > max) {
      throw this.#error(field, `expected an integer from 0 to ${max}`);
    }
    return value;
  }

  boolean(field: string): boolean {
    const value = this.#fields.get(field) ?? false;
    if (typeof value !== "boolean") throw this.#error(field, "expected a boolean");
    return value;
  }

  bytes(field: string, maxBytes = Number.POSITIVE_INFINITY): Uint8Array {
    const value = this.#fields.get(field) ?? new Uint8Array();
    if (!(value instanceof Uint8Array)) throw this.#error(field, "expected bytes");
    if (value.length > maxBytes) throw this.#error(field, `${value.length} bytes, expected at most ${maxBytes}`);
    return value;
  }

  text(field: string): string {
    return textOf(`${this.#name} ${field}`, this.bytes(field), this.#offset);
  }

  address(field: string): IpAddress {
    const bytes = this.bytes(field);
    if (bytes.length !== 4 && bytes.length !== 16) throw this.#error(field, `an address of ${bytes.length} bytes`);
    return ipFromBytes(bytes);
  }

  versions(field: string): Versions | undefined {
    const bytes = this.bytes(field);
    return bytes.length < 6 ? undefined : (Array.from(bytes.subarray(0, 6)) as unknown as Versions);
  }

  #error(field: string, message: string): DecodeError {
    return new DecodeError(`${this.#name} ${field}`, this.#offset, message);
  }
}
