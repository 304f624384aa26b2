import type { OverlayPeer, PeerTable, RemoteName } from "./networks.ts";

interface Watch<T> {
  readonly networkId: string;
  readonly listener: (endpointId: string, value: T | undefined) => void;
  readonly known: Set<string>;
  bound: Disposable | undefined;
}

interface SyncWait {
  readonly networkId: string;
  readonly listener: () => void;
  bound: Disposable | undefined;
}

/**
 * A peer table that may not be there yet, or be another one later: after a restart containers on overlays are taken over
 * before gossip runs, and a node may leave one swarm and join the next. What was asked is kept and said again to each new
 * table; endpoints that a lost table told of stay as they were until a new one speaks (traffic goes on meanwhile).
 */
export class LatePeerTable implements PeerTable {
  readonly #find: () => PeerTable | undefined;
  readonly #joined = new Set<string>();
  readonly #peers = new Map<string, { readonly networkId: string; readonly peer: OverlayPeer }>();
  readonly #names = new Map<string, { readonly networkId: string; readonly name: RemoteName }>();
  readonly #peerWatches = new Set<Watch<OverlayPeer>>();
  readonly #nameWatches = new Set<Watch<RemoteName>>();
  readonly #syncWaits = new Set<SyncWait>();
  #table: PeerTable | undefined;

  constructor(find: () => PeerTable | undefined) {
    this.#find = find;
  }

  /** Looks whether the table has come, gone or changed. Cheap; call it whenever the swarm calls us. */
  async refresh(): Promise<void> {
    const table = this.#find();
    if (table === this.#table) return;
    this.#table = table;
    for (const watch of [...this.#peerWatches, ...this.#nameWatches]) {
      watch.bound?.[Symbol.dispose]();
      watch.bound = undefined;
    }
    for (const wait of this.#syncWaits) wait.bound?.[Symbol.dispose]();
    if (table === undefined) return;
    for (const networkId of this.#joined) await table.join(networkId);
    for (const { networkId, peer } of this.#peers.values()) table.publishPeer(networkId, peer);
    for (const { networkId, name } of this.#names.values()) table.publishName(networkId, name);
    for (const watch of this.#peerWatches) bind(watch, (id, listener) => table.watchPeers(id, listener));
    for (const watch of this.#nameWatches) bind(watch, (id, listener) => table.watchNames(id, listener));
    for (const wait of this.#syncWaits) this.#bindSync(wait, table);
  }

  async join(networkId: string): Promise<void> {
    await this.refresh();
    this.#joined.add(networkId);
    await this.#table?.join(networkId);
  }

  leave(networkId: string): void {
    if (this.#joined.delete(networkId)) this.#table?.leave(networkId);
  }

  publishPeer(networkId: string, peer: OverlayPeer): void {
    this.#peers.set(`${networkId} ${peer.endpointId}`, { networkId, peer });
    this.#table?.publishPeer(networkId, peer);
  }

  withdrawPeer(networkId: string, endpointId: string): void {
    if (this.#peers.delete(`${networkId} ${endpointId}`)) this.#table?.withdrawPeer(networkId, endpointId);
  }

  publishName(networkId: string, name: RemoteName): void {
    this.#names.set(`${networkId} ${name.endpointId}`, { networkId, name });
    this.#table?.publishName(networkId, name);
  }

  withdrawName(networkId: string, endpointId: string): void {
    if (this.#names.delete(`${networkId} ${endpointId}`)) this.#table?.withdrawName(networkId, endpointId);
  }

  watchPeers(networkId: string, listener: (endpointId: string, peer: OverlayPeer | undefined) => void): Disposable {
    const watch: Watch<OverlayPeer> = { networkId, listener, known: new Set(), bound: undefined };
    const table = this.#table;
    if (table !== undefined) bind(watch, (id, l) => table.watchPeers(id, l));
    return register(this.#peerWatches, watch);
  }

  watchNames(networkId: string, listener: (endpointId: string, name: RemoteName | undefined) => void): Disposable {
    const watch: Watch<RemoteName> = { networkId, listener, known: new Set(), bound: undefined };
    const table = this.#table;
    if (table !== undefined) bind(watch, (id, l) => table.watchNames(id, l));
    return register(this.#nameWatches, watch);
  }

  whenSynced(networkId: string, listener: () => void): Disposable {
    const wait: SyncWait = { networkId, listener, bound: undefined };
    this.#syncWaits.add(wait);
    if (this.#table !== undefined) this.#bindSync(wait, this.#table);
    return {
      [Symbol.dispose]: () => {
        wait.bound?.[Symbol.dispose]();
        this.#syncWaits.delete(wait);
      },
    };
  }

  peers(networkId: string): ReturnType<PeerTable["peers"]> {
    return this.#table?.peers(networkId) ?? [];
  }

  #bindSync(wait: SyncWait, table: PeerTable): void {
    wait.bound = table.whenSynced(wait.networkId, () => {
      this.#syncWaits.delete(wait);
      wait.listener();
    });
  }
}

/** A new table tells all it has at once; what the one before told and this one does not is gone. */
function bind<T>(
  watch: Watch<T>,
  subscribe: (networkId: string, listener: (endpointId: string, value: T | undefined) => void) => Disposable,
): void {
  const before = new Set(watch.known);
  watch.bound = subscribe(watch.networkId, (endpointId, value) => {
    before.delete(endpointId);
    if (value === undefined) watch.known.delete(endpointId);
    else watch.known.add(endpointId);
    watch.listener(endpointId, value);
  });
  for (const endpointId of before) {
    watch.known.delete(endpointId);
    watch.listener(endpointId, undefined);
  }
}

function register<T>(watches: Set<Watch<T>>, watch: Watch<T>): Disposable {
  watches.add(watch);
  return {
    [Symbol.dispose]() {
      watch.bound?.[Symbol.dispose]();
      watches.delete(watch);
    },
  };
}
