/**
 * Names: one table for all networks of this host, and the resolver that answers inside each sandbox on 127.0.0.11. Decides
 * what a sandbox may resolve and in which order upstreams are asked; the rules that lead port 53 to it belong to `sandbox/`.
 * Calls `kernel/` for sockets inside namespaces.
 */
export type * from "./dns.ts";
export { openNameTable } from "./name-table.ts";
export { type DnsServerDeps, openDnsServer, resolverAddress } from "./server.ts";
