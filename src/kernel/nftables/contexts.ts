import { KeyedMutex } from "../../base/async.ts";
import type { LowDescriptors } from "../ffi/descriptors.ts";
import { type Netns, nsKey } from "../model.ts";
import type { Namespaces, OpenNamespace } from "../netns/namespaces.ts";
import { NftContext } from "./context.ts";

/** Kept contexts besides the host's; the one that was not used for longest goes first. */
const maxKept = 8;
/** Contexts of other namespaces in use at a time. */
const seats = 8;
/** Low descriptors for all of them, the host's, and some lost to others. */
export const lowDescriptorsNeeded = 24;

interface Kept {
  readonly context: NftContext;
  /** The one it was opened in: another may be at the same path by now. */
  readonly namespace: OpenNamespace;
}

/**
 * libnftables contexts by namespace, one call at a time on each.
 *
 * Closing an nftables socket waits for a grace period (7 to 20 ms) when something was deleted lately, and the namespace's next
 * transaction waits with it. So a context that only added is closed after its step (a container's tables are made once), and one that
 * deleted is kept: there will be more.
 */
export class NftContexts implements AsyncDisposable {
  readonly #namespaces: Namespaces;
  readonly #low: LowDescriptors;
  readonly #mutex = new KeyedMutex();
  readonly #seats = new KeyedMutex();
  #nextSeat = 0;
  /** Least recently used first. */
  readonly #kept = new Map<string, Kept>();
  readonly #closing = new Set<Promise<void>>();

  constructor(namespaces: Namespaces, low: LowDescriptors) {
    this.#namespaces = namespaces;
    this.#low = low;
  }

  /** Runs `body` with a context on the namespace; nobody else uses the context meanwhile. */
  use<T>(ns: Netns, body: (nft: NftContext) => Promise<T>): Promise<T> {
    return this.#mutex.run(nsKey(ns), () => {
      if (ns === "host") return this.#useSeated(ns, body);
      const seat = this.#nextSeat++ % seats;
      return this.#seats.run(`${seat}`, () => this.#useSeated(ns, body));
    });
  }

  async #useSeated<T>(ns: Netns, body: (nft: NftContext) => Promise<T>): Promise<T> {
    const key = nsKey(ns);
    const namespace = this.#namespaces.get(ns);
    const context = this.#take(key, namespace);
    try {
      return await body(context);
    } finally {
      if (ns === "host" || context.hasDeleted) this.#keep(key, { context, namespace });
      else this.#close(context);
    }
  }

  /** An open context would keep a removed namespace alive. */
  forget(ns: Netns): void {
    const kept = this.#kept.get(nsKey(ns));
    this.#kept.delete(nsKey(ns));
    if (kept !== undefined) this.#close(kept.context);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const { context } of this.#kept.values()) this.#close(context);
    this.#kept.clear();
    await Promise.all(this.#closing);
  }

  #take(key: string, namespace: OpenNamespace): NftContext {
    const kept = this.#kept.get(key);
    this.#kept.delete(key);
    if (kept?.namespace === namespace) return kept.context;
    if (kept !== undefined) this.#close(kept.context);
    return new NftContext(namespace.fd, this.#low);
  }

  #keep(key: string, kept: Kept): void {
    this.#kept.set(key, kept);
    if (this.#kept.size <= maxKept) return;
    for (const [oldest, { context }] of this.#kept) {
      if (oldest === "host") continue;
      this.#kept.delete(oldest);
      this.#close(context);
      return;
    }
  }

  #close(context: NftContext): void {
    const closing = context[Symbol.asyncDispose]().finally(() => this.#closing.delete(closing));
    this.#closing.add(closing);
  }
}
