import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { setImmediate as nextTurn } from "node:timers/promises";
import type { IpAddress } from "../../src/base/ip.ts";
import type { Log } from "../../src/base/log.ts";
import type { Random } from "../../src/base/random.ts";
import type { NetworkSpec } from "../../src/network/mod.ts";
import { MemoryStore } from "../../src/store/mod.ts";
import { disagreements } from "./cluster-truth.ts";
import { foundSwarm } from "./control-plane.ts";
import { World } from "./gossip-world.ts";
import { orderFiles } from "./ordered-files.ts";
import { SimulatedHost } from "./simulated-host.ts";
import { WeftProcess } from "./weft-process.ts";

orderFiles();

export interface ClusterOptions {
  readonly seed: number;
  readonly hosts: number;
  /** Share of gossip datagrams lost, 0 to 100. Streams arrive: TCP sends again. */
  readonly lossPercent?: number;
  readonly log?: Log;
}

/**
 * A swarm in one process: machines with real rooms of weftd over fake kernels, a network that delays, loses and cuts, and a
 * clock that only moves when everybody waits for it. All chance comes from the seed.
 */
export class ClusterWorld implements Disposable {
  readonly hosts: readonly SimulatedHost[];
  readonly random: Random;
  /** Every container name that was ever used: those that are gone must not resolve. */
  readonly names = new Set<string>();
  /** Overlay networks by name. */
  readonly overlays = new Map<string, string>();
  readonly #wire: World;
  readonly #directory: string;

  private constructor(wire: World, hosts: readonly SimulatedHost[], directory: string) {
    this.#wire = wire;
    this.random = wire.random;
    this.hosts = hosts;
    this.#directory = directory;
  }

  /** All hosts are up and in the swarm. */
  static async open(options: ClusterOptions): Promise<ClusterWorld> {
    const { seed, hosts: count, lossPercent = 0 } = options;
    const wire = new World({ seed, lossPercent });
    const directory = mkdtempSync(join(tmpdir(), "weft-simulation-"));
    const stores = Array.from({ length: count }, () => new MemoryStore());
    const hosts: SimulatedHost[] = [];
    const world = new ClusterWorld(wire, hosts, directory);
    const founding = foundSwarm(stores[0] as MemoryStore, new WeftProcess(wire, wire.random), wire.random, count);
    const nodeIds = await world.finish(founding);
    for (const [i, store] of stores.entries()) {
      hosts.push(
        new SimulatedHost({
          world: wire,
          name: `h${i + 1}`,
          address: `10.0.0.${i + 1}`,
          nodeId: nodeIds[i] as string,
          seed: seed * 1000 + i,
          manager: () => hosts[0] as SimulatedHost,
          isManager: i === 0,
          execRoot: directory,
          store,
          ...(options.log === undefined ? {} : { log: options.log.child({ host: `h${i + 1}` }) }),
        }),
      );
    }
    await world.finish(world.manager.start());
    await world.finish(Promise.all(hosts.slice(1).map((host) => host.start())));
    await world.agree();
    return world;
  }

  get now(): number {
    return this.#wire.now;
  }

  get packets(): number {
    return this.#wire.packets;
  }

  get manager(): SimulatedHost {
    return this.host(1);
  }

  /** Forwarding and neighbour entries of a host for a network. */
  entries(host: SimulatedHost, network: string): readonly string[] {
    const id = this.overlays.get(network) ?? "";
    return host.kernel.neighbours({ path: `${host.execRoot}/netns/1-${id.slice(0, 10)}` }, "vxlan0");
  }

  /** Hosts count from 1, as their addresses do. */
  host(number: number): SimulatedHost {
    const found = this.hosts[number - 1];
    assert.ok(found !== undefined, `there is no host ${number}`);
    return found;
  }

  running(): readonly SimulatedHost[] {
    return this.hosts.filter((host) => host.isRunning);
  }

  async createNetwork(name: string): Promise<void> {
    const { network } = await this.finish(
      this.manager.networks.create(overlaySpec(name), new AbortController().signal),
    );
    this.overlays.set(name, network.id);
  }

