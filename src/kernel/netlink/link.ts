import { type IpAddress, ipFromBytes, ipToBytes, type MacAddress, macFromBytes, macToBytes } from "../../base/ip.ts";
import { MessageBuilder, type NetlinkMessage, splitPayload } from "./codec.ts";
import { flags } from "./socket.ts";

export const RTM_NEWLINK = 16;
const RTM_DELLINK = 17;
const RTM_GETLINK = 18;

/** linux/if_link.h */
const IFLA = {
  ADDRESS: 1,
  IFNAME: 3,
  MTU: 4,
  LINK: 5,
  MASTER: 10,
  LINKINFO: 18,
  IFALIAS: 20,
  GROUP: 27,
  NET_NS_FD: 28,
  EXT_MASK: 29,
} as const;
const INFO = { KIND: 1, DATA: 2, SLAVE_KIND: 4, SLAVE_DATA: 5 } as const;
const VETH_INFO_PEER = 1;
/** VLAN filtering is off from birth, and kernels built without it refuse to be told so. */
const BR = { FORWARD_DELAY: 1, STP_STATE: 5 } as const;
const BRPORT = { MODE: 4, ISOLATED: 33 } as const;
const VXLAN = {
  ID: 1,
  LOCAL: 4,
  LEARNING: 7,
  PORT: 15,
  GROUP6: 16,
  LOCAL6: 17,
  PROXY: 11,
  L2MISS: 13,
  L3MISS: 14,
} as const;
const IFF_UP = 1;
/** Statistics make up most of an answer, and nobody here reads them. */
const RTEXT_FILTER_SKIP_STATS = 8;

/**
 * The interface group that marks a link as ours from the instant it exists: unlike the alias, which also names the unit, it
 * can be given in the request that creates the link. The letters `weft`.
 */
export const weftGroup = 0x77656674;
const aliasPrefix = "weft:";

export function aliasOf(unit: string): string {
  // The kernel keeps 255 bytes.
  return `${aliasPrefix}${unit}`.slice(0, 255);
}

export interface LinkRecord {
  readonly index: number;
  readonly name: string;
  readonly kind: string | undefined;
  readonly up: boolean;
  readonly mtuBytes: number;
  readonly mac: MacAddress | undefined;
  readonly master: number | undefined;
  /** Index of the other end of a veth, in its own namespace. */
  readonly peerIndex: number | undefined;
  readonly alias: string | undefined;
  readonly group: number;
  readonly port: { readonly isolated: boolean; readonly hairpin: boolean } | undefined;
  readonly vxlan:
    | {
        readonly vni: number;
        readonly portHostOrder: number;
        readonly local: IpAddress | undefined;
        readonly learning: boolean;
        readonly proxy: boolean;
      }
    | undefined;
}

export function isOurs(link: LinkRecord): boolean {
  return link.group === weftGroup || unitOf(link) !== undefined;
}

export function unitOf(link: LinkRecord): string | undefined {
  return link.alias?.startsWith(aliasPrefix) ? link.alias.slice(aliasPrefix.length) : undefined;
}

/** struct ifinfomsg: 0 u8 family, 1 pad, 2 u16 type, 4 i32 index, 8 u32 flags, 12 u32 mask of the flags to change. */
function linkHeader(index: number, up = false): Uint8Array {
  const bytes = new Uint8Array(16);
  const view = new DataView(bytes.buffer);
  view.setInt32(4, index, true);
  if (up) {
    view.setUint32(8, IFF_UP, true);
    view.setUint32(12, IFF_UP, true);
  }
  return bytes;
}

export function getLink(name: string): MessageBuilder {
  return new MessageBuilder(RTM_GETLINK, flags.request)
    .raw(linkHeader(0))
    .string(IFLA.IFNAME, name)
    .u32(IFLA.EXT_MASK, RTEXT_FILTER_SKIP_STATS);
}

export function getLinkByIndex(index: number): MessageBuilder {
  return new MessageBuilder(RTM_GETLINK, flags.request)
    .raw(linkHeader(index))
    .u32(IFLA.EXT_MASK, RTEXT_FILTER_SKIP_STATS);
}

