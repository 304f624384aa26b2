/**
 * This host's networks: drivers, addresses, names, published ports, sandboxes. Decides what the kernel must contain and
 * answers DNS; calls `kernel/` to get it done. Who is in the cluster and what runs where is told to it through
 * `SwarmNetworks` and `PeerTable`.
 */
export { defaultNetworksConfig, type NetworksConfig } from "./config.ts";
export { type FakeNetworksOptions, noSwarm, openFakeNetworks } from "./fake.ts";
export { ensureForwardRule, observeForwardChains, removeForwardRule } from "./firewall/foreign-firewall.ts";
export { forwardMark } from "./firewall/host-table.ts";
export type * from "./model.ts";
export type * from "./networks.ts";
export { openNetworks } from "./open.ts";
export type { NetworksOptions } from "./options.ts";
