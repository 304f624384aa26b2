/**
 * Addresses: picks a free subnet out of the default pools and a free address out of a subnet. Pure; what is taken is
 * derived from stored records by the caller, who also stores the result. Calls nothing. The cluster's allocator uses it too.
 */
export { ipam } from "./allocate.ts";
export type * from "./ipam.ts";
export { globalDefaultPools, localDefaultPools, ulaPool } from "./pools.ts";
