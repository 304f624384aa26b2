import { EngineError } from "../../base/errors.ts";
import {
  familyOf,
  formatHostPort,
  type IpAddress,
  isLinkLocal,
  isLoopback,
  isUnspecified,
  tryParseIp,
} from "../../base/ip.ts";
import type { LinkInfo } from "../../kernel/mod.ts";

export const defaultListenAddress = "0.0.0.0:2377";
const defaultPort = "2377";

/** Texts of Docker (reference: swarm-control-plane 13.4). */
const texts = {
  listen: "listen address must be an IP address or network interface (with optional port number)",
  advertise: "advertise address must be a non-zero IP address or network interface (with optional port number)",
  dataPath: "data path address must be a non-zero IP address or network interface (without a port number)",
  mustListen:
    "must specify a listening address because the address to advertise is not recognized as a system address, and a system's IP address to use could not be uniquely identified",
  none: "could not find the system's IP address",
  several: "could not choose an IP address to advertise since this system has multiple addresses",
} as const;

export interface SwarmAddresses {
  readonly listen: { readonly address: IpAddress; readonly portHostOrder: number };
  /** Where other nodes reach us; undefined: to be found out by the way to the manager. */
  readonly advertise: { readonly address: IpAddress; readonly portHostOrder: number } | undefined;
  readonly dataPath: IpAddress | undefined;
}

/** A manager always knows where others reach it. */
export type ManagerAddresses = SwarmAddresses & { readonly advertise: NonNullable<SwarmAddresses["advertise"]> };

interface Wanted {
  readonly listenAddress: string;
  readonly advertiseAddress: string;
  readonly dataPathAddress: string;
}

/**
 * The addresses of a node that becomes a manager: what was asked for, an interface's address, or the system's only one. Pure.
 *
 * @throws {EngineError} `invalid` in Docker's words.
 */
export function resolveInitAddresses(wanted: Wanted, links: readonly LinkInfo[]): ManagerAddresses {
  const listen = resolveListen(wanted.listenAddress, links);
  const asked = resolveAdvertise(wanted.advertiseAddress, listen.portHostOrder, links);
  const dataPath = resolveDataPath(wanted.dataPathAddress, links);
  const advertise = asked ?? {
    address: isUnspecified(listen.address) ? systemAddress(links) : listen.address,
    portHostOrder: listen.portHostOrder,
  };
  const own = new Set(links.flatMap((link) => link.addresses.map(({ address }) => address)));
  if (isUnspecified(listen.address) && !own.has(advertise.address)) checkSystemAddress(links);
  return { listen, advertise, dataPath };
}

/** The same for a joining node, which may leave everything open. */
export function resolveJoinAddresses(wanted: Wanted, links: readonly LinkInfo[]): SwarmAddresses {
  const listen = resolveListen(wanted.listenAddress, links);
  const advertise = resolveAdvertise(wanted.advertiseAddress, listen.portHostOrder, links);
  return { listen, advertise, dataPath: resolveDataPath(wanted.dataPathAddress, links) };
}

/**
 * `host:port` of a manager to join; a scheme `tcp://` is dropped, the port defaults to 2377.
 *
 * @throws {EngineError} `invalid` when it is empty or has another scheme.
 */
