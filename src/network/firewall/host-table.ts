import type { IpFamily } from "../../base/ip.ts";
import type { KernelObject, Netns } from "../../kernel/mod.ts";

/** Set on every forwarded packet that our tables allow; the one rule in a foreign FORWARD chain accepts by it. */
export const forwardMark = 0x02000000;
export const hostTableName = "weft";

/** Sets and maps of the host table; everything that changes with networks, endpoints and ports is an element of one. */
export type HostSet =
  /** Every bridge of ours. */
  | "bridges"
  /** `br . br` for every bridge: leaving where it came in. */
  | "own"
  /** `br . br` for bridges whose containers may talk to each other. */
  | "icc"
  | "internal"
  | "masquerading"
  | "subnets"
  /** `address . protocol . port` of containers, reachable through a published port. */
  | "published"
  /** `address . address` of containers with published ports: calling one's own needs another source address. */
  | "self"
  /** Published on a loopback address: never from outside. */
  | "loopback"
  /** Maps: `protocol . port` or `address . protocol . port` on the host to `address . port` of a container. */
  | "everywhere"
  | "addressed";

/**
 * The host's table of one family: fixed chains, all data in named sets and maps, so that adding an endpoint or a port
 * costs one element however many there are.
 *
 * Order in `forward`: what is no business of ours first, so that a host that routes for others never meets our drops.
 * `ct status dnat` with the published set is what keeps the LAN from routing straight to a container (Docker 28's raw
 * drops do the same). The priority is just before `filter`, where the foreign chain reads the mark.
 */
export function hostTable(family: IpFamily): KernelObject {
  const ip = family === 4 ? "ip" : "ip6";
  const address = family === 4 ? "ipv4_addr" : "ipv6_addr";
  const loopback = family === 4 ? "127.0.0.0/8" : "::1";
  // Link-local sources are never translated: their replies could not find the way back (reference: network-data-plane 9.3).
  const skipLinkLocal = family === 4 ? "" : "\n    ip6 saddr fe80::/10 return";
  const body = `  set bridges { type ifname; }
  set own { type ifname . ifname; }
  set icc { type ifname . ifname; }
  set internal { type ifname; }
  set masquerading { type ifname; }
  set subnets { type ${address}; flags interval; }
  set published { type ${address} . inet_proto . inet_service; }
  set self { type ${address} . ${address}; }
  set loopback { type ${address} . inet_proto . inet_service; }
  map everywhere { type inet_proto . inet_service : ${address} . inet_service; }
  map addressed { type ${address} . inet_proto . inet_service : ${address} . inet_service; }
  chain guard {
    type filter hook prerouting priority raw; policy accept;
    iifname @bridges ${ip} daddr ${loopback} drop
    iifname != "lo" ${ip} daddr . meta l4proto . th dport @loopback drop
  }
  chain prerouting {
    type nat hook prerouting priority dstnat; policy accept;
    fib daddr type local jump publish
  }
  chain output {
    type nat hook output priority -100; policy accept;
    fib daddr type local jump publish
  }
  chain publish {${skipLinkLocal}
    dnat ${ip} to ${ip} daddr . meta l4proto . th dport map @addressed
    dnat ${ip} to meta l4proto . th dport map @everywhere
  }
  chain postrouting {
    type nat hook postrouting priority srcnat; policy accept;
    ${ip} saddr . ${ip} daddr @self masquerade
    iifname . oifname @own ct status dnat masquerade
    iifname . oifname @own accept
    iifname @masquerading ${ip} saddr @subnets masquerade
    ${ip} saddr ${loopback} oifname @bridges masquerade
  }
  chain forward {
    type filter hook forward priority filter - 10; policy accept;
    iifname != @bridges oifname != @bridges accept
    ct state established,related goto allow
    iifname . oifname @icc goto allow
    iifname @internal drop
    oifname @internal drop
    oifname @bridges ct status dnat ${ip} daddr . meta l4proto . th dport @published goto allow
    oifname @bridges drop
    goto allow
  }
  chain allow {
    meta mark set meta mark or 0x${forwardMark.toString(16).padStart(8, "0")} accept
  }`;
  return { kind: "nft-table", ns: "host", table: { family: ip, name: hostTableName, body } };
}

/** One element of the host table of `family`. */
export function hostElement(family: IpFamily, set: HostSet, key: string, value?: string): KernelObject {
  const ns: Netns = "host";
  const element = { family: family === 4 ? ("ip" as const) : ("ip6" as const), table: hostTableName, set, key };
  return { kind: "nft-element", ns, element: value === undefined ? element : { ...element, value } };
}

/** An interface name as nft writes it. */
export function quoted(name: string): string {
  return `"${name}"`;
}

/** `address . port` or `address . protocol . port`, in the order of the sets above. */
export function joined(...parts: readonly (string | number)[]): string {
  return parts.join(" . ");
}