  async removeNetwork(name: string): Promise<void> {
    await this.finish(this.manager.networks.remove(name, new AbortController().signal));
    this.overlays.delete(name);
  }

  /** Begins to run a container; for several at once, or one that may fail. */
  run(name: string, where: { readonly on: number; readonly networks: readonly string[] }): Promise<void> {
    this.names.add(name);
    return this.host(where.on)
      .run(name, where.networks)
      .then(() => {});
  }

  async runWithAddress(
    name: string,
    where: { readonly on: number; readonly network: string; readonly address: IpAddress },
  ): Promise<void> {
    this.names.add(name);
    await this.host(where.on).run(name, [{ network: where.network, ipv4: where.address }]);
  }

  /** Packets and connections between the two sides are cut. */
  partition(side: (hostNumber: number) => boolean): void {
    const sideOf = (address: string) => side(Number(address.split(".")[3]));
    this.#wire.cut((a, b) => sideOf(a) !== sideOf(b));
  }

  heal(): void {
    this.#wire.cut(() => false);
  }

  after(delayMs: number, act: () => void): void {
    this.#wire.after(delayMs, act);
  }

  /** Lets time go on until the work is done. Rejects as it does. */
  async finish<T>(work: Promise<T>, limitMs = 60_000): Promise<T> {
    const end = this.now + limitMs;
    let isDone = false;
    const done = () => {
      isDone = true;
    };
    work.then(done, done);
    await this.#rest();
    while (!isDone) {
      assert.ok(this.#wire.runNext(end), `not done within ${limitMs} ms`);
      await this.#rest();
    }
    return work;
  }

  async runFor(ms: number): Promise<void> {
    const end = this.now + ms;
    await this.#rest();
    while (this.#wire.runNext(end)) await this.#rest();
    this.#wire.runFor(end - this.now);
  }

  /** Lets time go on until nothing contradicts what should be; returns how long that took. */
  async agree(limitMs = 60_000): Promise<number> {
    const start = this.now;
    for (;;) {
      await this.runFor(50);
      const found = await disagreements(this);
      if (found.length === 0) return this.now - start;
      if (this.now - start < limitMs) continue;
      const shown = found.slice(0, 12).join("\n  ");
      assert.fail(`${found.length} disagreements after ${limitMs} ms:\n  ${shown}`);
    }
  }

  /** As `agree`, and stays so. */
  async settle(limitMs = 60_000, stayMs = 40_000): Promise<number> {
    const ms = await this.agree(limitMs);
    await this.runFor(stayMs);
    const found = await disagreements(this);
    assert.deepEqual(found, [], "it did not stay so");
    return ms;
  }

  [Symbol.dispose](): void {
    for (const host of this.hosts) host.kill();
    rmSync(this.#directory, { recursive: true, force: true });
  }

  /** Until nobody has anything to do before the clock moves. */
  async #rest(): Promise<void> {
    do await nextTurn();
    while (isBusy());
  }
}

/** Node's own list of what will call back: further turns of the loop. Files are read at once. */
function isBusy(): boolean {
  return process.getActiveResourcesInfo().includes("Immediate");
}

function overlaySpec(name: string): NetworkSpec {
  return {
    name,
    driver: "overlay",
    scope: undefined,
    ipam: { driver: "default", options: {}, pools: [] },
    enableIpv4: true,
    enableIpv6: false,
    internal: false,
    attachable: true,
    ingress: false,
    configOnly: false,
    configFrom: undefined,
    options: {},
    labels: {},
  };
}

/** One test per seed; a failure names its seed, and `SEED=n` in the environment runs that one alone. */
export function scenario(
  name: string,
  options: Omit<ClusterOptions, "seed"> & {
    readonly seeds?: readonly number[];
  },
  act: (world: ClusterWorld) => Promise<void>,
): void {
  const chosen = process.env["SEED"];
  const seeds = chosen === undefined ? (options.seeds ?? [1]) : [Number(chosen)];
  for (const seed of seeds) {
    test(`${name} (SEED=${seed})`, async () => {
      using world = await ClusterWorld.open({ ...options, seed });
      await act(world);
    });
  }
}