export function parseRemoteAddress(text: string): string {
  const bare = text.trim().replace(/^tcp:\/\//, "");
  if (bare === "" || bare.includes("/")) throw new EngineError("invalid", `Invalid bind address format: ${text}`); // compat:
  const { host, port } = splitHostPort(bare) ?? { host: bare.replace(/^\[|\]$/g, ""), port: defaultPort };
  if (host === "" || !isPort(port)) throw new EngineError("invalid", `Invalid bind address format: ${text}`); // compat:
  return formatHostPort(host, Number(port));
}

function resolveListen(text: string, links: readonly LinkInfo[]) {
  const wanted = text === "" ? defaultListenAddress : text;
  const { host, port } = splitHostPort(wanted) ?? { host: wanted, port: defaultPort };
  if (!isPort(port)) throw new EngineError("invalid", `could not parse listen address ${text}`); // compat:
  const address = resolveHost(host, links);
  if (address === undefined) throw new EngineError("invalid", texts.listen);
  return { address, portHostOrder: Number(port) };
}

function resolveAdvertise(text: string, listenPort: number, links: readonly LinkInfo[]) {
  if (text === "") return undefined;
  const { host, port } = splitHostPort(text) ?? { host: text, port: String(listenPort) };
  const address = resolveHost(host, links);
  if (address === undefined || isUnspecified(address) || !isPort(port))
    throw new EngineError("invalid", texts.advertise);
  return { address, portHostOrder: Number(port) };
}

function resolveDataPath(text: string, links: readonly LinkInfo[]): IpAddress | undefined {
  if (text === "") return undefined;
  const address = resolveHost(text, links);
  if (address === undefined || isUnspecified(address)) throw new EngineError("invalid", texts.dataPath);
  return address;
}

/** An interface's one address, else an IP address. */
function resolveHost(host: string, links: readonly LinkInfo[]): IpAddress | undefined {
  const link = links.find(({ name }) => name === host);
  return link === undefined ? tryParseIp(host) : addressOf(link);
}

/** IPv4 before IPv6; more than one of a family is ambiguous. */
function addressOf(link: LinkInfo): IpAddress {
  const usable = link.addresses.map(({ address }) => address).filter((ip) => !isLinkLocal(ip));
  for (const family of [4, 6] as const) {
    const [first, second] = usable.filter((ip) => familyOf(ip) === family);
    if (first !== undefined && second !== undefined) {
      throw new EngineError(
        "invalid",
        `interface ${link.name} has more than one IPv${family} address (${first} and ${second})`,
      ); // compat:
    }
  }
  const ip = usable.find((one) => familyOf(one) === 4) ?? usable[0];
  if (ip === undefined) throw new EngineError("invalid", `interface ${link.name} has no usable IPv4 or IPv6 address`); // compat:
  return ip;
}

/** The host's only address, our own and other virtual devices left out. */
function systemAddress(links: readonly LinkInfo[]): IpAddress {
  const candidates = links
    .filter((link) => link.up && link.unit === undefined && !virtualTypes.has(link.type ?? ""))
    .flatMap((link) => link.addresses.map(({ address }) => ({ link: link.name, address })))
    .filter(({ address }) => !isLoopback(address) && !isLinkLocal(address));
  for (const family of [4, 6] as const) {
    const [first, second] = candidates.filter(({ address }) => familyOf(address) === family);
    if (first === undefined) continue;
    if (second === undefined) return first.address;
    const which =
      first.link === second.link
        ? `on interface ${first.link} (${first.address} and ${second.address})`
        : `on different interfaces (${first.address} on ${first.link} and ${second.address} on ${second.link})`;
    throw new EngineError("invalid", `${texts.several} ${which}`);
  }
  throw new EngineError("invalid", texts.none);
}

/** Bridges and container ends never are a host's own address; a veth may be (hosts in namespaces have nothing else). */
const virtualTypes: ReadonlySet<string> = new Set(["bridge", "dummy", "vxlan", "tun"]);

function checkSystemAddress(links: readonly LinkInfo[]): void {
  try {
    systemAddress(links);
  } catch (cause) {
    throw new EngineError("invalid", texts.mustListen, { cause });
  }
}

function splitHostPort(text: string): { readonly host: string; readonly port: string } | undefined {
  const match = /^(?:\[([^\]]*)\]|([^:]*)):([^:]*)$/.exec(text);
  if (match === null) return undefined;
  return { host: match[1] ?? match[2] ?? "", port: match[3] as string };
}

function isPort(text: string): boolean {
  return /^\d{1,5}$/.test(text) && Number(text) <= 65535;
}
