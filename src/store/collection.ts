import type { Seal } from "./seal.ts";
import type { Change, Entry, Store } from "./store.ts";

/** How records of one kind are written; `upgrade` turns any earlier version's JSON into today's record. */
export interface RecordCodec<T> {
  readonly version: number;
  /** @throws when the JSON is not a record of this kind. */
  upgrade(json: unknown, version: number): T;
  /** Keys, tokens and secrets: the value is sealed with AES-256-GCM on disk. */
  readonly secret?: boolean;
}

export interface Stored<T> {
  readonly id: string;
  readonly value: T;
  readonly revision: number;
}

/** Typed records under one key prefix: JSON with a version, sealed when the codec says so. */
export class Collection<T> {
  readonly #store: Store;
  readonly #prefix: string;
  readonly #codec: RecordCodec<T>;
  readonly #seal: Seal;

  constructor(options: {
    readonly store: Store;
    readonly prefix: string;
    readonly codec: RecordCodec<T>;
    readonly seal: Seal;
  }) {
    this.#store = options.store;
    this.#prefix = `${options.prefix}/`;
    this.#codec = options.codec;
    this.#seal = options.seal;
  }

  async get(id: string): Promise<Stored<T> | undefined> {
    const entry = await this.#store.get(this.#prefix + id);
    return entry === undefined ? undefined : this.#decode(entry);
  }

  async list(): Promise<readonly Stored<T>[]> {
    return (await this.#store.list(this.#prefix)).map((entry) => this.#decode(entry));
  }

  /** A change for `Store.commit`, so that records of several kinds can be written together. */
  putChange(id: string, value: T, ifRevision?: number): Change {
    const plain = new TextEncoder().encode(JSON.stringify({ v: this.#codec.version, d: value }));
    const key = this.#prefix + id;
    const bytes = this.#codec.secret === true ? this.#seal.seal(plain, key) : plain;
    return { kind: "put", key, value: bytes, ...(ifRevision === undefined ? {} : { ifRevision }) };
  }

  deleteChange(id: string, ifRevision?: number): Change {
    return { kind: "delete", key: this.#prefix + id, ...(ifRevision === undefined ? {} : { ifRevision }) };
  }

  put(id: string, value: T, ifRevision?: number): Promise<number> {
    return this.#store.commit([this.putChange(id, value, ifRevision)]);
  }

  async delete(id: string, ifRevision?: number): Promise<void> {
    await this.#store.commit([this.deleteChange(id, ifRevision)]);
  }

  #decode(entry: Entry): Stored<T> {
    const plain = this.#codec.secret === true ? this.#seal.open(entry.value, entry.key) : entry.value;
    const { v, d } = JSON.parse(new TextDecoder().decode(plain)) as { v: number; d: unknown };
    return { id: entry.key.slice(this.#prefix.length), value: this.#codec.upgrade(d, v), revision: entry.revision };
  }
}