export function dumpLinks(): MessageBuilder {
  return new MessageBuilder(RTM_GETLINK, flags.request | flags.dump)
    .raw(linkHeader(0))
    .u32(IFLA.EXT_MASK, RTEXT_FILTER_SKIP_STATS);
}

export function deleteLink(index: number): MessageBuilder {
  return new MessageBuilder(RTM_DELLINK, flags.request | flags.acknowledge).raw(linkHeader(index));
}

/** All links of a group in one go. */
export function deleteGroup(group: number): MessageBuilder {
  return new MessageBuilder(RTM_DELLINK, flags.request | flags.acknowledge).raw(linkHeader(0)).u32(IFLA.GROUP, group);
}

/** Namespaces are given as open descriptors. Links are born down; a veth's peer has to be (ENOTCONN otherwise). */
export type NewLink =
  | { readonly type: "bridge"; readonly name: string; readonly mtuBytes: number; readonly mac: MacAddress | undefined }
  | { readonly type: "dummy"; readonly name: string; readonly mtuBytes: number }
  | {
      readonly type: "veth";
      readonly name: string;
      readonly mtuBytes: number;
      readonly master: number | undefined;
      readonly peer: { readonly namespaceFd: number; readonly name: string; readonly mac: MacAddress };
    }
  | {
      readonly type: "vxlan";
      readonly name: string;
      readonly mtuBytes: number;
      readonly namespaceFd: number;
      readonly vni: number;
      readonly portHostOrder: number;
      readonly outerFamily: 4 | 6;
      readonly local: IpAddress | undefined;
    };

export function newLink(link: NewLink): MessageBuilder {
  const message = new MessageBuilder(RTM_NEWLINK, flags.request | flags.acknowledge | flags.create | flags.exclusive)
    .raw(linkHeader(0))
    .string(IFLA.IFNAME, link.name)
    .u32(IFLA.GROUP, weftGroup);
  switch (link.type) {
    case "bridge":
      if (link.mac !== undefined) message.bytes(IFLA.ADDRESS, macToBytes(link.mac));
      // A bridge takes its ports' smallest MTU unless the MTU was once *changed* (br_change_mtu); born with another one, the
      // changeLink that follows is such a change.
      return message
        .u32(IFLA.MTU, link.mtuBytes > 68 ? link.mtuBytes - 1 : link.mtuBytes + 1)
        .nest(IFLA.LINKINFO, (info) =>
          info
            .string(INFO.KIND, "bridge")
            .nest(INFO.DATA, (data) => data.u32(BR.FORWARD_DELAY, 0).u32(BR.STP_STATE, 0)),
        );
    case "dummy":
      return message.u32(IFLA.MTU, link.mtuBytes).nest(IFLA.LINKINFO, (info) => info.string(INFO.KIND, "dummy"));
    case "veth":
      if (link.master !== undefined) message.u32(IFLA.MASTER, link.master);
      return message
        .u32(IFLA.MTU, link.mtuBytes)
        .nest(IFLA.LINKINFO, (info) =>
          info
            .string(INFO.KIND, "veth")
            .nest(INFO.DATA, (data) =>
              data.nest(VETH_INFO_PEER, (peer) =>
                peer
                  .raw(linkHeader(0))
                  .string(IFLA.IFNAME, link.peer.name)
                  .bytes(IFLA.ADDRESS, macToBytes(link.peer.mac))
                  .u32(IFLA.MTU, link.mtuBytes)
                  .u32(IFLA.NET_NS_FD, link.peer.namespaceFd),
              ),
            ),
        );
    case "vxlan":
      return message
        .u32(IFLA.MTU, link.mtuBytes)
        .u32(IFLA.NET_NS_FD, link.namespaceFd)
        .nest(IFLA.LINKINFO, (info) =>
          info.string(INFO.KIND, "vxlan").nest(INFO.DATA, (data) => {
            data
              .u32(VXLAN.ID, link.vni)
              .u8(VXLAN.LEARNING, 0)
              .u8(VXLAN.PROXY, 1)
              .u8(VXLAN.L2MISS, 0)
              .u8(VXLAN.L3MISS, 0)
              .u16be(VXLAN.PORT, link.portHostOrder);
            if (link.local !== undefined) {
              data.bytes(link.outerFamily === 4 ? VXLAN.LOCAL : VXLAN.LOCAL6, ipToBytes(link.local));
            } else if (link.outerFamily === 6) {
              // Only there to say the family.
              data.bytes(VXLAN.GROUP6, new Uint8Array(16));
            }
          }),
        );
  }
}

