import { Worker } from "node:worker_threads";
import { EngineError, messageOf } from "../base/errors.ts";
import type { Log } from "../base/log.ts";
import { conflictOn, keyOf } from "./fake.ts";
import type { Change, Entry, Store, StoreEvent } from "./store.ts";

/** What the worker is asked for: one transaction for everything that waited while the last one was being synced. */
export interface WriteBatch {
  readonly batch: number;
  readonly revision: number;
  readonly changes: readonly {
    readonly key: string;
    readonly value: Uint8Array | undefined;
    readonly revision: number;
  }[];
}

export type WorkerReply =
  | { readonly kind: "ready"; readonly entries: readonly Entry[]; readonly revision: number }
  | { readonly kind: "failed-to-open"; readonly message: string }
  | { readonly kind: "written"; readonly batch: number }
  | { readonly kind: "failed"; readonly batch: number; readonly message: string };

interface Pending {
  readonly changes: readonly Change[];
  readonly revision: number;
  readonly resolve: (revision: number) => void;
  readonly reject: (error: unknown) => void;
}

/**
 * SQLite in a worker thread (WAL, synchronous=FULL). All entries are also held in memory, since a host's records are few:
 * reads never wait for the disk, and what they show is already on it. Commits that arrive while one is being synced go
 * to the disk together.
 *
 * @throws {EngineError} `unavailable` when the file cannot be opened; the message names it.
 */
export async function openSqliteStore(
  options: { readonly path: string; readonly log: Log },
  signal: AbortSignal,
): Promise<Store & AsyncDisposable> {
  signal.throwIfAborted();
  const worker = new Worker(new URL("./sqlite-worker.ts", import.meta.url), { workerData: { path: options.path } });
  const first = await new Promise<WorkerReply>((resolve, reject) => {
    worker.once("message", resolve);
    worker.once("error", reject);
  });
  if (first.kind !== "ready") {
    await worker.terminate();
    const reason = first.kind === "failed-to-open" ? first.message : first.kind;
    throw new EngineError("unavailable", `cannot open the store ${options.path}: ${reason}`);
  }
  return new SqliteStore(worker, first.entries, first.revision, options.log);
}

class SqliteStore implements Store, AsyncDisposable {
  readonly #worker: Worker;
  readonly #log: Log;
  /** What is on disk. */
  readonly #entries: Map<string, Entry>;
  /** Revisions after everything queued so far; 0 for keys that will be gone. Only keys with queued writes. */
  readonly #ahead = new Map<string, number>();
  readonly #watchers = new Set<{
    readonly prefix: string;
    readonly listener: (events: readonly StoreEvent[]) => void;
  }>();
  #queue: Pending[] = [];
  #writing: readonly Pending[] = [];
  #revision: number;
  #batch = 0;
  #closed = false;
  #idle: (() => void) | undefined;

  constructor(worker: Worker, entries: readonly Entry[], revision: number, log: Log) {
    this.#worker = worker;
    this.#log = log;
    this.#entries = new Map(entries.map((entry) => [entry.key, entry]));
    this.#revision = revision;
    worker.on("message", (reply: WorkerReply) => this.#onReply(reply));
    worker.on("error", (error) => this.#fail(messageOf(error)));
    worker.on("exit", () => {
      if (!this.#closed) this.#fail("the store's worker has ended");
    });
  }

  async get(key: string): Promise<Entry | undefined> {
    return this.#entries.get(key);
  }

  async list(prefix: string): Promise<readonly Entry[]> {
    const found: Entry[] = [];
    for (const entry of this.#entries.values()) if (entry.key.startsWith(prefix)) found.push(entry);
    return found.sort((a, b) => (a.key < b.key ? -1 : 1));
  }

  commit(changes: readonly Change[]): Promise<number> {
    if (this.#closed) return Promise.reject(new EngineError("unavailable", "cannot write: the store is closed"));
    for (const change of changes) {
      const found = this.#ahead.get(change.key) ?? this.#entries.get(change.key)?.revision ?? 0;
      if (change.ifRevision !== undefined && change.ifRevision !== found) {
        return Promise.reject(conflictOn(change.key, change.ifRevision, found));
      }
    }
    this.#revision += 1;
    const revision = this.#revision;
    for (const change of changes) this.#ahead.set(change.key, change.kind === "put" ? revision : 0);
    return new Promise((resolve, reject) => {
      this.#queue.push({ changes, revision, resolve, reject });
      if (this.#writing.length === 0) this.#write();
    });
  }

  watch(prefix: string, listener: (events: readonly StoreEvent[]) => void): Disposable {
    const watcher = { prefix, listener };
    this.#watchers.add(watcher);
    return { [Symbol.dispose]: () => this.#watchers.delete(watcher) };
  }

  /** Waits for what is queued, then closes the file. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    if (this.#writing.length > 0) await new Promise<void>((resolve) => (this.#idle = resolve));
    const exited = new Promise((resolve) => this.#worker.once("exit", resolve));
    this.#worker.postMessage("close");
    await exited;
  }

  #write(): void {
    this.#writing = this.#queue;
    this.#queue = [];
    this.#batch += 1;
    const changes = this.#writing.flatMap((pending) =>
      pending.changes.map((change) => ({
        key: change.key,
        value: change.kind === "put" ? change.value : undefined,
        revision: pending.revision,
      })),
    );
    const last = this.#writing.at(-1)?.revision ?? this.#revision;
    this.#worker.postMessage({ batch: this.#batch, revision: last, changes } satisfies WriteBatch);
  }

  #onReply(reply: WorkerReply): void {
    if (reply.kind === "failed") this.#fail(reply.message);
    if (reply.kind !== "written" || reply.batch !== this.#batch) return;
    const done = this.#writing;
    this.#writing = [];
    if (this.#queue.length > 0) this.#write();
    else {
      this.#ahead.clear();
      this.#idle?.();
    }
    for (const pending of done) {
      const events = pending.changes.map((change) => this.#show(change, pending.revision));
      pending.resolve(pending.revision);
      this.#tell(events);
    }
  }

  #show(change: Change, revision: number): StoreEvent {
    if (change.kind === "delete") {
      this.#entries.delete(change.key);
      return { kind: "delete", key: change.key, revision };
    }
    const entry = { key: change.key, value: change.value, revision };
    this.#entries.set(change.key, entry);
    return { kind: "put", entry };
  }

  #tell(events: readonly StoreEvent[]): void {
    for (const { prefix, listener } of [...this.#watchers]) {
      const mine = events.filter((event) => keyOf(event).startsWith(prefix));
      if (mine.length > 0) listener(mine);
    }
  }

  /** Nothing of the batch is on disk; what was queued behind it was checked against it, so it fails as well. */
  #fail(message: string): void {
    this.#log.error("the store could not write", { error: message });
    const lost = [...this.#writing, ...this.#queue];
    this.#writing = [];
    this.#queue = [];
    this.#ahead.clear();
    for (const pending of lost) {
      pending.reject(new EngineError("unavailable", `cannot write to the store: ${message}`));
    }
    this.#idle?.();
  }
}
