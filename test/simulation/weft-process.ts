import { Code, ConnectError } from "@connectrpc/connect";
import type { Clock } from "../../src/base/clock.ts";
import type { Random } from "../../src/base/random.ts";
import type { Kernel, KernelObject, Netns } from "../../src/kernel/mod.ts";
import type { Change, Store } from "../../src/store/mod.ts";
import type { World } from "./gossip-world.ts";

/** A call into the kernel or the disk takes up to so long, so that what happens meanwhile gets in between. */
const slowestCallMs = 2;
const start = Date.UTC(2026, 0, 1);

/**
 * One life of a weftd. Everything it reaches the world through stops answering when it is killed, as for a real process:
 * no clean-up, no catch clause, no timer of its runs on.
 */
export class WeftProcess {
  readonly clock: Clock;
  readonly #world: World;
  readonly #random: Random;
  readonly #killed = new AbortController();
  #callsLeft = Number.POSITIVE_INFINITY;
  #onCrash = () => {};

  constructor(world: World, random: Random) {
    this.#world = world;
    this.#random = random;
    this.clock = this.#openClock();
  }

  get isRunning(): boolean {
    return !this.#killed.signal.aborted;
  }

  /** Aborts as the process ends: its sockets are closed. Nothing inside it may listen. */
  get ended(): AbortSignal {
    return this.#killed.signal;
  }

  kill(): void {
    // What the other end of its connections is told.
    this.#killed.abort(new ConnectError("connection reset by peer", Code.Unavailable));
  }

  /** Calls `crash` right after the `count`-th call into kernel or store from now. */
  crashAfter(count: number, crash: () => void): void {
    this.#callsLeft = count;
    this.#onCrash = crash;
  }

  kernel(real: Kernel): Kernel {
    const withReal = <T>(call: () => T, otherwise: T) => (this.isRunning ? call() : otherwise);
    return {
      reconcile: (unit: string, desired: readonly KernelObject[], signal: AbortSignal) =>
        this.#call(() => real.reconcile(unit, desired, signal)),
      sweep: (directory, signal) => this.#call(() => real.sweep(directory, signal)),
      sweepPeers: (ns, signal) => this.#call(() => real.sweepPeers(ns, signal)),
      links: (ns: Netns) => real.links(ns),
      routes: (ns: Netns) => real.routes(ns),
      watchLinks: (ns, listener) => real.watchLinks(ns, () => withReal(listener, undefined)),
      openSocket: (ns, socket) => real.openSocket(ns, socket),
      openUnbound: (ns, type) => real.openUnbound(ns, type),
      flushConntrack: (ns, match) => withReal(() => real.flushConntrack(ns, match), 0),
      announce: (ns, link, ip, mac) => withReal(() => real.announce(ns, link, ip, mac), undefined),
    };
  }

  store(real: Store): Store {
    return {
      get: (key) => this.#call(() => real.get(key)),
      list: (prefix) => this.#call(() => real.list(prefix)),
      commit: (changes: readonly Change[]) => this.#call(() => real.commit(changes)),
      watch: (prefix, listener) => real.watch(prefix, (events) => this.isRunning && listener(events)),
    };
  }

  /** Takes some time, then happens whole or, when the process has been killed by then, not at all and never returns. */
  async #call<T>(act: () => Promise<T>): Promise<T> {
    await this.#pause(this.#random.below(slowestCallMs * 1000) / 1000);
    if (!this.isRunning) return forever();
    const result = await act();
    this.#callsLeft -= 1;
    if (this.#callsLeft === 0) this.#onCrash();
    return this.isRunning ? result : forever();
  }

  #pause(delayMs: number): Promise<void> {
    return new Promise((done) => this.#world.after(delayMs, done));
  }

  #openClock(): Clock {
    const now = () => this.#world.now;
    const after = (delayMs: number, run: () => void) =>
      this.#world.after(delayMs, () => {
        if (this.isRunning) run();
      });
    return {
      now,
      wall: () => new Date(start + now()),
      after,
      timeout(delayMs) {
        const timeout = new AbortController();
        after(delayMs, () => timeout.abort(new DOMException("timed out", "TimeoutError")));
        return timeout.signal;
      },
      sleep(delayMs, signal) {
        return new Promise((resolve, reject) => {
          if (signal.aborted) return reject(signal.reason);
          const timer = after(delayMs, () => {
            signal.removeEventListener("abort", onAbort);
            resolve();
          });
          const onAbort = () => {
            timer[Symbol.dispose]();
            reject(signal.reason);
          };
          signal.addEventListener("abort", onAbort, { once: true });
        });
      },
    };
  }
}

function forever<T>(): Promise<T> {
  return new Promise(() => {});
}
