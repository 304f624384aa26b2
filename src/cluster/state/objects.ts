import { create, type DescMessage, fromBinary, toBinary } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError } from "@connectrpc/connect";
import { type Deferred, deferred, Hub } from "../../base/async.ts";
import type { Clock } from "../../base/clock.ts";
import { crashPoint } from "../../base/crash-point.ts";
import { DecodeError } from "../../base/errors.ts";
import type { Change, Seal, Store } from "../../store/mod.ts";
import {
  type Cluster,
  ClusterSchema,
  type Meta,
  MetaSchema,
  type Network,
  NetworkSchema,
  type Node,
  NodeSchema,
  type Task,
  TaskSchema,
} from "../../wire/gen/swarm_objects_pb.ts";
import { VersionSchema } from "../../wire/gen/swarm_types_pb.ts";

/** The manager's objects by kind. They are swarmkit's own messages, and are never changed in place. */
export interface Objects {
  cluster: Cluster;
  node: Node;
  network: Network;
  task: Task;
}
export type Kind = keyof Objects;

interface KindInfo {
  readonly schema: DescMessage;
  /** Holds the CA key, join tokens, network keys (cluster) or registry credentials (task): sealed on disk. */
  readonly isSecret: boolean;
}

const kinds: Readonly<Record<Kind, KindInfo>> = {
  cluster: { schema: ClusterSchema, isSecret: true },
  node: { schema: NodeSchema, isSecret: false },
  network: { schema: NetworkSchema, isSecret: false },
  task: { schema: TaskSchema, isSecret: true },
};
const kindNames = Object.keys(kinds) as readonly Kind[];

/** What a reader sees: the last committed state. */
export interface View {
  get<K extends Kind>(kind: K, id: string): Objects[K] | undefined;
  list<K extends Kind>(kind: K): readonly Objects[K][];
}

/** What a write sees and changes; others see it once it is on disk. */
export interface Draft extends View {
  /** Stamps `meta`: the version index grows with every write of the store. */
  put<K extends Kind>(kind: K, object: Objects[K]): void;
  delete(kind: Kind, id: string): void;
}

export type ObjectChange = {
  [K in Kind]: {
    readonly kind: K;
    readonly id: string;
    readonly before: Objects[K] | undefined;
    readonly after: Objects[K] | undefined;
  };
}[Kind];

type Table = Map<string, Objects[Kind]>;
type Tables = Readonly<Record<Kind, Table>>;
type Edits = Map<string, { readonly kind: Kind; readonly id: string; readonly after: Objects[Kind] | undefined }>;

interface PendingWrite {
  readonly act: (draft: Draft) => unknown;
  readonly done: Deferred<unknown>;
}

const prefix = "swarm";
const versionKey = `${prefix}/version`;
const recordVersion = 1;

/**
 * The manager's objects in memory, written through to the store. Writes are run one after another; those that arrive
 * while one is being synced go to the disk together. A write that throws changes nothing.
 */
export class ObjectStore implements View {
  readonly changes = new Hub<readonly ObjectChange[]>();
  readonly #store: Store;
  readonly #seal: Seal;
  readonly #clock: Clock;
  readonly #tables: Tables;
  readonly #queue: PendingWrite[] = [];
  #index: bigint;
  #draining = false;

  private constructor(options: StoreOptions, tables: Tables, index: bigint) {
    this.#store = options.store;
    this.#seal = options.seal;
    this.#clock = options.clock;
    this.#tables = tables;
    this.#index = index;
  }

  /** @throws {DecodeError} when a record is damaged or sealed with another key. */
  static async load(options: StoreOptions): Promise<ObjectStore> {
    const tables = Object.fromEntries(kindNames.map((kind) => [kind, new Map()])) as unknown as Tables;
    for (const kind of kindNames) {
      for (const entry of await options.store.list(`${prefix}/${kind}/`)) {
        const id = entry.key.slice(prefix.length + kind.length + 2);
        tables[kind].set(id, decodeRecord(kind, entry.key, entry.value, options.seal));
      }
    }
    const version = await options.store.get(versionKey);
    const index = version === undefined ? 0n : BigInt(new TextDecoder().decode(version.value));
    return new ObjectStore(options, tables, index);
  }

  /** Removes everything a manager ever stored. */
  static async erase(store: Store): Promise<void> {
    const entries = await store.list(`${prefix}/`);
    if (entries.length > 0) await store.commit(entries.map(({ key }) => ({ kind: "delete", key })));
  }

  get<K extends Kind>(kind: K, id: string): Objects[K] | undefined {
    return this.#tables[kind].get(id) as Objects[K] | undefined;
  }

