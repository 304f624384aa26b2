import type { Log } from "./log.ts";

/**
 * Owns several long-running loops: awaits all when closed, and ends the others when one fails.
 * `failed` aborts with the first fault, so that the owner can go down rather than limp.
 */
export class Scope implements AsyncDisposable {
  readonly #stop = new AbortController();
  readonly #failed = new AbortController();
  readonly #running = new Set<Promise<void>>();
  readonly #log: Log;

  constructor(log: Log, parent?: AbortSignal) {
    this.#log = log;
    parent?.addEventListener("abort", () => this.#stop.abort(parent.reason), { once: true });
    if (parent?.aborted) this.#stop.abort(parent.reason);
  }

  /** Aborts when the scope closes. */
  get signal(): AbortSignal {
    return this.#stop.signal;
  }

  /** Aborts when a loop has failed. */
  get failed(): AbortSignal {
    return this.#failed.signal;
  }

  /** Starts a loop. It returns when its signal aborts and rejects on a fault; the scope sees its error. */
  run(name: string, loop: (signal: AbortSignal) => Promise<void>): void {
    const work = loop(this.#stop.signal).catch((error: unknown) => {
      if (this.#stop.signal.aborted) return;
      this.#log.error("a loop failed", { loop: name, error });
      this.#failed.abort(error);
      this.#stop.abort(error);
    });
    const tracked = work.finally(() => this.#running.delete(tracked));
    this.#running.add(tracked);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort(new Error("closed"));
    await Promise.all(this.#running);
  }
}
