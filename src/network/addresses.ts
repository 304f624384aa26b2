import { EngineError } from "../base/errors.ts";
import {
  bitsOf,
  type Cidr,
  contains,
  familyOf,
  type IpAddress,
  type IpFamily,
  isUnspecified,
  overlaps,
} from "../base/ip.ts";
import type { DefaultPool } from "./ipam/ipam.ts";
import { ipam } from "./ipam/mod.ts";
import type { Endpoint, EndpointRequest, IpamPool, IpamPoolSpec, Network, NetworkSpec } from "./model.ts";

export interface PoolContext {
  /** Subnets of the networks of this address space. */
  readonly used: readonly Cidr[];
  /** What automatic choice avoids besides: the host's routes and name servers. */
  readonly avoid: readonly Cidr[];
  readonly defaults: readonly DefaultPool[];
}

/** Subnets, ranges and gateways of a new local network. Pure. @throws {EngineError} in Docker's words. */
export function assignPools(spec: NetworkSpec, context: PoolContext): readonly IpamPool[] {
  const families: IpFamily[] = [...(spec.enableIpv4 ? ([4] as const) : []), ...(spec.enableIpv6 ? ([6] as const) : [])];
  const used = [...context.used];
  const pools: IpamPool[] = [];
  for (const family of families) {
    const asked = spec.ipam.pools.filter(
      (pool) => pool.subnet !== undefined && familyOf(pool.subnet.address) === family,
    );
    for (const pool of asked.length > 0 ? asked : [{ auxiliary: {} } satisfies IpamPoolSpec]) {
      const assigned = assignPool(pool, family, { ...context, used });
      used.push(assigned.subnet);
      pools.push(assigned);
    }
  }
  return pools;
}

function assignPool(spec: IpamPoolSpec, family: IpFamily, context: PoolContext): IpamPool {
  const subnet = chooseSubnet(spec.subnet, family, context);
  const wider = spec.ipRange !== undefined && spec.ipRange.prefix <= subnet.prefix;
  const range = wider ? undefined : spec.ipRange;
  const auxiliary = new Set<IpAddress>(Object.values(spec.auxiliary));
  const use = { subnet, range, isTaken: (ip: IpAddress) => auxiliary.has(ip) };
  const gateway = ipam.chooseAddress(use, spec.gateway === undefined ? {} : { wanted: spec.gateway });
  return { subnet, gateway, auxiliary: spec.auxiliary, ...(range === undefined ? {} : { ipRange: range }) };
}

function chooseSubnet(wanted: Cidr | undefined, family: IpFamily, context: PoolContext): Cidr {
  const taken = [...context.used, ...context.avoid];
  if (wanted === undefined) return ipam.choosePool(context.defaults, family, taken);
  if (isUnspecified(wanted.address)) {
    // `0.0.0.0/26`: any block of that size (reference: network-data-plane 11.1).
    const sized = context.defaults
      .filter((pool) => familyOf(pool.base.address) === family && pool.base.prefix <= wanted.prefix)
      .map((pool) => ({ base: pool.base, size: wanted.prefix }));
    return ipam.choosePool(sized, family, taken);
  }
  if (context.used.some((other) => overlaps(other, wanted))) {
    // compat:
    throw new EngineError("forbidden", "invalid pool request: Pool overlaps with other one on this address space");
  }
  return wanted;
}

export interface EndpointAddresses {
  readonly ipv4: Cidr | undefined;
  readonly ipv6: Cidr | undefined;
  readonly gateway: IpAddress | undefined;
  readonly gateway6: IpAddress | undefined;
}

export const noAddresses: EndpointAddresses = {
  ipv4: undefined,
  ipv6: undefined,
  gateway: undefined,
  gateway6: undefined,
};

/** Addresses of a new endpoint among those in force. Pure. `last` is the address given before, per family. */
export function assignAddresses(
  network: Network,
  request: EndpointRequest,
  endpoints: readonly Endpoint[],
  last: (family: IpFamily) => IpAddress | undefined,
): EndpointAddresses {
  const of = (family: IpFamily) =>
    assignAddress(network, family, family === 4 ? request.ipv4 : request.ipv6, endpoints, last);
  const v4 = of(4);
  const v6 = of(6);
  return { ipv4: v4?.address, gateway: v4?.gateway, ipv6: v6?.address, gateway6: v6?.gateway };
}

function assignAddress(
  network: Network,
  family: IpFamily,
  wanted: IpAddress | undefined,
  endpoints: readonly Endpoint[],
  last: (family: IpFamily) => IpAddress | undefined,
): { readonly address: Cidr; readonly gateway: IpAddress | undefined } | undefined {
  const pools = network.pools.filter((pool) => familyOf(pool.subnet.address) === family);
  const pool = wanted === undefined ? pools[0] : (pools.find((p) => contains(p.subnet, wanted)) ?? pools[0]);
  if (pool === undefined) return undefined;
  const taken = new Set<IpAddress>(Object.values(pool.auxiliary));
  if (pool.gateway !== undefined) taken.add(pool.gateway);
  for (const endpoint of endpoints) {
    const address = family === 4 ? endpoint.ipv4 : endpoint.ipv6;
    if (address !== undefined) taken.add(address.address);
  }
  const before = last(family);
  const use = { subnet: pool.subnet, range: pool.ipRange, isTaken: (ip: IpAddress) => taken.has(ip) };
  let address: IpAddress;
  try {
    address = ipam.chooseAddress(use, {
      ...(wanted === undefined ? {} : { wanted }),
      ...(before === undefined ? {} : { last: before }),
    });
  } catch (error) {
    if (!(error instanceof EngineError) || error.code !== "exhausted") throw error;
    // compat: no available IPv4 addresses on this network's address pools: NAME (ID)
    throw new EngineError("exhausted", `${error.message}: ${network.spec.name} (${network.id})`, { cause: error });
  }
  const override = pool.auxiliary[family === 4 ? "DefaultGatewayIPv4" : "DefaultGatewayIPv6"];
  return { address: { address, prefix: pool.subnet.prefix }, gateway: override ?? pool.gateway };
}

/** A single address as a subnet, for `avoid`. */
export function hostCidr(ip: IpAddress): Cidr {
  return { address: ip, prefix: bitsOf(familyOf(ip)) };
}
