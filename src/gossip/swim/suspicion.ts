import type { Instant } from "../../base/clock.ts";

const multiplier = 4;
const maxMultiplier = 6;

/** How long an accused member has to refute; each confirmation by another member shortens it. */
export interface Suspicion {
  readonly startedAt: Instant;
  readonly minMs: number;
  readonly maxMs: number;
  /** Confirmations after which nothing gets shorter. */
  readonly wanted: number;
  readonly accusers: readonly string[];
}

export function suspect(accuser: string, members: number, probeIntervalMs: number, now: Instant): Suspicion {
  const minMs = multiplier * Math.max(1, Math.log10(Math.max(1, members))) * probeIntervalMs;
  const expected = multiplier - 2;
  const wanted = members - 2 < expected ? 0 : expected;
  return { startedAt: now, minMs, maxMs: minMs * maxMultiplier, wanted, accusers: [accuser] };
}

/** The suspicion with one more accuser, or `undefined` when that tells nothing new. */
export function confirm(suspicion: Suspicion, accuser: string): Suspicion | undefined {
  if (confirmations(suspicion) >= suspicion.wanted || suspicion.accusers.includes(accuser)) return undefined;
  return { ...suspicion, accusers: [...suspicion.accusers, accuser] };
}

/** When the accused counts as dead. */
export function deadlineOf(suspicion: Suspicion): Instant {
  const { startedAt, minMs, maxMs, wanted } = suspicion;
  if (wanted === 0) return startedAt + minMs;
  const share = Math.log(confirmations(suspicion) + 1) / Math.log(wanted + 1);
  return startedAt + Math.max(minMs, maxMs - (maxMs - minMs) * share);
}

function confirmations(suspicion: Suspicion): number {
  return suspicion.accusers.length - 1;
}
