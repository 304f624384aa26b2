/**
 * DNS messages, as far as a stub resolver needs them (RFC 1035, EDNS0 of RFC 6891): reads the one question of a query,
 * writes answers by extending that query, checks that an upstream's answer belongs to a question. Pure; knows no names.
 */
export * from "./codec.ts";
export * from "./stream.ts";
