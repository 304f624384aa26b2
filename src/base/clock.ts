/** Milliseconds on a monotonic clock; only differences mean anything. */
export type Instant = number;

/** The only source of time. Simulations pass their own. */
export interface Clock {
  /** Monotonic, in milliseconds, fractions included. */
  now(): Instant;
  /** Civil time. */
  wall(): Date;
  /** Resolves after `delayMs`; rejects with the signal's reason when aborted first. */
  sleep(delayMs: number, signal: AbortSignal): Promise<void>;
  /** A signal that aborts after `delayMs`. */
  timeout(delayMs: number): AbortSignal;
  /** Calls `run` once after `delayMs` unless disposed first. Does not keep the process alive. */
  after(delayMs: number, run: () => void): Disposable;
}

export const systemClock: Clock = {
  now: () => performance.now(),
  wall: () => new Date(),
  sleep(delayMs, signal) {
    return new Promise((resolve, reject) => {
      if (signal.aborted) {
        reject(signal.reason);
        return;
      }
      const onAbort = () => {
        clearTimeout(timer);
        reject(signal.reason);
      };
      const timer = setTimeout(() => {
        signal.removeEventListener("abort", onAbort);
        resolve();
      }, delayMs);
      signal.addEventListener("abort", onAbort, { once: true });
    });
  },
  timeout: (delayMs) => AbortSignal.timeout(delayMs),
  after(delayMs, run) {
    const timer = setTimeout(run, delayMs);
    timer.unref();
    return { [Symbol.dispose]: () => clearTimeout(timer) };
  },
};
