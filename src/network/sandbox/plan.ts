import { shortId } from "../../base/ids.ts";
import { familyOf } from "../../base/ip.ts";
import type { Endpoint, EndpointRequest, Network, SandboxRequest } from "../model.ts";
import { type Attached, gatewayBridgeName, isGatewayBridge } from "./gateway.ts";

/** Whether containers on this network find each other by name (reference: network-data-plane 7.1). */
export function hasNames(network: Network): boolean {
  const { driver, options, ingress } = network.spec;
  if (driver === "host" || driver === "null" || ingress || isGatewayBridge(network)) return false;
  return options["com.docker.network.bridge.default_bridge"] !== "true";
}

/** In order: container name, aliases, short id, host name; the first is the PTR answer. None on the default bridge. */
export function namesOf(
  network: Network,
  request: EndpointRequest,
  container: Pick<SandboxRequest, "containerName" | "containerId" | "hostname">,
): readonly string[] {
  if (!hasNames(network)) return [];
  const names = [container.containerName, ...request.aliases, shortId(container.containerId), container.hostname];
  return [...new Set(names.filter((name) => name !== ""))];
}

/** `alias -> container` of `--link container:alias` on a network with names. */
export function linksOf(request: EndpointRequest): ReadonlyMap<string, string> {
  const pairs = request.links.map((link) => link.split(":")).map(([name, alias]) => [alias ?? name, name] as const);
  return new Map(
    pairs.filter((pair): pair is readonly [string, string] => pair[0] !== undefined && pair[1] !== undefined),
  );
}

/** The next free `ethN`; networks without an interface of their own have none. */
export function nextInterface(network: Network, taken: readonly Endpoint[]): string {
  if (network.spec.driver === "host" || network.spec.driver === "null") return "";
  for (let n = 0; ; n++) {
    const name = `eth${n}`;
    if (!taken.some((endpoint) => endpoint.interfaceName === name)) return name;
  }
}

/** Addresses that the hosts file lists: not those of docker_gwbridge and ingress. */
export function listedAddresses(attached: readonly Attached[]) {
  return attached
    .filter(({ network }) => !isGatewayBridge(network) && !network.spec.ingress)
    .flatMap(({ endpoint }) => [endpoint.ipv4?.address, endpoint.ipv6?.address])
    .filter((address) => address !== undefined);
}

export function hasFamily(attached: readonly Attached[], family: 4 | 6): boolean {
  return listedAddresses(attached).some((address) => familyOf(address) === family);
}

/** Names are tried on the swarm's networks first, then in gateway order (reference: network-data-plane 7.3). */
export function nameOrder(ordered: readonly Attached[]): readonly Attached[] {
  const named = ordered.filter(({ network }) => hasNames(network));
  return [...named.filter((a) => a.network.scope !== "local"), ...named.filter((a) => a.network.scope === "local")];
}

export function gatewayRequest(): EndpointRequest {
  return {
    network: gatewayBridgeName,
    ipv4: undefined,
    ipv6: undefined,
    mac: undefined,
    aliases: [],
    links: [],
    driverOptions: {},
    gatewayPriority: 0,
  };
}
