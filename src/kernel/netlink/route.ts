import { type Cidr, familyOf, type IpAddress, ipFromBytes, ipToBytes } from "../../base/ip.ts";
import { MessageBuilder, type NetlinkMessage, splitPayload } from "./codec.ts";
import { flags } from "./socket.ts";

const RTM_NEWROUTE = 24;
const RTM_DELROUTE = 25;
const RTM_GETROUTE = 26;

/** linux/rtnetlink.h */
const RTA = { DST: 1, OIF: 4, GATEWAY: 5, PREFSRC: 7, TABLE: 15 } as const;
const RTPROT_BOOT = 3;
const RT_SCOPE_UNIVERSE = 0;
const RT_SCOPE_LINK = 253;
const RT_SCOPE_NOWHERE = 255;
const RTN_UNICAST = 1;
const RTM_F_CLONED = 0x200;
export const mainTable = 254;
const AF_INET = 2;
const AF_INET6 = 10;

export interface RouteRecord {
  readonly destination: Cidr;
  readonly gateway: IpAddress | undefined;
  readonly linkIndex: number | undefined;
  readonly table: number;
  /** Whether a program made it and not the kernel, as part of an address or from an advertisement. */
  readonly manual: boolean;
}

export interface RouteRequest {
  readonly destination: Cidr;
  readonly gateway: IpAddress | undefined;
  readonly linkIndex: number;
  readonly source: IpAddress | undefined;
  readonly table: number;
}

/** struct rtmsg: 0 family, 1 dst prefix, 2 src prefix, 3 tos, 4 table, 5 protocol, 6 scope, 7 type (u8 each), 8 u32 flags. */
function routeHeader(fields: {
  readonly family: number;
  readonly prefix: number;
  readonly table: number;
  readonly protocol: number;
  readonly scope: number;
  readonly type: number;
}): Uint8Array {
  // Tables above 255 are named by the attribute alone.
  const table = fields.table > 255 ? 0 : fields.table;
  const { family, prefix, protocol, scope, type } = fields;
  return Uint8Array.of(family, prefix, 0, 0, table, protocol, scope, type, 0, 0, 0, 0);
}

/** `add` refuses with EEXIST where a route to the destination is there; `replace` puts ours in its place without a gap. */
export function newRoute(route: RouteRequest, mode: "add" | "replace"): MessageBuilder {
  return routeMessage(RTM_NEWROUTE, flags.create | (mode === "add" ? flags.exclusive : flags.replace), route);
}

export function deleteRoute(route: RouteRequest): MessageBuilder {
  return routeMessage(RTM_DELROUTE, 0, route);
}

function routeMessage(type: number, extraFlags: number, route: RouteRequest): MessageBuilder {
  const family = familyOf(route.destination.address) === 4 ? AF_INET : AF_INET6;
  const deleting = type === RTM_DELROUTE;
  const scope = route.gateway === undefined ? RT_SCOPE_LINK : RT_SCOPE_UNIVERSE;
  const message = new MessageBuilder(type, flags.request | flags.acknowledge | extraFlags).raw(
    routeHeader({
      family,
      prefix: route.destination.prefix,
      table: route.table,
      protocol: deleting ? 0 : RTPROT_BOOT,
      scope: deleting ? RT_SCOPE_NOWHERE : family === AF_INET ? scope : RT_SCOPE_UNIVERSE,
      type: deleting ? 0 : RTN_UNICAST,
    }),
  );
  if (route.destination.prefix > 0) message.bytes(RTA.DST, ipToBytes(route.destination.address));
  if (route.gateway !== undefined) message.bytes(RTA.GATEWAY, ipToBytes(route.gateway));
  if (route.source !== undefined) message.bytes(RTA.PREFSRC, ipToBytes(route.source));
  return message.u32(RTA.OIF, route.linkIndex).u32(RTA.TABLE, route.table);
}

export function dumpRoutes(family: 4 | 6): MessageBuilder {
  // The strict check refuses any field but the table, which filters.
  return new MessageBuilder(RTM_GETROUTE, flags.request | flags.dump).raw(
    routeHeader({ family: family === 4 ? AF_INET : AF_INET6, prefix: 0, table: 0, protocol: 0, scope: 0, type: 0 }),
  );
}

/** Undefined for anything but unicast routes. @throws {DecodeError} */
export function decodeRoute(message: NetlinkMessage): RouteRecord | undefined {
  const { fixed, attributes } = splitPayload(message, "rtmsg", 12);
  const family = fixed.getUint8(0);
  if (family !== AF_INET && family !== AF_INET6) return undefined;
  if (fixed.getUint8(7) !== RTN_UNICAST || (fixed.getUint32(8, true) & RTM_F_CLONED) !== 0) return undefined;
  const length = family === AF_INET ? 4 : 16;
  const gateway = attributes.sized(RTA.GATEWAY, length);
  return {
    destination: {
      address: ipFromBytes(attributes.sized(RTA.DST, length) ?? new Uint8Array(length)),
      prefix: Math.min(fixed.getUint8(1), length * 8),
    },
    gateway: gateway && ipFromBytes(gateway),
    linkIndex: attributes.u32(RTA.OIF),
    table: attributes.u32(RTA.TABLE) ?? fixed.getUint8(4),
    manual: fixed.getUint8(5) === RTPROT_BOOT,
  };
}
