import { create, type DescMessage, fromBinary, type MessageShape, toBinary } from "@bufbuild/protobuf";
import { messageOf } from "../../base/errors.ts";
import { formatCidr, type IpAddress, parseCidr, parseIp, parseMac, tryParseIp } from "../../base/ip.ts";
import type { Log } from "../../base/log.ts";
import type { Gossip, TableEvent } from "../../gossip/mod.ts";
import type { OverlayPeer, PeerTable, RemoteName } from "../../network/mod.ts";
import { type EndpointRecord, EndpointRecordSchema } from "../../wire/gen/agent_pb.ts";
import { type PeerRecord, PeerRecordSchema } from "../../wire/gen/overlay_pb.ts";

const peerTable = "overlay_peer_table";
const nameTable = "endpoint_table";
/** What engines write for "no VIP" (reference: network-data-plane 6). */
const noVip = "<nil>";

export interface PeerTableOptions {
  /** The gossip while this node is in a swarm and its keys have arrived. */
  readonly gossip: () => Gossip | undefined;
  readonly log: Log;
}

/** The overlay's view of gossip: two tables of protobuf records, keyed by endpoint id. */
export function openPeerTable(options: PeerTableOptions): PeerTable & Disposable & { reopened(): void } {
  return new GossipPeerTable(options);
}

interface Watch {
  readonly table: string;
  readonly networkId: string;
  readonly listener: (event: TableEvent) => void;
  running: Disposable | undefined;
}

interface SyncWait {
  readonly networkId: string;
  readonly listener: () => void;
}

/**
 * What was joined, published and watched is remembered, and told again to the next gossip (`reopened`): endpoints outlive
 * a restart of the gossip, and may be there before its keys are.
 */
class GossipPeerTable implements PeerTable, Disposable {
  readonly #options: PeerTableOptions;
  readonly #joined = new Set<string>();
  readonly #published = new Map<
    string,
    { readonly table: string; readonly networkId: string; readonly key: string; readonly value: Uint8Array }
  >();
  readonly #watches = new Set<Watch>();
  readonly #syncWaits = new Set<SyncWait>();
  /** What was asked of which gossip: one that is told twice refuses. */
  readonly #joining = new Map<string, { readonly gossip: Gossip; readonly done: Promise<void> }>();

  constructor(options: PeerTableOptions) {
    this.#options = options;
  }

  async join(networkId: string): Promise<void> {
    this.#joined.add(networkId);
    const gossip = this.#options.gossip();
    if (gossip === undefined) return;
    const joined = this.#joinIn(gossip, networkId);
    for (const wait of this.#syncWaits) if (wait.networkId === networkId) this.#awaitSync(wait);
    await joined;
  }

  leave(networkId: string): void {
    this.#joined.delete(networkId);
    this.#joining.delete(networkId);
    for (const [id, entry] of this.#published) if (entry.networkId === networkId) this.#published.delete(id);
    this.#options.gossip()?.leaveNetwork(networkId);
  }

  publishPeer(networkId: string, peer: OverlayPeer): void {
    this.#put(peerTable, networkId, peer.endpointId, encodePeer(peer));
  }

  withdrawPeer(networkId: string, endpointId: string): void {
    this.#remove(peerTable, networkId, endpointId);
  }

  publishName(networkId: string, name: RemoteName): void {
    this.#put(nameTable, networkId, name.endpointId, encodeName(name));
  }

  withdrawName(networkId: string, endpointId: string): void {
    this.#remove(nameTable, networkId, endpointId);
  }

  watchPeers(networkId: string, listener: (endpointId: string, peer: OverlayPeer | undefined) => void): Disposable {
    return this.#watch(peerTable, networkId, ({ key, kind, value }) => {
      const peer = kind === "put" ? this.#decoded(key, PeerRecordSchema, value, decodePeer) : undefined;
      if (kind === "delete" || peer !== undefined) listener(key, peer);
    });
  }

