import { EngineError } from "../base/errors.ts";
import type { Change, Entry, Store, StoreEvent } from "./store.ts";

/** The whole store in memory; for tests and simulation. Same contract as SQLite (store.contract.ts). */
export class MemoryStore implements Store {
  readonly #entries = new Map<string, Entry>();
  readonly #watchers = new Set<{
    readonly prefix: string;
    readonly listener: (events: readonly StoreEvent[]) => void;
  }>();
  #revision = 0;

  async get(key: string): Promise<Entry | undefined> {
    return this.#entries.get(key);
  }

  async list(prefix: string): Promise<readonly Entry[]> {
    return [...this.#entries.values()]
      .filter((entry) => entry.key.startsWith(prefix))
      .sort((a, b) => (a.key < b.key ? -1 : 1));
  }

  async commit(changes: readonly Change[]): Promise<number> {
    for (const change of changes) {
      const found = this.#entries.get(change.key)?.revision ?? 0;
      if (change.ifRevision !== undefined && change.ifRevision !== found)
        throw conflictOn(change.key, change.ifRevision, found);
    }
    this.#revision += 1;
    const events = changes.map((change) => this.#apply(change));
    for (const { prefix, listener } of [...this.#watchers]) {
      const mine = events.filter((event) => keyOf(event).startsWith(prefix));
      if (mine.length > 0) listener(mine);
    }
    return this.#revision;
  }

  watch(prefix: string, listener: (events: readonly StoreEvent[]) => void): Disposable {
    const watcher = { prefix, listener };
    this.#watchers.add(watcher);
    return { [Symbol.dispose]: () => this.#watchers.delete(watcher) };
  }

  #apply(change: Change): StoreEvent {
    if (change.kind === "delete") {
      this.#entries.delete(change.key);
      return { kind: "delete", key: change.key, revision: this.#revision };
    }
    const entry = { key: change.key, value: change.value, revision: this.#revision };
    this.#entries.set(change.key, entry);
    return { kind: "put", entry };
  }
}

export function keyOf(event: StoreEvent): string {
  return event.kind === "put" ? event.entry.key : event.key;
}

export function conflictOn(key: string, wanted: number, found: number): EngineError {
  return new EngineError("conflict", `cannot write ${key}: found revision ${found}, expected ${wanted}`);
}
