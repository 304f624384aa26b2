import { familyOf, type IpAddress } from "../../base/ip.ts";

export interface HostsLine {
  readonly address: IpAddress;
  readonly names: readonly string[];
}

/** `/etc/hosts` of a container (reference: network-data-plane 9.7). */
export function hostsFile(options: {
  readonly hostname: string;
  readonly domainname: string;
  /** Addresses of the endpoints, docker_gwbridge and ingress apart. */
  readonly addresses: readonly IpAddress[];
  /** `name:address` as typed. */
  readonly extraHosts: readonly string[];
  readonly linked: readonly HostsLine[];
  readonly hostGateway: IpAddress | undefined;
  readonly ipv6Loopback: boolean;
}): string {
  const lines = ["127.0.0.1\tlocalhost"];
  if (options.ipv6Loopback) {
    lines.push(
      "::1\tlocalhost ip6-localhost ip6-loopback",
      "fe00::\tip6-localnet",
      "ff00::\tip6-mcastprefix",
      "ff02::1\tip6-allnodes",
      "ff02::2\tip6-allrouters",
    );
  }
  for (const text of options.extraHosts) {
    const [name, address] = splitExtraHost(text);
    if (name === undefined || address === undefined) continue;
    const ip = address === "host-gateway" ? options.hostGateway : address;
    if (ip !== undefined) lines.push(`${ip}\t${name}`);
  }
  for (const { address, names } of options.linked) lines.push(`${address}\t${names.join(" ")}`);
  const names = hostNames(options.hostname, options.domainname);
  for (const address of [...options.addresses].sort((a, b) => familyOf(a) - familyOf(b))) {
    lines.push(`${address}\t${names.join(" ")}`);
  }
  return `${lines.join("\n")}\n`;
}

/** Fully qualified first, then short. */
function hostNames(hostname: string, domainname: string): readonly string[] {
  if (domainname !== "") return [`${hostname}.${domainname}`, hostname];
  const dot = hostname.indexOf(".");
  return dot > 0 ? [hostname, hostname.slice(0, dot)] : [hostname];
}

/** `name:address`, `name=address`; an IPv6 address may stand in brackets. */
function splitExtraHost(text: string): readonly [string | undefined, string | undefined] {
  const match = /^([^:=]+)[:=]\[?([^\]]+)\]?$/.exec(text);
  return [match?.[1], match?.[2]];
}
