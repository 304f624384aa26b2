import assert from "node:assert/strict";
import { withSignal } from "../../src/base/async.ts";
import { EngineError } from "../../src/base/errors.ts";
import { addressesHeldTwice } from "./cluster-truth.ts";
import { type ClusterWorld, scenario } from "./cluster-world.ts";
import type { SimulatedHost } from "./simulated-host.ts";

const networks = ["cloth", "silk"];

/** Users who run, move and remove containers at random, and fate, which kills, cuts and heals. */
class Churn {
  readonly #world: ClusterWorld;
  readonly #fates: readonly (() => void)[];
  readonly #underWay = new Set<Promise<void>>();
  #count = 0;

  constructor(world: ClusterWorld, mood: "calm" | "rough") {
    this.#world = world;
    const fates = [() => this.#kill(), () => this.#powerOff(), () => this.#partition(), () => this.#killManager()];
    this.#fates = mood === "calm" ? [] : fates;
  }

  async play(steps: number): Promise<void> {
    for (const network of networks) await this.#world.createNetwork(network);
    for (let i = 0; i < steps; i++) {
      if (this.#fates.length > 0 && this.#world.random.below(6) === 0) this.#pick(this.#fates)();
      else this.#wish();
      await this.#world.runFor(this.#world.random.below(400));
      assert.deepEqual(addressesHeldTwice(this.#world), []);
    }
  }

  /** Nothing is cut or open, and everybody is up again. */
  async end(): Promise<void> {
    this.#world.heal();
    for (const host of this.#world.running()) host.process.crashAfter(Number.POSITIVE_INFINITY, () => {});
    await this.#world.finish(Promise.all(this.#underWay), 120_000);
    const down = this.#world.hosts.filter((host) => host.isDown);
    await this.#world.finish(Promise.all(down.map((host) => host.start())), 120_000);
  }

  #wish(): void {
    const on = 1 + this.#world.random.below(this.#world.hosts.length);
    const host = this.#world.host(on);
    if (!host.isRunning) return;
    const container = this.#pick([...host.containers.keys(), ""]);
    if (container === "" || this.#world.random.below(3) === 0) {
      const chosen = this.#world.random.below(4) === 0 ? networks : [this.#pick(networks)];
      this.#count += 1;
      this.#begin(host, this.#world.run(`c${this.#count}`, { on, networks: chosen }));
    } else if (this.#world.random.below(2) === 0) this.#begin(host, host.remove(container));
    else this.#begin(host, this.#move(host, container));
  }

  /** To another host, with the address that it has. */
  async #move(host: SimulatedHost, name: string): Promise<void> {
    const network = host.containers.get(name)?.endpoints[0]?.network ?? "";
    const address = host.address4(name, network);
    const on = 1 + this.#world.random.below(this.#world.hosts.length);
    await host.remove(name);
    const target = this.#world.host(on);
    if (target.isRunning) this.#begin(target, this.#world.runWithAddress(name, { on, network, address }));
  }

  #kill(): void {
    const host = this.#aWorker();
    if (host === undefined) return;
    host.process.crashAfter(1 + this.#world.random.below(12), () => {
      host.kill();
      this.#startLater(host);
    });
  }

  #powerOff(): void {
    const host = this.#aWorker();
    if (host === undefined) return;
    host.powerOff();
    this.#startLater(host);
  }

  #killManager(): void {
    if (!this.#world.manager.isRunning) return;
    this.#world.manager.kill();
    this.#startLater(this.#world.manager);
  }

  #partition(): void {
    const border = 1 + this.#world.random.below(this.#world.hosts.length - 1);
    this.#world.partition((host) => host <= border);
    this.#world.after(this.#world.random.below(20_000), () => this.#world.heal());
  }

  #startLater(host: SimulatedHost): void {
    this.#world.after(this.#world.random.below(15_000), () => {
      if (host.isDown) this.#begin(host, host.start());
    });
  }

  #aWorker(): SimulatedHost | undefined {
    const running = this.#world.hosts.slice(1).filter((host) => host.isRunning);
    return running.length === 0 ? undefined : this.#pick(running);
  }

  /** What is under way on a host that dies is never heard of again; what is refused in rough times was refused rightly. */
  #begin(host: SimulatedHost, work: Promise<void>): void {
    const { process } = host;
    const done = withSignal(work, process.ended).catch((error: unknown) => {
      if (!process.isRunning) return;
      if (this.#fates.length === 0 || !(error instanceof EngineError)) throw error;
    });
    this.#underWay.add(done);
  }

  #pick<T>(choices: readonly T[]): T {
    return choices[this.#world.random.below(choices.length)] as T;
  }
}

scenario("calm times: containers come, move and go on sixteen hosts", { hosts: 16, seeds: [1] }, async (world) => {
  const churn = new Churn(world, "calm");
  await churn.play(30);
  await churn.end();
  await world.settle(10_000, 5_000);
});

scenario(
  "rough times on ten hosts: kills, power cuts, partitions, lost packets",
  { hosts: 10, lossPercent: 10, seeds: [1, 2] },
  async (world) => {
    const churn = new Churn(world, "rough");
    await churn.play(80);
    await churn.end();
    await world.settle(180_000);
  },
);
