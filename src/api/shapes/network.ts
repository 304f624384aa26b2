import { formatCidr } from "../../base/ip.ts";
import type { IpamPool, IpamPoolSpec, Network, NetworkMember } from "../../network/mod.ts";

export interface NetworkView {
  /** undefined: in a list, which shows none. */
  readonly members?: readonly NetworkMember[];
  readonly peers?: readonly { readonly name: string; readonly address: string }[] | undefined;
}

/** `GET /networks/{id}` and, without a view, an element of `GET /networks` (reference: network-data-plane 14.1). */
export function networkJson(network: Network, view?: NetworkView): Readonly<Record<string, unknown>> {
  const { spec } = network;
  return {
    Name: spec.name,
    Id: network.id,
    Created: network.createdAt,
    Scope: network.scope,
    Driver: spec.driver,
    EnableIPv4: spec.enableIpv4,
    EnableIPv6: spec.enableIpv6,
    IPAM: ipamOf(network),
    Internal: spec.internal,
    Attachable: spec.attachable,
    Ingress: spec.ingress,
    ConfigFrom: { Network: spec.configFrom ?? "" },
    ConfigOnly: spec.configOnly,
    Containers: containersOf(network, view),
    Options: optionsOf(network),
    Labels: spec.labels,
    ...(view?.peers === undefined ? {} : { Peers: view.peers.map((peer) => ({ Name: peer.name, IP: peer.address })) }),
  };
}

function ipamOf(network: Network): Readonly<Record<string, unknown>> {
  const { ipam } = network.spec;
  const hasNone = network.pools.length === 0 && ipam.pools.length === 0;
  // compat: a local network shows the pools that were asked for, and what was assigned only where nothing was.
  const asked = ipam.pools.filter((pool) => pool.subnet !== undefined);
  const shown = network.scope === "local" && asked.length > 0 ? asked : network.pools;
  return {
    Driver: ipam.driver,
    Options: hasNone || network.scope !== "local" ? null : ipam.options,
    Config: hasNone ? null : shown.map(poolOf),
  };
}

function poolOf(pool: IpamPool | IpamPoolSpec): Readonly<Record<string, unknown>> {
  const hasAuxiliary = Object.keys(pool.auxiliary).length > 0;
  return {
    ...(pool.subnet === undefined ? {} : { Subnet: formatCidr(pool.subnet) }),
    ...(pool.ipRange === undefined ? {} : { IPRange: formatCidr(pool.ipRange) }),
    ...(pool.gateway === undefined ? {} : { Gateway: pool.gateway }),
    ...(hasAuxiliary ? { AuxiliaryAddresses: pool.auxiliary } : {}),
  };
}

function containersOf(network: Network, view: NetworkView | undefined): Readonly<Record<string, unknown>> | null {
  const members = view?.members ?? [];
  // compat: a manager that has no part in a swarm network answers from the store, without members.
  if (view !== undefined && network.scope === "swarm" && members.length === 0 && view.peers === undefined) return null;
  return Object.fromEntries(
    members.map((member) => [
      member.key,
      {
        Name: member.name,
        EndpointID: member.endpointId,
        MacAddress: member.mac ?? "",
        IPv4Address: member.ipv4 === undefined ? "" : formatCidr(member.ipv4),
        IPv6Address: member.ipv6 === undefined ? "" : formatCidr(member.ipv6),
      },
    ]),
  );
}

function optionsOf(network: Network): Readonly<Record<string, string>> {
  const vnis =
    network.vnis.length === 0 ? {} : { "com.docker.network.driver.overlay.vxlanid_list": network.vnis.join(",") };
  return { ...vnis, ...network.spec.options };
}
