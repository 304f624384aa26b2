import { EngineError } from "../../base/errors.ts";
import {
  bitsOf,
  type Cidr,
  contains,
  familyOf,
  type IpAddress,
  type IpFamily,
  ipFromBigInt,
  ipToBigInt,
  networkOf,
  sizeOf,
} from "../../base/ip.ts";
import type { AddressUse, DefaultPool, Ipam } from "./ipam.ts";

export const ipam: Ipam = { choosePool, chooseAddress };

/** First and last address of a block, as numbers. */
interface Span {
  readonly first: bigint;
  readonly last: bigint;
}

function choosePool(pools: readonly DefaultPool[], family: IpFamily, taken: readonly Cidr[]): Cidr {
  const spans = taken.filter((cidr) => familyOf(cidr.address) === family).map(spanOf);
  spans.sort((a, b) => (a.first < b.first ? -1 : a.first > b.first ? 1 : 0));
  for (const pool of pools) {
    if (familyOf(pool.base.address) !== family) continue;
    const block = firstFreeBlock(spanOf(pool.base), 1n << BigInt(bitsOf(family) - pool.size), spans);
    if (block !== undefined) return { address: ipFromBigInt(block, family), prefix: pool.size };
  }
  throw new EngineError("invalid", "all predefined address pools have been fully subnetted"); // compat:
}

/** One pass over `taken`, sorted by first address: each span that touches the candidate moves it behind that span. */
function firstFreeBlock(pool: Span, blockSize: bigint, taken: readonly Span[]): bigint | undefined {
  let candidate = pool.first;
  for (const span of taken) {
    if (span.first > candidate + blockSize - 1n) break;
    if (span.last < candidate) continue;
    const behind = span.last + 1n - pool.first;
    candidate = pool.first + ((behind + blockSize - 1n) / blockSize) * blockSize;
  }
  return candidate + blockSize - 1n <= pool.last ? candidate : undefined;
}

function chooseAddress(
  use: AddressUse,
  options: { readonly wanted?: IpAddress; readonly last?: IpAddress },
): IpAddress {
  if (options.wanted !== undefined) return takeWanted(use, options.wanted);
  const family = familyOf(use.subnet.address);
  const span = assignable(use);
  if (span !== undefined) {
    const start = startAfter(span, family, options.last);
    const found = firstFree(use, family, start, span.last) ?? firstFree(use, family, span.first, start - 1n);
    if (found !== undefined) return found;
  }
  // compat: the caller appends `: <network> (<id>)`.
  throw new EngineError("exhausted", `no available IPv${family} addresses on this network's address pools`);
}

function takeWanted(use: AddressUse, wanted: IpAddress): IpAddress {
  if (!contains(use.subnet, wanted)) {
    const message = `invalid address ${wanted}: It does not belong to any of this network's subnets`; // compat:
    throw new EngineError("invalid", message);
  }
  const value = ipToBigInt(wanted);
  const hosts = hostsOf(use.subnet);
  if (value < hosts.first || value > hosts.last || use.isTaken(wanted)) {
    throw new EngineError("forbidden", "Address already in use"); // compat:
  }
  return wanted;
}

/** Every address looked at but the last is a taken one, so the cost is bounded by what is taken, not by the pool's size. */
function firstFree(use: AddressUse, family: IpFamily, first: bigint, last: bigint): IpAddress | undefined {
  for (let value = first; value <= last; value++) {
    const ip = ipFromBigInt(value, family);
    if (!use.isTaken(ip)) return ip;
  }
  return undefined;
}

function startAfter(span: Span, family: IpFamily, last: IpAddress | undefined): bigint {
  if (last === undefined || familyOf(last) !== family) return span.first;
  const next = ipToBigInt(last) + 1n;
  return next < span.first || next > span.last ? span.first : next;
}

/** What may be given without being asked for by name: the range within the subnet's host addresses. */
function assignable(use: AddressUse): Span | undefined {
  const hosts = hostsOf(use.subnet);
  // A range wider than its subnet is replaced by the subnet (reference: network-data-plane 11.1).
  if (use.range === undefined || use.range.prefix <= use.subnet.prefix) return hosts;
  const range = spanOf(use.range);
  const first = range.first > hosts.first ? range.first : hosts.first;
  const last = range.last < hosts.last ? range.last : hosts.last;
  return first <= last ? { first, last } : undefined;
}

/**
 * The subnet without its reserved addresses: network and broadcast in IPv4, the subnet-router anycast address in IPv6
 * (RFC 4291 s2.6.1). Point-to-point subnets (RFC 3021, RFC 6164) and single addresses have none.
 */
function hostsOf(subnet: Cidr): Span {
  const { first, last } = spanOf(subnet);
  if (last - first < 2n) return { first, last };
  return { first: first + 1n, last: familyOf(subnet.address) === 4 ? last - 1n : last };
}

function spanOf(cidr: Cidr): Span {
  const first = ipToBigInt(networkOf(cidr).address);
  return { first, last: first + sizeOf(cidr) - 1n };
}
