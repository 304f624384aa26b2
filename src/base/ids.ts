import type { Random } from "./random.ts";

/** 64 lower-case hex digits: containers, images' ids, local networks, endpoints, sandboxes. */
export function newHexId(random: Random): string {
  return Buffer.from(random.bytes(32)).toString("hex");
}

/** 25 base-36 characters: swarm objects (reference: swarm-control-plane 1). */
export function newSwarmId(random: Random): string {
  const bytes = random.bytes(17);
  bytes[0] = (bytes[0] as number) | 0x80;
  return BigInt(`0x${Buffer.from(bytes).toString("hex")}`)
    .toString(36)
    .slice(1, 26);
}

/** First 12 characters, as people see ids. */
export function shortId(id: string): string {
  return id.slice(0, 12);
}
