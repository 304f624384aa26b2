/**
 * The host's networking as data: namespaces, links, addresses, routes, neighbours, forwarding entries, sysctls, nftables.
 * Callers say what a unit must contain; this room plans the difference and applies it by netlink and libnftables.
 * It knows nothing of networks, containers or swarms, and touches nothing that does not carry our mark.
 */

export { type FakeKernel, openFakeKernel } from "./fake.ts";
export * from "./kernel.ts";
export * from "./model.ts";
export { hostNamespaceId, namespaceId } from "./netns/identity.ts";
export type { ForeignChainName, ForeignChains } from "./nftables/foreign.ts";
export { type HostKernel, openKernel } from "./open.ts";
