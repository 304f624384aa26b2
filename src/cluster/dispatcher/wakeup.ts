import { withSignal } from "../../base/async.ts";

/** "Look again": any number of `ring`s before the next `wait` count as one. */
export class Wakeup {
  #rung = Promise.withResolvers<void>();

  ring(): void {
    this.#rung.resolve();
  }

  /** Resolves once rung since the last wait; rejects with the signal's reason. */
  async wait(signal: AbortSignal): Promise<void> {
    await withSignal(this.#rung.promise, signal);
    // Both may have happened: the end goes first.
    signal.throwIfAborted();
    this.#rung = Promise.withResolvers<void>();
  }
}
