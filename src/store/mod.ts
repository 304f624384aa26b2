/**
 * Where desired state lives: ordered keys, compare-and-swap, watches, values that hold secrets sealed.
 * Decides nothing about what is stored; each room defines its own records and prefixes.
 */
export { Collection, type RecordCodec, type Stored } from "./collection.ts";
export { MemoryStore } from "./fake.ts";
export { aesSeal, type Seal } from "./seal.ts";
export { openSqliteStore } from "./sqlite.ts";
export type { Change, Entry, Store, StoreEvent } from "./store.ts";
