import type { Cidr } from "../base/ip.ts";
import type { LinkInfo, RouteInfo } from "./kernel.ts";
import { allLinks } from "./links.ts";
import { decodeAddress, dumpAddresses } from "./netlink/address.ts";
import { unitOf } from "./netlink/link.ts";
import { decodeRoute, dumpRoutes, mainTable } from "./netlink/route.ts";
import type { NetlinkSocket } from "./netlink/socket.ts";

export function observeLinks(socket: NetlinkSocket): readonly LinkInfo[] {
  const addresses = new Map<number, Cidr[]>();
  for (const message of socket.dump("list addresses", dumpAddresses)) {
    const record = decodeAddress(message);
    if (record === undefined) continue;
    const known = addresses.get(record.linkIndex);
    if (known === undefined) addresses.set(record.linkIndex, [record.address]);
    else known.push(record.address);
  }
  return allLinks(socket).map((link) => ({
    index: link.index,
    name: link.name,
    type: link.kind,
    up: link.up,
    mtuBytes: link.mtuBytes,
    mac: link.mac,
    master: link.master,
    unit: unitOf(link),
    addresses: addresses.get(link.index) ?? [],
    vni: link.vxlan?.vni,
  }));
}

export function observeRoutes(socket: NetlinkSocket): readonly RouteInfo[] {
  const names = new Map(allLinks(socket).map((link) => [link.index, link.name]));
  return ([4, 6] as const)
    .flatMap((family) => socket.dump("list routes", () => dumpRoutes(family)).map(decodeRoute))
    .flatMap((route) => {
      const link = names.get(route?.linkIndex ?? -1);
      if (route === undefined || link === undefined || route.table !== mainTable) return [];
      return [{ destination: route.destination, gateway: route.gateway, link }];
    });
}
