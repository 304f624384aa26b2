import { createHash } from "node:crypto";
import { EngineError } from "../../../base/errors.ts";
import {
  type Cidr,
  contains,
  familyOf,
  formatCidr,
  type IpAddress,
  type MacAddress,
  macFromBytes,
} from "../../../base/ip.ts";
import type { KernelObject, Netns } from "../../../kernel/mod.ts";
import type { Endpoint, IpamPool, Network } from "../../model.ts";
import { parseOverlayOptions } from "./options.ts";

/** What the host brings along: where its namespaces are kept and where its tunnels end. */
export interface OverlayHost {
  readonly netnsDirectory: string;
  readonly dataPath: { readonly address: IpAddress; readonly portHostOrder: number };
}

/** One IPv4 subnet of a network with the devices that serve it. */
export interface Subnet {
  readonly pool: IpamPool;
  readonly vni: number;
  readonly bridge: string;
  readonly tunnel: string;
}

/** @throws {EngineError} `invalid` when the manager gave fewer VNIs than there are IPv4 subnets. */
export function subnetsOf(network: Network): readonly Subnet[] {
  const pools = network.pools.filter((pool) => familyOf(pool.subnet.address) === 4);
  if (network.vnis.length === 0) throw new EngineError("invalid", "no VNI provided"); // compat:
  return pools.map((pool, i) => {
    const vni = network.vnis[i];
    if (vni === undefined) {
      throw new EngineError("invalid", `insufficient vnis(${network.vnis.length}) passed to overlay`); // compat:
    }
    return { pool, vni, bridge: `br${i}`, tunnel: `vxlan${i}` };
  });
}

/** The subnet an address belongs to; the prefix lengths must agree (trap T17). */
export function subnetFor(subnets: readonly Subnet[], address: Cidr): Subnet | undefined {
  return subnets.find(({ pool }) => pool.subnet.prefix === address.prefix && contains(pool.subnet, address.address));
}

/** `1-` and ten digits of the id: the name Docker gives it, so that tools that look for it find it. */
export function overlayNamespace(network: Network, netnsDirectory: string): { readonly path: string } {
  return { path: `${netnsDirectory}/1-${network.id.slice(0, 10)}` };
}

/** Namespace, bridges and tunnel devices of a network; endpoints and peers apart. */
export function networkObjects(network: Network, host: OverlayHost): readonly KernelObject[] {
  const ns = overlayNamespace(network, host.netnsDirectory);
  const { mtuBytes } = parseOverlayOptions(network.spec.options);
  const subnets = subnetsOf(network);
  const objects: KernelObject[] = [{ kind: "netns", path: ns.path }];
  // Nothing here is filtered at the bridge, and passing netfilter all the same costs a tenth of the throughput.
  for (const table of ["iptables", "ip6tables", "arptables"]) {
    objects.push({ kind: "sysctl", ns, key: `net.bridge.bridge-nf-call-${table}`, value: "0" });
  }
  if (subnets.length > 1) objects.push({ kind: "sysctl", ns, key: "net.ipv4.ip_forward", value: "1" });
  for (const [i, subnet] of subnets.entries()) {
    const mac = bridgeMac(network, host.dataPath.address, i);
    objects.push({ kind: "link", ns, link: { type: "bridge", name: subnet.bridge, mtuBytes, mac } });
    objects.push({
      kind: "link",
      ns,
      link: {
        type: "vxlan",
        name: subnet.tunnel,
        vni: subnet.vni,
        portHostOrder: host.dataPath.portHostOrder,
        mtuBytes,
        master: subnet.bridge,
        outerFamily: familyOf(host.dataPath.address),
        local: host.dataPath.address,
      },
    });
    if (subnet.pool.gateway !== undefined) objects.push(gatewayAddress(ns, subnet.bridge, subnet.pool));
  }
  const first = subnets[0];
  for (const pool of network.pools) {
    if (familyOf(pool.subnet.address) !== 6 || pool.gateway === undefined || first === undefined) continue;
    objects.push(gatewayAddress(ns, first.bridge, pool));
  }
  return objects;
}

function gatewayAddress(ns: Netns, link: string, pool: IpamPool): KernelObject {
  const address = { address: pool.gateway as IpAddress, prefix: pool.subnet.prefix };
  return { kind: "address", ns, link, address, noDad: true };
}

/**
 * Stays the same while ports come and go, so that containers' neighbour entries for the gateway stay true; and differs from
 * node to node, since a bridge drops what comes in with its own address as source.
 */
function bridgeMac(network: Network, vtep: IpAddress, index: number): MacAddress {
  const digest = createHash("sha256").update(`${network.id} ${vtep} ${index}`).digest();
  return macFromBytes(Uint8Array.from([0x02, ...digest.subarray(0, 5)]));
}

/**
 * Interface, addresses and routes of one endpoint. @throws {EngineError} `invalid` when its address is in none of the
 * network's subnets.
 */
export function endpointObjects(
  network: Network,
  endpoint: Endpoint,
  namespacePath: string,
  netnsDirectory: string,
): readonly KernelObject[] {
  const ns: Netns = { path: namespacePath };
  const link = endpoint.interfaceName;
  const { ipv4, mac } = endpoint;
  if (ipv4 === undefined || mac === undefined) {
    throw new EngineError(
      "invalid",
      `endpoint ${endpoint.id} of network ${JSON.stringify(network.spec.name)} has no IPv4 address`,
    );
  }
  const subnets = subnetsOf(network);
  const own = subnetFor(subnets, ipv4);
  if (own === undefined) {
    const message = `no matching subnet for IP ${JSON.stringify(formatCidr(ipv4))} in network ${JSON.stringify(network.id)}`;
    throw new EngineError("invalid", message); // compat:
  }
  const objects: KernelObject[] = [
    {
      kind: "link",
      ns: overlayNamespace(network, netnsDirectory),
      link: {
        type: "veth",
        name: `veth${endpoint.id.slice(0, 11)}`,
        mtuBytes: parseOverlayOptions(network.spec.options).mtuBytes,
        master: own.bridge,
        peer: { ns, name: link, mac },
      },
    },
    { kind: "address", ns, link, address: ipv4 },
    { kind: "sysctl", ns, key: `net.ipv6.conf.${link}.disable_ipv6`, value: endpoint.ipv6 === undefined ? "1" : "0" },
  ];
  if (endpoint.ipv6 !== undefined) objects.push({ kind: "address", ns, link, address: endpoint.ipv6, noDad: true });
  const { gateway } = own.pool;
  for (const other of subnets) {
    if (other === own || gateway === undefined) continue;
    objects.push({ kind: "route", ns, route: { destination: other.pool.subnet, gateway, link } });
  }
  return objects;
}
