import { type IpAddress, ipFromBytes } from "../../base/ip.ts";
import { type Attributes, MessageBuilder, type NetlinkMessage, splitPayload } from "../netlink/codec.ts";
import { flags } from "../netlink/socket.ts";

/** linux/netfilter/nfnetlink_conntrack.h */
const IPCTNL_MSG_CT_GET = (1 << 8) | 1;
const IPCTNL_MSG_CT_DELETE = (1 << 8) | 2;
const CTA = { TUPLE_ORIG: 1, TUPLE_REPLY: 2, ID: 12, ZONE: 18 } as const;
const CTA_TUPLE = { IP: 1, PROTO: 2, ZONE: 3 } as const;
const CTA_IP = { V4_SRC: 1, V4_DST: 2, V6_SRC: 3, V6_DST: 4 } as const;
const CTA_PROTO = { NUM: 1, SRC_PORT: 2, DST_PORT: 3 } as const;
const NLA_F_NESTED = 0x8000;

export const protocolNumbers = { tcp: 6, udp: 17 } as const;

export interface Tuple {
  readonly protocol: number;
  readonly source: IpAddress | undefined;
  readonly destination: IpAddress | undefined;
  readonly sourcePort: number | undefined;
  readonly destinationPort: number | undefined;
}

export interface Connection {
  readonly family: number;
  readonly original: Tuple;
  readonly reply: Tuple;
  /** What a deletion names the entry by, as the kernel wrote it. */
  readonly rawOriginal: Uint8Array;
  readonly rawId: Uint8Array | undefined;
  readonly rawZone: Uint8Array | undefined;
}

/** struct nfgenmsg: u8 family (0: all), u8 version, u16 resource. */
export function dumpConnections(): MessageBuilder {
  return new MessageBuilder(IPCTNL_MSG_CT_GET, flags.request | flags.dump).raw(Uint8Array.of(0, 0, 0, 0));
}

export function deleteConnection(connection: Connection): MessageBuilder {
  const { family, rawOriginal, rawId, rawZone } = connection;
  const message = new MessageBuilder(IPCTNL_MSG_CT_DELETE, flags.request | flags.acknowledge)
    .raw(Uint8Array.of(family, 0, 0, 0))
    .bytes(CTA.TUPLE_ORIG | NLA_F_NESTED, rawOriginal);
  if (rawId !== undefined) message.bytes(CTA.ID, rawId);
  if (rawZone !== undefined) message.bytes(CTA.ZONE, rawZone);
  return message;
}

/** Undefined when it has no tuples. @throws {DecodeError} */
export function decodeConnection(message: NetlinkMessage): Connection | undefined {
  const { fixed, attributes } = splitPayload(message, "nfgenmsg", 4);
  const rawOriginal = attributes.bytes(CTA.TUPLE_ORIG);
  const original = attributes.nested(CTA.TUPLE_ORIG);
  const reply = attributes.nested(CTA.TUPLE_REPLY);
  if (rawOriginal === undefined || original === undefined || reply === undefined) return undefined;
  return {
    family: fixed.getUint8(0),
    original: decodeTuple(original),
    reply: decodeTuple(reply),
    rawOriginal,
    rawId: attributes.bytes(CTA.ID),
    rawZone: attributes.bytes(CTA.ZONE),
  };
}

function decodeTuple(tuple: Attributes): Tuple {
  const ip = tuple.nested(CTA_TUPLE.IP);
  const protocol = tuple.nested(CTA_TUPLE.PROTO);
  const address = (v4: number, v6: number) => {
    const bytes = ip?.sized(v4, 4) ?? ip?.sized(v6, 16);
    return bytes && ipFromBytes(bytes);
  };
  return {
    protocol: protocol?.u8(CTA_PROTO.NUM) ?? 0,
    source: address(CTA_IP.V4_SRC, CTA_IP.V6_SRC),
    destination: address(CTA_IP.V4_DST, CTA_IP.V6_DST),
    sourcePort: protocol?.u16be(CTA_PROTO.SRC_PORT),
    destinationPort: protocol?.u16be(CTA_PROTO.DST_PORT),
  };
}
