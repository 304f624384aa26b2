import { deferred, withSignal } from "../../base/async.ts";

interface Running<T, P> {
  readonly result: Promise<T>;
  readonly stop: AbortController;
  readonly watchers: Set<(progress: P) => void>;
  last: P | undefined;
}

/**
 * Work that several callers may want at once is done once: later callers join what is under way, see its last progress, and
 * it is given up only when the last of them has left.
 */
export class SharedWork<T, P> {
  readonly #running = new Map<string, Running<T, P>>();

  async run(
    key: string,
    start: (progress: (p: P) => void, signal: AbortSignal) => Promise<T>,
    watch: (progress: P) => void,
    signal: AbortSignal,
  ): Promise<T> {
    signal.throwIfAborted();
    const running = this.#running.get(key) ?? this.#start(key, start);
    running.watchers.add(watch);
    if (running.last !== undefined) watch(running.last);
    try {
      return await withSignal(running.result, signal);
    } finally {
      running.watchers.delete(watch);
      if (running.watchers.size === 0) {
        // Later callers start afresh rather than join something that is being given up.
        if (this.#running.get(key) === running) this.#running.delete(key);
        running.stop.abort(signal.reason ?? new Error("nobody waits for it any more"));
      }
    }
  }

  #start(key: string, start: (progress: (p: P) => void, signal: AbortSignal) => Promise<T>): Running<T, P> {
    const stop = new AbortController();
    const watchers = new Set<(progress: P) => void>();
    const { promise, resolve, reject } = deferred<T>();
    const running: Running<T, P> = { result: promise, stop, watchers, last: undefined };
    // Every caller may have left by the time it fails.
    promise.catch(() => {});
    this.#running.set(key, running);
    const emit = (progress: P) => {
      running.last = progress;
      for (const watch of watchers) watch(progress);
    };
    start(emit, stop.signal)
      .finally(() => {
        if (this.#running.get(key) === running) this.#running.delete(key);
      })
      .then(resolve, reject);
    return running;
  }
}

/** At most `limit` at a time; the others wait in order. */
export class Slots {
  readonly #waiting: (() => void)[] = [];
  #free: number;

  constructor(limit: number) {
    this.#free = limit;
  }

  get full(): boolean {
    return this.#free === 0;
  }

  async run<T>(act: () => Promise<T>, signal: AbortSignal): Promise<T> {
    await this.#acquire(signal);
    try {
      return await act();
    } finally {
      const next = this.#waiting.shift();
      if (next === undefined) this.#free += 1;
      else next();
    }
  }

  async #acquire(signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    if (this.#free > 0) {
      this.#free -= 1;
      return;
    }
    const { promise, resolve, reject } = deferred<void>();
    const onAbort = () => {
      const at = this.#waiting.indexOf(resolve);
      // Not there: the slot was already handed over, and `run` will pass it on.
      if (at === -1) return;
      this.#waiting.splice(at, 1);
      reject(signal.reason);
    };
    this.#waiting.push(resolve);
    signal.addEventListener("abort", onAbort, { once: true });
    try {
      await promise;
    } finally {
      signal.removeEventListener("abort", onAbort);
    }
  }
}
