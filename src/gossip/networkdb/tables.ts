import type { Instant } from "../../base/clock.ts";

/** One entry of one table in one network; with `deletedUntil` a tombstone. */
export interface Entry {
  readonly networkId: string;
  readonly table: string;
  readonly key: string;
  readonly owner: string;
  readonly time: bigint;
  /** A tombstone keeps the last value. */
  readonly value: Uint8Array;
  /** When a tombstone may be forgotten; `undefined` while the entry lives. */
  readonly deletedUntil: Instant | undefined;
}

/** The entries of all networks. Keeps what it is given and judges nothing. */
export class Tables {
  readonly #networks = new Map<string, Map<string, Entry>>();

  get(networkId: string, table: string, key: string): Entry | undefined {
    return this.#networks.get(networkId)?.get(path(table, key));
  }

  set(entry: Entry): void {
    let entries = this.#networks.get(entry.networkId);
    if (entries === undefined) {
      entries = new Map();
      this.#networks.set(entry.networkId, entries);
    }
    entries.set(path(entry.table, entry.key), entry);
  }

  delete(entry: Entry): void {
    const entries = this.#networks.get(entry.networkId);
    entries?.delete(path(entry.table, entry.key));
    if (entries?.size === 0) this.#networks.delete(entry.networkId);
  }

  /** A copy, safe against changes while it is walked. */
  of(networkId: string): Entry[] {
    return [...(this.#networks.get(networkId)?.values() ?? [])];
  }

  all(): Entry[] {
    return [...this.#networks.values()].flatMap((entries) => [...entries.values()]);
  }
}

/** Ids never hold a slash (reference: network-data-plane 4.11), so this is unambiguous. */
function path(table: string, key: string): string {
  return `${table}/${key}`;
}
