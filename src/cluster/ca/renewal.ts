import type { Random } from "../../base/random.ts";
import { parseBundle } from "./chain.ts";

const minuteMs = 60_000;

/**
 * When to renew a certificate: uniformly between half and four fifths of its life, in whole minutes; an expired one now
 * (reference: swarm-control-plane 3.4). Pure.
 */
export function renewalDelayMs(chainPem: Uint8Array, now: Date, random: Random): number {
  const leaf = parseBundle(chainPem)[0];
  if (leaf === undefined || leaf.validToDate <= now) return 0;
  const lifeMinutes = Math.floor((leaf.validToDate.getTime() - leaf.validFromDate.getTime()) / minuteMs);
  const earliest = Math.floor(lifeMinutes * 0.5);
  const latest = Math.floor(lifeMinutes * 0.8);
  const at = earliest + random.below(Math.max(1, latest - earliest));
  return Math.max(0, leaf.validFromDate.getTime() + at * minuteMs - now.getTime());
}
