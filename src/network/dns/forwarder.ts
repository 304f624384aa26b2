import type { Clock, Instant } from "../../base/clock.ts";
import { nsKey } from "../../kernel/mod.ts";
import { answerCount, type Query, rcode, responseCode } from "../../wire/dns/mod.ts";
import type { Upstream } from "./dns.ts";

export type Transport = "udp" | "tcp";
/** Asks one upstream; undefined stands for no answer. */
export type Ask = (
  query: Query,
  upstream: Upstream,
  transport: Transport,
  signal: AbortSignal,
) => Promise<Uint8Array | undefined>;

const maxUpstreams = 3;
const maxConcurrent = 1024;
const maxQueueWaitMs = 4000;
/** A slow upstream is given this start over the next one. */
const hedgeDelayMs = 300;
/** This many questions in a row without an answer put an upstream last, for a while. */
const strikesUntilLast = 2;
const lastForMs = 30_000;

/**
 * Asks upstreams in their order. Answers are those that asking one after another gives, sooner: the next one is asked
 * already while a slow one may still answer, and one that has been silent is asked last.
 */
export class Forwarder {
  readonly #ask: Ask;
  readonly #clock: Clock;
  readonly #health = new Map<string, { strikes: number; lastUntil: Instant }>();
  readonly #queue: (() => void)[] = [];
  #running = 0;

  constructor(clock: Clock, ask: Ask) {
    this.#clock = clock;
    this.#ask = ask;
  }

  /** The answer to pass on; `failed` when no upstream has one, `busy` when too many questions are under way. */
  async forward(
    query: Query,
    upstreams: readonly Upstream[],
    transport: Transport,
    signal: AbortSignal,
  ): Promise<Uint8Array | "failed" | "busy"> {
    if (!(await this.#enter(signal))) return "busy";
    try {
      return (await this.#race(query, this.#ordered(upstreams), transport, signal)) ?? "failed";
    } finally {
      const next = this.#queue.shift();
      if (next === undefined) this.#running -= 1;
      else next();
    }
  }

  /** Waits for one of the places; a place that becomes free is handed over, so the count stays. */
  #enter(signal: AbortSignal): Promise<boolean> {
    if (this.#running < maxConcurrent) {
      this.#running += 1;
      return Promise.resolve(true);
    }
    return new Promise((resolve) => {
      const settle = (entered: boolean) => {
        timer[Symbol.dispose]();
        signal.removeEventListener("abort", giveUp);
        resolve(entered);
      };
      const enter = () => settle(true);
      const giveUp = () => {
        const place = this.#queue.indexOf(enter);
        if (place >= 0) this.#queue.splice(place, 1);
        settle(false);
      };
      const timer = this.#clock.after(maxQueueWaitMs, giveUp);
      signal.addEventListener("abort", giveUp, { once: true });
      this.#queue.push(enter);
    });
  }

  /** Silent ones last, the given order otherwise. */
  #ordered(upstreams: readonly Upstream[]): readonly Upstream[] {
    const now = this.#clock.now();
    const isSilent = (upstream: Upstream) => (this.#health.get(keyOf(upstream))?.lastUntil ?? 0) > now;
    const tried = upstreams.slice(0, maxUpstreams);
    return [...tried.filter((u) => !isSilent(u)), ...tried.filter(isSilent)];
  }

  #race(
    query: Query,
    upstreams: readonly Upstream[],
    transport: Transport,
    outer: AbortSignal,
  ): Promise<Uint8Array | undefined> {
    const stop = new AbortController();
    const signal = AbortSignal.any([outer, stop.signal]);
    /** Per upstream asked so far: still open, failed, or an answer that waits for those before it. */
    const states: ("open" | "failed" | Uint8Array)[] = [];
    return new Promise((resolve) => {
      let hedge: Disposable | undefined;
      const finish = (answer: Uint8Array | undefined) => {
        hedge?.[Symbol.dispose]();
        outer.removeEventListener("abort", abort);
        if (answer !== undefined) {
          for (const [i, state] of states.entries()) if (state === "open") this.#strike(upstreams[i] as Upstream);
        }
        stop.abort();
        resolve(answer);
      };
      const abort = () => finish(undefined);
      /**
       * An answer that finds nothing must not overtake an earlier upstream, which may know the name: names that only an
       * inner server has. One that was silent lately does not get that patience.
       */
      const settleInOrder = () => {
        for (const [i, state] of states.entries()) {
          if (state instanceof Uint8Array) return finish(state);
          if (state === "open" && !this.#health.has(keyOf(upstreams[i] as Upstream))) return;
        }
        if (states.includes("open")) return;
        if (states.length < upstreams.length) askNext();
        else finish(undefined);
      };
      const askNext = () => {
        hedge?.[Symbol.dispose]();
        hedge = undefined;
        const index = states.length;
        const upstream = upstreams[index];
        if (upstream === undefined || stop.signal.aborted) return;
        states.push("open");
        if (index + 1 < upstreams.length) hedge = this.#clock.after(hedgeDelayMs, askNext);
        void this.#askOne(query, upstream, transport, signal).then((answer) => {
          if (stop.signal.aborted) return;
          states[index] = answer ?? "failed";
          if (answer !== undefined && isPositive(answer)) finish(answer);
          else settleInOrder();
        });
      };
      outer.addEventListener("abort", abort, { once: true });
      if (outer.aborted || upstreams.length === 0) finish(undefined);
      else askNext();
    });
  }

  /** Never rejects: a socket that cannot be opened is an upstream that does not answer. */
  async #askOne(
    query: Query,
    upstream: Upstream,
    transport: Transport,
    signal: AbortSignal,
  ): Promise<Uint8Array | undefined> {
    const answer = await this.#ask(query, upstream, transport, signal).catch(() => undefined);
    if (answer !== undefined) this.#health.delete(keyOf(upstream));
    else if (!signal.aborted) this.#strike(upstream);
    const code = answer === undefined ? undefined : responseCode(answer);
    return code === rcode.serverFailure || code === rcode.refused ? undefined : answer;
  }

  #strike(upstream: Upstream): void {
    const strikes = (this.#health.get(keyOf(upstream))?.strikes ?? 0) + 1;
    const lastUntil = strikes >= strikesUntilLast ? this.#clock.now() + lastForMs : 0;
    this.#health.set(keyOf(upstream), { strikes, lastUntil });
  }
}

function isPositive(answer: Uint8Array): boolean {
  return responseCode(answer) === rcode.noError && answerCount(answer) > 0;
}

function keyOf(upstream: Upstream): string {
  return `${upstream.address} ${upstream.portHostOrder} ${nsKey(upstream.from)}`;
}
