import { familyOf, type IpAddress, parseCidr } from "../../base/ip.ts";
import type { KernelObject, Netns } from "../../kernel/mod.ts";

export interface SandboxNetwork {
  readonly path: string;
  readonly sysctls: Readonly<Record<string, string>>;
  /** Default routes, at most one a family. */
  readonly gateways: readonly { readonly address: IpAddress; readonly link: string }[];
  /** Ports of the embedded resolver, where there is one. */
  readonly dns: { readonly udpPort: number; readonly tcpPort: number } | undefined;
}

export const embeddedDnsAddress = "127.0.0.11" as IpAddress;

/** The namespace itself, fit for a process to start in: loopback up, no IPv6 on interfaces to come. */
export function namespaceObjects(path: string): readonly KernelObject[] {
  const ns: Netns = { path };
  return [
    { kind: "netns", path },
    { kind: "link", ns, link: { type: "loopback" } },
    // compat: interfaces without an IPv6 address have no link-local one either; an endpoint with one says so itself.
    { kind: "sysctl", ns, key: "net.ipv6.conf.default.disable_ipv6", value: "1" },
  ];
}

/** All of a sandbox but its endpoints. */
export function sandboxObjects(sandbox: SandboxNetwork): readonly KernelObject[] {
  const ns: Netns = { path: sandbox.path };
  const objects: KernelObject[] = [...namespaceObjects(sandbox.path)];
  for (const [key, value] of Object.entries(sandbox.sysctls)) {
    if (key.startsWith("net.")) objects.push({ kind: "sysctl", ns, key, value });
  }
  for (const gateway of sandbox.gateways) {
    const destination = parseCidr(familyOf(gateway.address) === 4 ? "0.0.0.0/0" : "::/0");
    objects.push({ kind: "route", ns, route: { destination, gateway: gateway.address, link: gateway.link } });
  }
  if (sandbox.dns !== undefined) objects.push(dnsTable(ns, sandbox.dns));
  return objects;
}

/**
 * Port 53 of 127.0.0.11 leads to the resolver's own ports, so that a container may bind 53 itself. The ports are rewritten
 * in both directions without NAT: connection tracking stays off in the container, for its traffic as well as for its questions.
 */
function dnsTable(ns: Netns, dns: { readonly udpPort: number; readonly tcpPort: number }): KernelObject {
  const body = `  chain output {
    type filter hook output priority -300; policy accept;
    ip daddr ${embeddedDnsAddress} udp dport 53 udp dport set ${dns.udpPort}
    ip daddr ${embeddedDnsAddress} tcp dport 53 tcp dport set ${dns.tcpPort}
    ip saddr ${embeddedDnsAddress} udp sport ${dns.udpPort} udp sport set 53
    ip saddr ${embeddedDnsAddress} tcp sport ${dns.tcpPort} tcp sport set 53
  }`;
  return { kind: "nft-table", ns, table: { family: "ip", name: "weft-dns", body } };
}
