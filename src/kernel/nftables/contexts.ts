import { KeyedMutex } from "../../base/async.ts";
import { type Netns, nsKey } from "../model.ts";
import type { Namespaces, OpenNamespace } from "../netns/namespaces.ts";
import { NftContext } from "./context.ts";

/** Kept contexts besides the host's, about 130 KB each; the one that was not used for longest goes first. */
const maxKept = 64;

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
  readonly #mutex = new KeyedMutex();
  /** Least recently used first. */
  readonly #kept = new Map<string, Kept>();
  readonly #closing = new Set<Promise<void>>();

  constructor(namespaces: Namespaces) {
    this.#namespaces = namespaces;
  }

  /** Runs `body` with a context on the namespace; nobody else uses the context meanwhile. */
  use<T>(ns: Netns, body: (nft: NftContext) => Promise<T>): Promise<T> {
    const key = nsKey(ns);
    return this.#mutex.run(key, async () => {
      const namespace = this.#namespaces.get(ns);
      const context = this.#take(key, namespace);
      try {
        return await body(context);
      } finally {
        if (ns === "host" || context.hasDeleted) this.#keep(key, { context, namespace });
        else this.#close(context);
      }
    });
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
    return new NftContext(namespace.fd);
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