  watchNames(networkId: string, listener: (endpointId: string, name: RemoteName | undefined) => void): Disposable {
    return this.#watch(nameTable, networkId, ({ key, kind, value }) => {
      const name = kind === "put" ? this.#decoded(key, EndpointRecordSchema, value, decodeName) : undefined;
      if (kind === "delete" || name !== undefined) listener(key, name);
    });
  }

  whenSynced(networkId: string, listener: () => void): Disposable {
    const wait: SyncWait = { networkId, listener };
    this.#syncWaits.add(wait);
    this.#awaitSync(wait);
    return { [Symbol.dispose]: () => this.#syncWaits.delete(wait) };
  }

  peers(networkId: string): readonly { readonly name: string; readonly address: IpAddress }[] {
    return this.#options.gossip()?.networkPeers(networkId) ?? [];
  }

  /** A new gossip is open: everything is told to it. */
  reopened(): void {
    const gossip = this.#options.gossip();
    if (gossip === undefined) return;
    for (const networkId of this.#joined) {
      this.#joinIn(gossip, networkId).catch((error: unknown) => {
        this.#options.log.warn("cannot join a network's gossip", { network: networkId, error });
      });
    }
    for (const { table, networkId, key, value } of this.#published.values()) gossip.put(table, networkId, key, value);
    for (const watch of this.#watches) this.#start(watch);
    for (const wait of this.#syncWaits) this.#awaitSync(wait);
  }

  [Symbol.dispose](): void {
    for (const watch of this.#watches) watch.running?.[Symbol.dispose]();
    this.#watches.clear();
    this.#syncWaits.clear();
  }

  #joinIn(gossip: Gossip, networkId: string): Promise<void> {
    const known = this.#joining.get(networkId);
    if (known?.gossip === gossip) return known.done;
    const done = gossip.joinNetwork(networkId);
    this.#joining.set(networkId, { gossip, done });
    return done;
  }

  /** For a network that was joined; of one that is not yet, `join` asks again. */
  #awaitSync(wait: SyncWait): void {
    const gossip = this.#options.gossip();
    if (gossip === undefined || !this.#joined.has(wait.networkId)) return;
    this.#joinIn(gossip, wait.networkId).then(
      () => {
        // Closing a gossip ends the wait for it as well.
        if (this.#options.gossip() === gossip && this.#syncWaits.delete(wait)) wait.listener();
      },
      () => {}, // whoever joined is told
    );
  }

  #put(table: string, networkId: string, key: string, value: Uint8Array): void {
    this.#published.set(`${table}/${networkId}/${key}`, { table, networkId, key, value });
    this.#options.gossip()?.put(table, networkId, key, value);
  }

  #remove(table: string, networkId: string, key: string): void {
    this.#published.delete(`${table}/${networkId}/${key}`);
    this.#options.gossip()?.remove(table, networkId, key);
  }

  #watch(table: string, networkId: string, listener: (event: TableEvent) => void): Disposable {
    const watch: Watch = { table, networkId, listener, running: undefined };
    this.#watches.add(watch);
    this.#start(watch);
    return {
      [Symbol.dispose]: () => {
        this.#watches.delete(watch);
        watch.running?.[Symbol.dispose]();
      },
    };
  }

  #start(watch: Watch): void {
    watch.running?.[Symbol.dispose]();
    watch.running = this.#options.gossip()?.watch(watch.table, watch.networkId, watch.listener);
  }

  /** Another node's record that makes no sense is that node's fault: it is left out. */
  #decoded<S extends DescMessage, T>(
    key: string,
    schema: S,
    value: Uint8Array,
    decode: (key: string, record: MessageShape<S>) => T,
  ): T | undefined {
    try {
      return decode(key, fromBinary(schema, value));
    } catch (error) {
      this.#options.log.warn("a gossip record does not parse", {
        key,
        record: schema.typeName,
        error: messageOf(error),
      });
      return undefined;
    }
  }
}

export function encodePeer(peer: OverlayPeer): Uint8Array {
  return toBinary(
    PeerRecordSchema,
    create(PeerRecordSchema, {
      endpointIp: formatCidr(peer.address),
      endpointMac: peer.mac,
      tunnelEndpointIp: peer.vtep,
    }),
  );
}

/** @throws {SyntaxError} when an address does not parse. */
export function decodePeer(endpointId: string, record: PeerRecord): OverlayPeer {
  const address = parseCidr(record.endpointIp);
  return { endpointId, address, mac: parseMac(record.endpointMac), vtep: parseIp(record.tunnelEndpointIp) };
}

export function encodeName(name: RemoteName): Uint8Array {
  return toBinary(
    EndpointRecordSchema,
    create(EndpointRecordSchema, {
      name: name.name,
      serviceName: name.serviceName,
      serviceId: name.serviceId,
      virtualIp: name.virtualIp ?? noVip,
      endpointIp: name.address,
      aliases: [...name.serviceAliases],
      taskAliases: [...name.taskAliases],
      serviceDisabled: name.disabled,
    }),
  );
}

/** @throws {SyntaxError} when the endpoint's address does not parse; an unparsable VIP means "none". */
export function decodeName(endpointId: string, record: EndpointRecord): RemoteName {
  return {
    endpointId,
    name: record.name,
    serviceName: record.serviceName,
    serviceId: record.serviceId,
    virtualIp: tryParseIp(record.virtualIp),
    address: parseIp(record.endpointIp),
    serviceAliases: record.aliases,
    taskAliases: record.taskAliases,
    disabled: record.serviceDisabled,
  };
}
