/**
 * The swarm: certificate authority, join tokens, the manager's store, allocator and dispatcher, and the agent that every
 * node runs. Speaks swarmkit's gRPC on 2377. Decides who is in, which addresses and networks there are and what runs where.
 */
export type { SwarmOptions } from "./node/swarm-node.ts";
export { openPeerTable } from "./peers/peer-table.ts";
export type * from "./swarm.ts";

import type { Gossip } from "../gossip/mod.ts";
import type { PeerTable, SwarmNetworks } from "../network/mod.ts";
import { SwarmNode, type SwarmOptions } from "./node/swarm-node.ts";
import type { Swarm } from "./swarm.ts";

/** What the daemon wires up: the API's view, and what the network room asks of a swarm. */
export interface OpenSwarm extends Swarm {
  readonly networks: SwarmNetworks & {
    /** After a restart, once all living containers are back: gives up every attachment of this node that is not named. */
    keepOnly(attachmentIds: ReadonlySet<string>): Promise<void>;
  };
  readonly peerTable: PeerTable;
  gossip(): Gossip | undefined;
  /** Takes up the membership of before the restart; `options.networks()` must answer from here on. Returns soon. */
  resume(signal: AbortSignal): Promise<void>;
}

/** Reads this node's membership. Nothing is connected before `resume`. */
export function openSwarm(options: SwarmOptions, signal: AbortSignal): Promise<OpenSwarm> {
  return SwarmNode.open(options, signal);
}