  list<K extends Kind>(kind: K): readonly Objects[K][] {
    return [...this.#tables[kind].values()] as unknown as readonly Objects[K][];
  }

  /** There is exactly one, named `default`. */
  cluster(): Cluster {
    const [cluster] = this.list("cluster");
    if (cluster === undefined) throw new ConnectError("the cluster object is missing", Code.Internal);
    return cluster;
  }

  /** Runs `act` on a draft and resolves with its result once that is on disk. `act` must not await. */
  write<T>(act: (draft: Draft) => T): Promise<T> {
    const done = deferred<unknown>();
    this.#queue.push({ act, done });
    if (!this.#draining) {
      this.#draining = true;
      void this.#drain(); // never rejects: each write's promise carries its own error
    }
    return done.promise as Promise<T>;
  }

  async #drain(): Promise<void> {
    // A tick's grace lets calls of one burst share the first sync.
    await Promise.resolve();
    while (this.#queue.length > 0) await this.#commit(this.#queue.splice(0));
    // In the same tick as the check above, so that no write is left waiting.
    this.#draining = false;
  }

  async #commit(writes: readonly PendingWrite[]): Promise<void> {
    const edits: Edits = new Map();
    const results: { readonly done: Deferred<unknown>; readonly value: unknown }[] = [];
    let index = this.#index;
    for (const { act, done } of writes) {
      const draft = new DraftView(this.#tables, edits, { index: index + 1n, now: this.#clock.wall() });
      try {
        results.push({ done, value: act(draft) });
      } catch (error) {
        done.reject(error);
        continue;
      }
      if (draft.edits.size === 0) continue;
      index += 1n;
      for (const [key, edit] of draft.edits) edits.set(key, edit);
    }
    try {
      if (edits.size > 0) await this.#store.commit(this.#recordsOf(edits, index));
    } catch (error) {
      for (const { done } of results) done.reject(error);
      return;
    }
    crashPoint("swarm.commit");
    this.#index = index;
    const changes = [...edits.values()].map((edit) => this.#apply(edit));
    for (const { done, value } of results) done.resolve(value);
    if (changes.length > 0) this.changes.emit(changes);
  }

  #recordsOf(edits: Edits, index: bigint): readonly Change[] {
    const records = [...edits.values()].map(({ kind, id, after }): Change => {
      const key = `${prefix}/${kind}/${id}`;
      return after === undefined
        ? { kind: "delete", key }
        : { kind: "put", key, value: encodeRecord(kind, key, after, this.#seal) };
    });
    return [...records, { kind: "put", key: versionKey, value: new TextEncoder().encode(String(index)) }];
  }

  #apply(edit: { readonly kind: Kind; readonly id: string; readonly after: Objects[Kind] | undefined }): ObjectChange {
    const table = this.#tables[edit.kind];
    const before = table.get(edit.id);
    if (edit.after === undefined) table.delete(edit.id);
    else table.set(edit.id, edit.after);
    return { ...edit, before } as ObjectChange;
  }
}

export interface StoreOptions {
  readonly store: Store;
  readonly seal: Seal;
  readonly clock: Clock;
}

class DraftView implements Draft {
  readonly edits: Edits = new Map();
  readonly #tables: Tables;
  readonly #earlier: Edits;
  readonly #stamp: { readonly index: bigint; readonly now: Date };

  constructor(tables: Tables, earlier: Edits, stamp: { readonly index: bigint; readonly now: Date }) {
    this.#tables = tables;
    this.#earlier = earlier;
    this.#stamp = stamp;
  }

  get<K extends Kind>(kind: K, id: string): Objects[K] | undefined {
    const edit = this.edits.get(`${kind}/${id}`) ?? this.#earlier.get(`${kind}/${id}`);
    return (edit === undefined ? this.#tables[kind].get(id) : edit.after) as Objects[K] | undefined;
  }

  list<K extends Kind>(kind: K): readonly Objects[K][] {
    const table = new Map(this.#tables[kind]);
    for (const edits of [this.#earlier, this.edits]) {
      for (const edit of edits.values()) {
        if (edit.kind !== kind) continue;
        if (edit.after === undefined) table.delete(edit.id);
        else table.set(edit.id, edit.after);
      }
    }
    return [...table.values()] as unknown as readonly Objects[K][];
  }

  put<K extends Kind>(kind: K, object: Objects[K]): void {
    const found = this.get(kind, object.id);
    const after = { ...object, meta: this.#meta(found?.meta) };
    this.edits.set(`${kind}/${object.id}`, { kind, id: object.id, after });
  }

  delete(kind: Kind, id: string): void {
    this.edits.set(`${kind}/${id}`, { kind, id, after: undefined });
  }

  #meta(before: Meta | undefined): Meta {
    const now = timestampFromDate(this.#stamp.now);
    const version = create(VersionSchema, { index: this.#stamp.index });
    return create(MetaSchema, { version, createdAt: before?.createdAt ?? now, updatedAt: now });
  }
}

/** Docker's optimistic concurrency: the version a client read must still be the stored one (13.3). */
export function checkVersion(object: { readonly meta?: Meta | undefined }, version: bigint): void {
  if (object.meta?.version?.index !== version) throw new ConnectError("update out of sequence", Code.Unknown); // compat:
}

// One version byte, then the message.
function encodeRecord(kind: Kind, key: string, object: Objects[Kind], seal: Seal): Uint8Array {
  const body = toBinary(kinds[kind].schema, object);
  const plain = new Uint8Array(body.length + 1);
  plain[0] = recordVersion;
  plain.set(body, 1);
  return kinds[kind].isSecret ? seal.seal(plain, key) : plain;
}

function decodeRecord(kind: Kind, key: string, value: Uint8Array, seal: Seal): Objects[Kind] {
  const plain = kinds[kind].isSecret ? seal.open(value, key) : value;
  if (plain[0] !== recordVersion)
    throw new DecodeError(key, 0, `record version ${plain[0]}, expected ${recordVersion}`);
  return fromBinary(kinds[kind].schema, plain.subarray(1)) as unknown as Objects[Kind];
}
