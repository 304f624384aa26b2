import { EngineError } from "../base/errors.ts";
import { type Cidr, contains, containsCidr, familyOf, formatCidr, isUnspecified, networkOf } from "../base/ip.ts";
import type { IpamPoolSpec, NetworkSpec } from "./model.ts";

export const predefinedNames: ReadonlySet<string> = new Set(["bridge", "host", "none"]);

/** Refuses a spec that no driver could do, before anything is looked up. Pure. @throws {EngineError} in Docker's words. */
export function checkSpec(spec: NetworkSpec): void {
  if (spec.name.trim() === "") throw new EngineError("invalid", "invalid name: name is empty"); // compat:
  if (predefinedNames.has(spec.name)) {
    // compat: with the trailing space
    throw new EngineError("forbidden", `operation is not permitted on predefined ${spec.name} network `);
  }
  if (!spec.enableIpv4 && !spec.enableIpv6) throw new EngineError("invalid", "IPv4 or IPv6 must be enabled");
  const lines = spec.ipam.pools.flatMap((pool) => poolErrors(pool, spec));
  if (lines.length > 0) throw new EngineError("invalid", `invalid network config:\n${lines.join("\n")}`);
}

/** Every fault of one pool, in the reference engine's words and order (reference: network-data-plane 15). */
function poolErrors(pool: IpamPoolSpec, spec: NetworkSpec): readonly string[] {
  const { subnet } = pool;
  if (subnet === undefined) {
    const orphan = pool.ipRange !== undefined || pool.gateway !== undefined || Object.keys(pool.auxiliary).length > 0;
    return orphan ? ["invalid pool: no subnet given for its ip-range, gateway or auxiliary addresses"] : [];
  }
  const family = familyOf(subnet.address);
  if (family === 6 && !spec.enableIpv6) return [];
  // A pool-size request (`0.0.0.0/26`) has nothing to hold the others against.
  if (isUnspecified(subnet.address)) return [];
  const parent = formatCidr(subnet);
  const errors: string[] = [];
  const canonical = formatCidr(networkOf(subnet));
  if (parent !== canonical) errors.push(`invalid subnet ${parent}: it should be ${canonical}`);
  if (pool.ipRange !== undefined) errors.push(...rangeErrors(pool.ipRange, subnet));
  if (pool.gateway !== undefined && !contains(subnet, pool.gateway)) {
    errors.push(`invalid gateway ${pool.gateway}: parent subnet ${parent} doesn't contain this address`);
  }
  for (const address of Object.values(pool.auxiliary)) {
    if (!contains(subnet, address)) {
      errors.push(`invalid auxiliary address ${address}: parent subnet ${parent} doesn't contain this address`);
    }
  }
  return errors;
}

function rangeErrors(range: Cidr, subnet: Cidr): readonly string[] {
  const text = formatCidr(range);
  const parent = formatCidr(subnet);
  const errors: string[] = [];
  const canonical = formatCidr(networkOf(range));
  if (text !== canonical) errors.push(`invalid ip-range ${text}: it should be ${canonical}`);
  if (familyOf(range.address) === familyOf(subnet.address) && range.prefix < subnet.prefix) {
    errors.push(`invalid ip-range ${text}: CIDR block is bigger than its parent subnet ${parent}`);
  } else if (!containsCidr(subnet, range)) {
    errors.push(`invalid ip-range ${text}: parent subnet ${parent} doesn't contain ip-range`);
  }
  return errors;
}
