import type { IpAddress } from "../base/ip.ts";

/** A 16-byte gossip key and the manager's Lamport time for it. */
export interface GossipKey {
  readonly key: Uint8Array;
  readonly lamportTime: bigint;
}

export interface GossipOptions {
  /** Where to listen, often 0.0.0.0. */
  readonly bindAddress: IpAddress;
  /** Where others reach us. */
  readonly advertiseAddress: IpAddress;
  readonly portHostOrder: number;
  /** All current keys, any order; the transmit key is chosen as the reference says (network-data-plane 3.2). */
  readonly keys: readonly GossipKey[];
}

export interface TableEvent {
  readonly kind: "put" | "delete";
  readonly table: string;
  readonly networkId: string;
  readonly key: string;
  readonly value: Uint8Array;
  /** Gossip name of the node that owns the entry. */
  readonly owner: string;
}

export interface GossipMember {
  readonly name: string;
  readonly address: IpAddress;
  readonly state: "alive" | "suspect" | "dead" | "left";
}

/**
 * NetworkDB: an eventually consistent table store over memberlist, scoped by network. One per daemon in a swarm.
 * Our own new events go out at once, not at the next tick.
 */
export interface Gossip extends AsyncDisposable {
  /** 12 hex digits, new at each start. */
  readonly nodeName: string;
  /** Push/pull with each `host:port` until one answers; retried in the background while none does. */
  join(addresses: readonly string[]): Promise<void>;
  setKeys(keys: readonly GossipKey[]): void;
  /** Attach to a network: its entries are exchanged with every node already there. */
  joinNetwork(networkId: string): Promise<void>;
  leaveNetwork(networkId: string): void;
  put(table: string, networkId: string, key: string, value: Uint8Array): void;
  remove(table: string, networkId: string, key: string): void;
  entries(table: string, networkId: string): readonly TableEvent[];
  /** Every change of a table, own ones excluded; starts with the entries already known. */
  watch(table: string, networkId: string, listener: (event: TableEvent) => void): Disposable;
  members(): readonly GossipMember[];
  /** Nodes attached to a network, ourselves included; the `Peers` of network inspect. */
  networkPeers(networkId: string): readonly { readonly name: string; readonly address: IpAddress }[];
  /** Says goodbye to the cluster (NodeEvent LEAVE, memberlist leave), then closes. */
  leave(): Promise<void>;
}
