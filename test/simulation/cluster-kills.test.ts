import assert from "node:assert/strict";
import { withSignal } from "../../src/base/async.ts";
import { addressesHeldTwice } from "./cluster-truth.ts";
import { type ClusterWorld, scenario } from "./cluster-world.ts";
import type { SimulatedHost } from "./simulated-host.ts";

interface Deed {
  readonly name: string;
  readonly act: (world: ClusterWorld, host: SimulatedHost) => Promise<unknown>;
}

const deeds: readonly Deed[] = [
  { name: "run", act: (world) => world.run("a", { on: 2, networks: ["cloth"] }) },
  { name: "connect", act: (_, host) => host.connect("b", "silk") },
  { name: "disconnect", act: (_, host) => host.disconnect("b", "cloth") },
  { name: "remove", act: (_, host) => host.remove("b") },
];

for (const { name, act } of deeds) {
  scenario(
    `weftd is killed after any call of "${name}" into kernel or store`,
    { hosts: 3, seeds: [1, 103] },
    async (world) => {
      const host = world.host(2);
      await world.createNetwork("cloth");
      await world.createNetwork("silk");
      await world.finish(world.run("there", { on: 3, networks: ["cloth", "silk"] }));
      let crashes = 0;
      for (let isDone = false; !isDone; ) {
        await world.finish(world.run("b", { on: 2, networks: ["cloth"] }));
        await world.agree();
        const { process } = host;
        process.crashAfter(crashes + 1, () => host.kill());
        await world.finish(withSignal(act(world, host), process.ended).catch(() => {}));
        process.crashAfter(Number.POSITIVE_INFINITY, () => {});
        isDone = process.isRunning;
        if (!isDone) crashes += 1;
        assert.deepEqual(addressesHeldTwice(world), []);
        // What is on the disk of the engine counts: a run that was cut short is no container, a removed one is none.
        if (!isDone) await world.finish(host.start());
        await world.agree(30_000);
        for (const container of [...host.containers.keys()]) await world.finish(host.remove(container));
      }
      assert.ok(crashes >= 5, `only ${crashes} calls`);
      await world.settle(10_000);
    },
  );
}

for (const manager of ["there", "away"] as const) {
  scenario(
    `peers stay reachable while weftd starts again, the manager is ${manager}`,
    { hosts: 4, seeds: [2] },
    async (world) => {
      await world.createNetwork("cloth");
      for (const on of [1, 2, 3, 4]) await world.finish(world.run(`c${on}`, { on, networks: ["cloth"] }));
      await world.agree(5_000);
      const host = world.host(2);
      const before = world.entries(host, "cloth");
      if (manager === "away") world.manager.kill();
      host.kill();
      const starting = host.start();
      const stays = async (when: string, steps: number, stepMs: number) => {
        for (let i = 1; i <= steps; i++) {
          await world.runFor(stepMs);
          assert.deepEqual(world.entries(host, "cloth"), before, `${when}, after ${i * stepMs} ms`);
        }
      };
      await stays("starting", 100, 2);
      await world.finish(starting);
      await stays("running", 200, 200);
      if (manager === "there") return;
      await world.finish(world.manager.start());
      await stays("with the manager again", 200, 200);
      await world.settle();
    },
  );
}

scenario(
  "peers that went while weftd was down go once the others have told",
  { hosts: 3, seeds: [3, 4] },
  async (world) => {
    await world.createNetwork("cloth");
    for (const on of [1, 2, 3]) await world.finish(world.run(`c${on}`, { on, networks: ["cloth"] }));
    await world.agree(5_000);
    const host = world.host(2);
    host.kill();
    await world.finish(world.host(3).remove("c3"));
    await world.finish(host.start());
    await world.agree(20_000);
  },
);
