import type { Instant } from "../base/clock.ts";
import { type Endpoint, formatEndpoint } from "./swim/model.ts";

const firstRetryMs = 1_000;
const maxRetryMs = 60_000;
const checkIntervalMs = 5_000;

interface Seed {
  readonly endpoint: Endpoint;
  readonly at: Instant;
  readonly retryMs: number;
}

/**
 * The managers' addresses. Each one that is no active member is tried again with growing pauses, whatever the others do:
 * looking only at whether any of them is a member lets a split cluster stay split (reference: network-data-plane 4.6).
 */
export class Bootstrap {
  #seeds = new Map<string, Seed>();

  /** Replaces the list; all are due at once. */
  set(endpoints: readonly Endpoint[], now: Instant): void {
    this.#seeds = new Map(
      endpoints.map((endpoint) => [formatEndpoint(endpoint), { endpoint, at: now, retryMs: firstRetryMs }]),
    );
  }

  nextDeadline(): Instant {
    return Math.min(Number.POSITIVE_INFINITY, ...[...this.#seeds.values()].map(({ at }) => at));
  }

  /** Those to join through now. */
  due(isMember: (endpoint: Endpoint) => boolean, now: Instant): Endpoint[] {
    const wanted: Endpoint[] = [];
    for (const [key, seed] of this.#seeds) {
      if (seed.at > now) continue;
      const { endpoint } = seed;
      if (isMember(endpoint)) {
        this.#seeds.set(key, { endpoint, at: now + checkIntervalMs, retryMs: firstRetryMs });
        continue;
      }
      wanted.push(endpoint);
      this.#seeds.set(key, { endpoint, at: now + seed.retryMs, retryMs: Math.min(maxRetryMs, seed.retryMs * 2) });
    }
    return wanted;
  }
}