export interface LinkChange {
  readonly up?: true;
  readonly alias?: string;
  readonly mtuBytes?: number;
  readonly mac?: MacAddress;
  readonly master?: number;
  readonly group?: number;
  /** The link must be a port of a bridge by then. */
  readonly port?: { readonly isolated: boolean; readonly hairpin: boolean };
}

/** One request; the kernel sets port flags before it brings the link up, so that nothing passes an unguarded port. */
export function changeLink(link: number | string, change: LinkChange): MessageBuilder {
  const message = new MessageBuilder(RTM_NEWLINK, flags.request | flags.acknowledge).raw(
    linkHeader(typeof link === "number" ? link : 0, change.up),
  );
  if (typeof link === "string") message.string(IFLA.IFNAME, link);
  if (change.alias !== undefined) message.bytes(IFLA.IFALIAS, new TextEncoder().encode(change.alias));
  if (change.mtuBytes !== undefined) message.u32(IFLA.MTU, change.mtuBytes);
  if (change.mac !== undefined) message.bytes(IFLA.ADDRESS, macToBytes(change.mac));
  if (change.master !== undefined) message.u32(IFLA.MASTER, change.master);
  if (change.group !== undefined) message.u32(IFLA.GROUP, change.group);
  const port = change.port;
  if (port !== undefined) {
    message.nest(IFLA.LINKINFO, (info) =>
      info
        .string(INFO.SLAVE_KIND, "bridge")
        .nest(INFO.SLAVE_DATA, (data) =>
          data.u8(BRPORT.MODE, port.hairpin ? 1 : 0).u8(BRPORT.ISOLATED, port.isolated ? 1 : 0),
        ),
    );
  }
  return message;
}

/** @throws {DecodeError} */
export function decodeLink(message: NetlinkMessage): LinkRecord {
  const { fixed, attributes } = splitPayload(message, "ifinfomsg", 16);
  const info = attributes.nested(IFLA.LINKINFO);
  const kind = info?.string(INFO.KIND);
  const address = attributes.bytes(IFLA.ADDRESS);
  const port = info?.string(INFO.SLAVE_KIND) === "bridge" ? info.nested(INFO.SLAVE_DATA) : undefined;
  const vxlan = kind === "vxlan" ? info?.nested(INFO.DATA) : undefined;
  const local = vxlan?.sized(VXLAN.LOCAL, 4) ?? vxlan?.sized(VXLAN.LOCAL6, 16);
  return {
    index: fixed.getInt32(4, true),
    name: attributes.string(IFLA.IFNAME) ?? "",
    kind,
    up: (fixed.getUint32(8, true) & IFF_UP) !== 0,
    mtuBytes: attributes.u32(IFLA.MTU) ?? 0,
    mac: address?.length === 6 ? macFromBytes(address) : undefined,
    master: attributes.u32(IFLA.MASTER),
    peerIndex: kind === "veth" ? attributes.u32(IFLA.LINK) : undefined,
    alias: attributes.string(IFLA.IFALIAS),
    group: attributes.u32(IFLA.GROUP) ?? 0,
    port: port && { isolated: port.u8(BRPORT.ISOLATED) === 1, hairpin: port.u8(BRPORT.MODE) === 1 },
    vxlan: vxlan && {
      vni: vxlan.u32(VXLAN.ID) ?? 0,
      portHostOrder: vxlan.u16be(VXLAN.PORT) ?? 0,
      local: local && ipFromBytes(local),
      learning: vxlan.u8(VXLAN.LEARNING) === 1,
      proxy: vxlan.u8(VXLAN.PROXY) === 1,
    },
  };
}
