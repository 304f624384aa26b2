import { Hub } from "../../src/base/async.ts";
import { parseIp } from "../../src/base/ip.ts";
import type { Gossip, GossipKey, GossipMember, TableEvent } from "../../src/gossip/gossip.ts";
import { keyringOf } from "../../src/gossip/keyring.ts";
import type { NodeInput } from "../../src/gossip/machine.ts";
import { entriesOf, isJoined, peersOf } from "../../src/gossip/networkdb/model.ts";
import { membersOf } from "../../src/gossip/swim/machine.ts";
import type { Host, World } from "./gossip-world.ts";

/** The gossip room's interface over a machine in the simulated network: what open.ts is over sockets. */
export class SimulatedGossip implements Gossip {
  readonly host: Host;
  readonly #world: World;
  readonly #changes = new Hub<TableEvent>();
  readonly #syncs = new Map<string, (() => void)[]>();

  constructor(world: World, address: string, keys: readonly GossipKey[]) {
    this.#world = world;
    this.host = world.start(address);
    this.host.keyring = keyringOf(keys);
    this.host.listener = (output) => {
      if (output.kind === "change") this.#changes.emit(output.event);
      else this.#synced(output.networkId);
    };
  }

  get nodeName(): string {
    return this.host.name;
  }

  async join(addresses: readonly string[]): Promise<void> {
    const endpoints = addresses.map((address) => ({ address: parseIp(address), portHostOrder: 7946 }));
    this.#feed({ kind: "join", endpoints });
  }

  setKeys(keys: readonly GossipKey[]): void {
    this.host.keyring = keyringOf(keys);
  }

  joinNetwork(networkId: string): Promise<void> {
    return new Promise((resolve) => {
      this.#syncs.set(networkId, [...(this.#syncs.get(networkId) ?? []), resolve]);
      this.#feed({ kind: "join-network", networkId });
    });
  }

  leaveNetwork(networkId: string): void {
    this.#feed({ kind: "leave-network", networkId });
  }

  put(table: string, networkId: string, key: string, value: Uint8Array): void {
    this.#feed({ kind: "put", table, networkId, key, value });
  }

  remove(table: string, networkId: string, key: string): void {
    this.#feed({ kind: "remove", table, networkId, key, value: new Uint8Array() });
  }

  entries(table: string, networkId: string): readonly TableEvent[] {
    return entriesOf(this.host.node.db, table, networkId);
  }

  watch(table: string, networkId: string, listener: (event: TableEvent) => void): Disposable {
    const known = this.entries(table, networkId).filter(({ owner }) => owner !== this.nodeName);
    const listening = this.#changes.listen((event) => {
      if (event.table === table && event.networkId === networkId) listener(event);
    });
    for (const event of known) listener(event);
    return listening;
  }

  members(): readonly GossipMember[] {
    return membersOf(this.host.node.swim).map(({ name, address, state }) => ({ name, address, state }));
  }

  networkPeers(networkId: string): readonly Pick<GossipMember, "name" | "address">[] {
    const peers = peersOf(this.host.node.db, networkId).map(({ name, address }) => ({ name, address }));
    if (!isJoined(this.host.node.db, networkId)) return peers;
    return [{ name: this.nodeName, address: this.host.endpoint.address }, ...peers];
  }

  async leave(): Promise<void> {
    this.#feed({ kind: "leave" });
    await new Promise<void>((done) => this.#world.after(250, done));
    await this[Symbol.asyncDispose]();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#world.crash(this.host);
  }

  /** A killed process' gossip says nothing more. */
  #feed(input: NodeInput): void {
    if (this.host.isRunning) this.#world.feed(this.host, input);
  }

  #synced(networkId: string): void {
    const waiting = this.#syncs.get(networkId) ?? [];
    this.#syncs.delete(networkId);
    for (const done of waiting) done();
  }
}
