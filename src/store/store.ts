/** A value and the store revision that wrote it. */
export interface Entry {
  readonly key: string;
  readonly value: Uint8Array;
  /** Revision of the commit that last wrote this key; greater than that of every earlier commit. */
  readonly revision: number;
}

/** One write of a commit. `ifRevision`: the key's current revision must be this; 0 means it must not exist. */
export type Change =
  | { readonly kind: "put"; readonly key: string; readonly value: Uint8Array; readonly ifRevision?: number }
  | { readonly kind: "delete"; readonly key: string; readonly ifRevision?: number };

export type StoreEvent =
  | { readonly kind: "put"; readonly entry: Entry }
  | { readonly kind: "delete"; readonly key: string; readonly revision: number };

/**
 * Ordered keys (`room/kind/id`), compare-and-swap transactions, watches. Engines: SQLite (sqlite.ts), memory (fake.ts).
 * A commit that resolved is on disk.
 */
export interface Store {
  get(key: string): Promise<Entry | undefined>;
  /** Entries whose key starts with `prefix`, in key order. */
  list(prefix: string): Promise<readonly Entry[]>;
  /**
   * All or nothing. Returns the new revision.
   * @throws {EngineError} `conflict` when an `ifRevision` does not hold; nothing is changed then.
   */
  commit(changes: readonly Change[]): Promise<number>;
  /** Called after each commit, in order, with the changes under `prefix`. */
  watch(prefix: string, listener: (events: readonly StoreEvent[]) => void): Disposable;
}
