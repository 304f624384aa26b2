import { readdirSync, readFileSync } from "node:fs";
import { BlockList, isIP } from "node:net";
import { join } from "node:path";

/** Where a registry's API is asked, in the order in which to try. */
export interface Endpoint {
  /** Without a slash at the end: `https://registry-1.docker.io`. */
  readonly baseUrl: string;
  /** False: any certificate will do. */
  readonly verifyTls: boolean;
}

export interface RegistryTls {
  readonly ca: readonly string[];
  readonly pairs: readonly { readonly cert: string; readonly key: string }[];
}

/** Docker Hub's API is not at the name that its images carry. */
const hubHost = "registry-1.docker.io";

const loopback = new BlockList();
loopback.addSubnet("127.0.0.0", 8, "ipv4");
loopback.addAddress("::1", "ipv6");

/**
 * Insecure registries (loopback, and what the daemon's `insecure-registries` names by host or CIDR) are tried with TLS of
 * any certificate first, then in the clear. Pure.
 */
export function endpointsFor(domain: string, insecureRegistries: readonly string[]): readonly Endpoint[] {
  if (domain === "docker.io") return [{ baseUrl: `https://${hubHost}`, verifyTls: true }];
  if (!isInsecure(domain, insecureRegistries)) return [{ baseUrl: `https://${domain}`, verifyTls: true }];
  return [
    { baseUrl: `https://${domain}`, verifyTls: false },
    { baseUrl: `http://${domain}`, verifyTls: false },
  ];
}

function isInsecure(domain: string, insecureRegistries: readonly string[]): boolean {
  const host = domain.replace(/:\d+$/, "").replace(/^\[(.*)\]$/, "$1");
  const family = isIP(host) === 6 ? "ipv6" : "ipv4";
  if (host === "localhost" || (isIP(host) !== 0 && loopback.check(host, family))) return true;
  return insecureRegistries.some((entry) => {
    const [network, prefix] = entry.split("/");
    if (prefix === undefined || network === undefined) return entry === domain;
    if (isIP(host) === 0 || isIP(network) !== isIP(host)) return false;
    const subnet = new BlockList();
    subnet.addSubnet(network, Number(prefix), family);
    return subnet.check(host, family);
  });
}

/** `<certsDir>/<domain>/{*.crt, *.cert + *.key}`: extra authorities and client certificates for one registry. */
export function readRegistryTls(certsDir: string, domain: string): RegistryTls {
  const folder = join(certsDir, domain);
  let names: string[];
  try {
    names = readdirSync(folder).sort();
  } catch {
    return { ca: [], pairs: [] };
  }
  const read = (name: string) => readFileSync(join(folder, name), "utf8");
  return {
    ca: names.filter((name) => name.endsWith(".crt")).map(read),
    pairs: names
      .filter((name) => name.endsWith(".cert") && names.includes(name.replace(/\.cert$/, ".key")))
      .map((name) => ({ cert: read(name), key: read(name.replace(/\.cert$/, ".key")) })),
  };
}
