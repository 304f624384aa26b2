import type { Cidr, IpAddress, MacAddress } from "../base/ip.ts";

/** A network namespace: the one weftd itself lives in, or one kept alive by a bind-mounted file. */
export type Netns = "host" | { readonly path: string };

/**
 * Everything we put into the kernel, as data. Each object belongs to one unit (a network, an endpoint, a sandbox) and
 * carries our mark where the kernel has room for one (links: ifalias `weft:<unit>`; nftables: our own tables).
 */
export type KernelObject =
  | { readonly kind: "netns"; readonly path: string }
  | { readonly kind: "link"; readonly ns: Netns; readonly link: Link }
  | {
      readonly kind: "address";
      readonly ns: Netns;
      readonly link: string;
      readonly address: Cidr;
      readonly noDad?: boolean;
    }
  | { readonly kind: "route"; readonly ns: Netns; readonly route: Route }
  | {
      readonly kind: "neighbour";
      readonly ns: Netns;
      readonly link: string;
      readonly ip: IpAddress;
      readonly mac: MacAddress;
    }
  | {
      readonly kind: "fdb";
      readonly ns: Netns;
      readonly link: string;
      readonly mac: MacAddress;
      readonly vtep: IpAddress;
    }
  | { readonly kind: "sysctl"; readonly ns: Netns; readonly key: string; readonly value: string }
  | { readonly kind: "nft-table"; readonly ns: Netns; readonly table: NftTable }
  | { readonly kind: "nft-element"; readonly ns: Netns; readonly element: NftElement };

export type Link =
  /** `up` is set after everything else; a bridge with `mac` keeps it instead of taking its lowest port's. */
  | { readonly type: "bridge"; readonly name: string; readonly mtuBytes: number; readonly mac?: MacAddress }
  /** `name` lives in the object's namespace (a port of `master` when given); the other end is born in `peer.ns`. */
  | {
      readonly type: "veth";
      readonly name: string;
      readonly mtuBytes: number;
      readonly master?: string;
      /** Bridge port flags: isolated ports of one bridge do not talk to each other; hairpin lets a port reach itself. */
      readonly isolated?: boolean;
      readonly hairpin?: boolean;
      readonly peer: { readonly ns: Netns; readonly name: string; readonly mac: MacAddress };
    }
  /** Created in the host namespace (where its UDP socket stays) and then moved into the object's namespace. */
  | {
      readonly type: "vxlan";
      readonly name: string;
      readonly vni: number;
      readonly portHostOrder: number;
      readonly mtuBytes: number;
      readonly master?: string;
      readonly outerFamily: 4 | 6;
      /** Local outer source address, so that it always equals the gossiped tunnel endpoint (trap T2). */
      readonly local?: IpAddress;
    }
  | { readonly type: "dummy"; readonly name: string; readonly mtuBytes: number }
  /** Loopback of a namespace: only brought up. */
  | { readonly type: "loopback" };

export interface Route {
  readonly destination: Cidr;
  readonly gateway?: IpAddress;
  readonly link: string;
  readonly source?: IpAddress;
  /** Routing table, main (254) unless given. */
  readonly table?: number;
}

/**
 * One table of ours: sets, maps and chains with their fixed rules, in nft's own language. Replaced whole and atomically;
 * elements of its named sets and maps are objects of their own, and survive a replacement.
 */
export interface NftTable {
  readonly family: "ip" | "ip6" | "inet" | "bridge";
  readonly name: string;
  /** Text between the braces of `table FAMILY NAME { … }`. */
  readonly body: string;
}

/** One element of a named set or map of a table of ours. */
export interface NftElement {
  readonly family: NftTable["family"];
  readonly table: string;
  /** Set or map name. */
  readonly set: string;
  /** As nft writes it: `tcp . 8080`, `"br-1234"`. */
  readonly key: string;
  /** Maps only: `172.17.0.2 . 80`, `jump something`. */
  readonly value?: string;
}

/** Identity of an object: two objects with the same key are the same thing in two states. */
export function objectKey(object: KernelObject): string {
  switch (object.kind) {
    case "netns":
      return `netns ${object.path}`;
    case "link":
      return `link ${nsKey(object.ns)} ${object.link.type === "loopback" ? "lo" : object.link.name}`;
    case "address":
      return `address ${nsKey(object.ns)} ${object.link} ${object.address.address}/${object.address.prefix}`;
    case "route":
      return `route ${nsKey(object.ns)} ${object.route.table ?? 254} ${object.route.destination.address}/${object.route.destination.prefix}`;
    case "neighbour":
      return `neighbour ${nsKey(object.ns)} ${object.link} ${object.ip}`;
    case "fdb":
      return `fdb ${nsKey(object.ns)} ${object.link} ${object.mac}`;
    case "sysctl":
      return `sysctl ${nsKey(object.ns)} ${object.key}`;
    case "nft-table":
      return `nft-table ${nsKey(object.ns)} ${object.table.family} ${object.table.name}`;
    case "nft-element":
      return `nft-element ${nsKey(object.ns)} ${object.element.family} ${object.element.table} ${object.element.set} ${object.element.key}`;
  }
}

export function nsKey(ns: Netns): string {
  return ns === "host" ? "host" : ns.path;
}
