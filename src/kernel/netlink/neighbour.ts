import {
  familyOf,
  type IpAddress,
  ipFromBytes,
  ipToBytes,
  type MacAddress,
  macFromBytes,
  macToBytes,
} from "../../base/ip.ts";
import { MessageBuilder, type NetlinkMessage, splitPayload } from "./codec.ts";
import { flags } from "./socket.ts";

const RTM_NEWNEIGH = 28;
const RTM_DELNEIGH = 29;
const RTM_GETNEIGH = 30;

/** linux/neighbour.h */
const NDA = { DST: 1, LLADDR: 2, IFINDEX: 8 } as const;
const NUD_PERMANENT = 0x80;
const NTF_SELF = 2;
const NTF_MASTER = 4;
const AF_INET = 2;
const AF_INET6 = 10;
const AF_BRIDGE = 7;

/** `fdb`: a vxlan device's own entry, the MAC is behind that VTEP. `neighbour`: the IP has that MAC. */
export type NeighbourEntry =
  | { readonly kind: "neighbour"; readonly linkIndex: number; readonly ip: IpAddress; readonly mac: MacAddress }
  | { readonly kind: "fdb"; readonly linkIndex: number; readonly mac: MacAddress; readonly vtep: IpAddress };

/** struct ndmsg: 0 u8 family, 1 pad, 2 u16 pad, 4 i32 link index, 8 u16 state, 10 u8 flags, 11 u8 type. */
function neighbourHeader(family: number, linkIndex: number, state: number, entryFlags: number): Uint8Array {
  const bytes = new Uint8Array(12);
  const view = new DataView(bytes.buffer);
  bytes[0] = family;
  view.setInt32(4, linkIndex, true);
  view.setUint16(8, state, true);
  bytes[10] = entryFlags;
  return bytes;
}

export function newNeighbour(entry: NeighbourEntry): MessageBuilder {
  return entryMessage(RTM_NEWNEIGH, flags.create | flags.replace, entry);
}

export function deleteNeighbour(entry: NeighbourEntry): MessageBuilder {
  return entryMessage(RTM_DELNEIGH, 0, entry);
}

/** What the bridge has learnt for itself: that a hardware address is behind this port. ENOENT when it has not. */
export function deleteLearned(linkIndex: number, mac: MacAddress): MessageBuilder {
  return new MessageBuilder(RTM_DELNEIGH, flags.request | flags.acknowledge)
    .raw(neighbourHeader(AF_BRIDGE, linkIndex, 0, NTF_MASTER))
    .bytes(NDA.LLADDR, macToBytes(mac));
}

function entryMessage(type: number, extraFlags: number, entry: NeighbourEntry): MessageBuilder {
  const message = new MessageBuilder(type, flags.request | flags.acknowledge | extraFlags);
  if (entry.kind === "fdb") {
    return message
      .raw(neighbourHeader(AF_BRIDGE, entry.linkIndex, NUD_PERMANENT, NTF_SELF))
      .bytes(NDA.DST, ipToBytes(entry.vtep))
      .bytes(NDA.LLADDR, macToBytes(entry.mac));
  }
  const family = familyOf(entry.ip) === 4 ? AF_INET : AF_INET6;
  message.raw(neighbourHeader(family, entry.linkIndex, NUD_PERMANENT, 0)).bytes(NDA.DST, ipToBytes(entry.ip));
  // A removal names the address alone.
  return type === RTM_DELNEIGH ? message : message.bytes(NDA.LLADDR, macToBytes(entry.mac));
}

export function dumpNeighbours(family: "ip" | "fdb"): MessageBuilder {
  return new MessageBuilder(RTM_GETNEIGH, flags.request | flags.dump).raw(
    neighbourHeader(family === "fdb" ? AF_BRIDGE : 0, 0, 0, 0),
  );
}

/** Permanent entries with both halves; undefined for the rest. @throws {DecodeError} */
export function decodeNeighbour(message: NetlinkMessage): NeighbourEntry | undefined {
  const { fixed, attributes } = splitPayload(message, "ndmsg", 12);
  const family = fixed.getUint8(0);
  const linkIndex = fixed.getInt32(4, true);
  const lladdr = attributes.bytes(NDA.LLADDR);
  if ((fixed.getUint16(8, true) & NUD_PERMANENT) === 0 || lladdr?.length !== 6) return undefined;
  const mac = macFromBytes(lladdr);
  if (family === AF_BRIDGE) {
    const vtep = attributes.sized(NDA.DST, 4, 16);
    return vtep && { kind: "fdb", linkIndex, mac, vtep: ipFromBytes(vtep) };
  }
  if (family !== AF_INET && family !== AF_INET6) return undefined;
  const ip = attributes.sized(NDA.DST, family === AF_INET ? 4 : 16);
  return ip && { kind: "neighbour", linkIndex, ip: ipFromBytes(ip), mac };
}
