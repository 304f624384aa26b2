import type { IpAddress, IpFamily } from "../base/ip.ts";
import { type Change, Collection, type Seal, type Store } from "../store/mod.ts";
import type { Endpoint, Network } from "./model.ts";
import { endpointCodec, type NetworkRecord, networkCodec } from "./records.ts";

/**
 * The networks and endpoints of this host, in memory and in the store. An endpoint shows here from the moment its addresses
 * are chosen, so that nobody else gets them, and is on disk before anything is built for it.
 */
export class Catalogue {
  readonly #store: Store;
  readonly #networkRecords: Collection<NetworkRecord>;
  readonly #endpointRecords: Collection<Endpoint>;
  readonly #networks = new Map<string, NetworkRecord>();
  readonly #endpoints = new Map<string, Endpoint>();
  readonly #byNetwork = new Map<string, Map<string, Endpoint>>();
  readonly #bySandbox = new Map<string, Map<string, Endpoint>>();
  /** Last address given per network and family: the next one follows it, so that addresses are not reused at once. */
  readonly #lastGiven = new Map<string, IpAddress>();

  private constructor(store: Store, seal: Seal) {
    this.#store = store;
    this.#networkRecords = new Collection({ store, prefix: "network", codec: networkCodec, seal });
    this.#endpointRecords = new Collection({ store, prefix: "endpoint", codec: endpointCodec, seal });
  }

  static async load(store: Store, seal: Seal): Promise<Catalogue> {
    const catalogue = new Catalogue(store, seal);
    for (const { value } of await catalogue.#networkRecords.list()) catalogue.#networks.set(value.network.id, value);
    for (const { value } of await catalogue.#endpointRecords.list()) catalogue.reserve(value);
    return catalogue;
  }

  networks(): readonly Network[] {
    return [...this.#networks.values()].map((record) => record.network);
  }

  network(id: string): Network | undefined {
    return this.#networks.get(id)?.network;
  }

  record(id: string): NetworkRecord | undefined {
    return this.#networks.get(id);
  }

  records(): readonly NetworkRecord[] {
    return [...this.#networks.values()];
  }

  async putNetwork(record: NetworkRecord): Promise<void> {
    await this.#networkRecords.put(record.network.id, record);
    this.#networks.set(record.network.id, record);
  }

  async deleteNetwork(id: string): Promise<void> {
    await this.#networkRecords.delete(id);
    this.#networks.delete(id);
    this.#lastGiven.delete(`${id} 4`);
    this.#lastGiven.delete(`${id} 6`);
  }

  endpoint(id: string): Endpoint | undefined {
    return this.#endpoints.get(id);
  }

  endpoints(): readonly Endpoint[] {
    return [...this.#endpoints.values()];
  }

  endpointsOn(networkId: string): readonly Endpoint[] {
    return [...(this.#byNetwork.get(networkId)?.values() ?? [])];
  }

  endpointsOf(sandboxId: string): readonly Endpoint[] {
    return [...(this.#bySandbox.get(sandboxId)?.values() ?? [])];
  }

  lastGiven(networkId: string, family: IpFamily): IpAddress | undefined {
    return this.#lastGiven.get(`${networkId} ${family}`);
  }

  noteGiven(endpoint: Endpoint): void {
    if (endpoint.request.ipv4 === undefined && endpoint.ipv4 !== undefined) {
      this.#lastGiven.set(`${endpoint.networkId} 4`, endpoint.ipv4.address);
    }
    if (endpoint.request.ipv6 === undefined && endpoint.ipv6 !== undefined) {
      this.#lastGiven.set(`${endpoint.networkId} 6`, endpoint.ipv6.address);
    }
  }

  /** Takes an endpoint's addresses, in memory. */
  reserve(endpoint: Endpoint): void {
    this.#endpoints.set(endpoint.id, endpoint);
    index(this.#byNetwork, endpoint.networkId).set(endpoint.id, endpoint);
    index(this.#bySandbox, endpoint.sandboxId).set(endpoint.id, endpoint);
  }

  /** Gives them back, in memory. */
  forget(endpoint: Endpoint): void {
    this.#endpoints.delete(endpoint.id);
    unindex(this.#byNetwork, endpoint.networkId, endpoint.id);
    unindex(this.#bySandbox, endpoint.sandboxId, endpoint.id);
  }

  /** Writes endpoints that are reserved or changed, in one commit. */
  async saveEndpoints(endpoints: readonly Endpoint[]): Promise<void> {
    if (endpoints.length === 0) return;
    for (const endpoint of endpoints) this.reserve(endpoint);
    await this.#store.commit(endpoints.map((endpoint) => this.#endpointRecords.putChange(endpoint.id, endpoint)));
  }

  /** Their addresses are free once this resolves. Unknown ones are fine. */
  async deleteEndpoints(endpoints: readonly Endpoint[]): Promise<void> {
    if (endpoints.length === 0) return;
    const changes: Change[] = endpoints.map((endpoint) => this.#endpointRecords.deleteChange(endpoint.id));
    await this.#store.commit(changes);
    for (const endpoint of endpoints) this.forget(endpoint);
  }
}

function index(map: Map<string, Map<string, Endpoint>>, key: string): Map<string, Endpoint> {
  const found = map.get(key) ?? new Map<string, Endpoint>();
  map.set(key, found);
  return found;
}

function unindex(map: Map<string, Map<string, Endpoint>>, key: string, id: string): void {
  const found = map.get(key);
  found?.delete(id);
  if (found?.size === 0) map.delete(key);
}
