import { createHash } from "node:crypto";
import { ipFromBytes, parseCidr } from "../../base/ip.ts";
import type { DefaultPool } from "./ipam.ts";

const pool = (base: string, size: number): DefaultPool => ({ base: parseCidr(base), size });

/** Pools of networks of scope local, in the order in which they are tried (reference: network-data-plane 11.1). */
export const localDefaultPools: readonly DefaultPool[] = [
  pool("172.17.0.0/16", 16),
  pool("172.18.0.0/16", 16),
  pool("172.19.0.0/16", 16),
  pool("172.20.0.0/14", 16),
  pool("172.24.0.0/14", 16),
  pool("172.28.0.0/14", 16),
  pool("192.168.0.0/16", 20),
];

/** Pools of swarm networks unless `swarm init --default-addr-pool` names others. */
export const globalDefaultPools: readonly DefaultPool[] = [pool("10.0.0.0/8", 24)];

/**
 * This engine's own IPv6 pool, a /48 cut into /64: `fd`, then bytes 3 to 7 of SHA-256 over the engine id's text. Appended to the
 * pools in force when none of them is IPv6.
 */
export function ulaPool(engineId: string): DefaultPool {
  const hash = createHash("sha256").update(engineId).digest();
  const bytes = new Uint8Array(16);
  bytes[0] = 0xfd;
  bytes.set(hash.subarray(3, 8), 1);
  return { base: { address: ipFromBytes(bytes), prefix: 48 }, size: 64 };
}
