/**
 * Overlay networks: VXLAN between hosts. Decides which namespace, bridges, tunnel devices, forwarding and neighbour entries
 * this host needs for the endpoints it has and the peers that gossip tells of. Calls `kernel/` to get it done; the peers come
 * through `PeerTable`, addresses and VNIs were assigned by the manager.
 */
export { type OverlayDeps, type OverlayDriver, openOverlayDriver } from "./driver.ts";
