import { setImmediate as nextTurn } from "node:timers/promises";
import type { Clock } from "../../../base/clock.ts";
import { crashPoint } from "../../../base/crash-point.ts";
import type { Log } from "../../../base/log.ts";
import type { Kernel, KernelObject } from "../../../kernel/mod.ts";
import { keyText, type PeerKey } from "./peer-set.ts";

const retryDelayMs = 1000;
/** Other work gets its turn after so many entries: thousands come at once when a node joins a big network. */
const entriesPerTurn = 64;

export interface PeerProgrammerOptions {
  readonly kernel: Pick<Kernel, "reconcile">;
  readonly clock: Clock;
  readonly log: Log;
  readonly networkId: string;
  /** What the kernel must hold for one key now. */
  readonly desired: (key: PeerKey) => readonly KernelObject[];
}

/**
 * Brings the entries of one network's peers into the kernel, each as a unit of its own, so that a change costs what it
 * changes. Level-triggered: a key that is marked is looked at again, however often it changed meanwhile.
 */
export class PeerProgrammer {
  readonly #options: PeerProgrammerOptions;
  readonly #dirty = new Map<string, PeerKey>();
  /** Keys that have entries in the kernel. */
  readonly #programmed = new Map<string, PeerKey>();
  #stop: AbortController | undefined;
  #running: Promise<void> | undefined;
  #retry: Disposable | undefined;

  constructor(options: PeerProgrammerOptions) {
    this.#options = options;
  }

  /** Starts programming; all `keys` are looked at. */
  start(keys: readonly PeerKey[]): void {
    this.#stop ??= new AbortController();
    this.mark(keys);
  }

  /** Ignored while stopped. */
  mark(keys: readonly PeerKey[]): void {
    if (this.#stop === undefined) return;
    for (const key of keys) this.#dirty.set(keyText(key), key);
    if (this.#dirty.size > 0) this.#running ??= this.#run(this.#stop.signal);
  }

  /** Resolves when nothing is left to do; entries that the kernel refused are tried again later, and not waited for. */
  async settle(): Promise<void> {
    while (this.#running !== undefined) await this.#running;
  }

  /** Ends programming and leaves the entries where they are. */
  async stop(): Promise<void> {
    this.#retry?.[Symbol.dispose]();
    this.#retry = undefined;
    this.#stop?.abort();
    this.#stop = undefined;
    this.#dirty.clear();
    await this.#running;
  }

  /** Ends programming and removes the entries, before their devices go. */
  async clear(signal: AbortSignal): Promise<void> {
    await this.stop();
    for (const [text, key] of [...this.#programmed]) {
      await this.#options.kernel.reconcile(this.#unit(key), [], signal);
      this.#programmed.delete(text);
    }
  }

  /** Never rejects. */
  async #run(signal: AbortSignal): Promise<void> {
    const refused = new Map<string, PeerKey>();
    let done = 0;
    await Promise.resolve();
    for (const [text, key] of this.#dirty) {
      if (signal.aborted) break;
      this.#dirty.delete(text);
      try {
        await this.#program(text, key, signal);
      } catch (error) {
        if (signal.aborted) break;
        refused.set(text, key);
        this.#options.log.warn("cannot program a peer, trying again", { peer: text, error });
      }
      done += 1;
      if (done % entriesPerTurn === 0) await nextTurn();
    }
    this.#running = undefined;
    if (refused.size === 0 || signal.aborted) return;
    this.#retry?.[Symbol.dispose]();
    this.#retry = this.#options.clock.after(retryDelayMs, () => this.mark([...refused.values()]));
  }

  async #program(text: string, key: PeerKey, signal: AbortSignal): Promise<void> {
    const objects = this.#options.desired(key);
    if (objects.length === 0 && !this.#programmed.has(text)) return;
    // Said before it is done: an entry that may be there is one to remove.
    this.#programmed.set(text, key);
    await this.#options.kernel.reconcile(this.#unit(key), objects, signal);
    if (objects.length === 0) this.#programmed.delete(text);
    crashPoint("overlay.peer");
  }

  #unit(key: PeerKey): string {
    return `peer/${this.#options.networkId}/${keyText(key)}`;
  }
}
