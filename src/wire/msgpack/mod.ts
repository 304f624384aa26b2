/**
 * The msgpack dialect of memberlist: strings and byte arrays share the legacy raw family, structs are maps by field name.
 * Knows nothing of the messages; those are in `gossip/swim/codec.ts`.
 */
export { encode, MsgpackReader, type RawValue, TruncatedError, textOf, type Value } from "./codec.ts";
