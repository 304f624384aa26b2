import assert from "node:assert/strict";
import { ClusterWorld, scenario } from "./cluster-world.ts";

scenario("containers of four hosts find each other, and leave no trace", { hosts: 4, seeds: [1, 2] }, async (world) => {
  await world.createNetwork("cloth");
  await world.finish(world.run("a", { on: 1, networks: ["cloth"] }));
  await world.finish(world.run("b", { on: 3, networks: ["cloth"] }));
  const ms = await world.agree(5_000);
  assert.ok(ms <= 200, `took ${ms} ms`);
  await world.finish(world.host(3).remove("b"));
  await world.agree(5_000);
  await world.finish(world.host(1).remove("a"));
  await world.settle(5_000);
  await world.removeNetwork("cloth");
  await world.settle(5_000);
});

scenario("connect, disconnect, two networks at once", { hosts: 3, seeds: [3, 4] }, async (world) => {
  await world.createNetwork("cloth");
  await world.createNetwork("silk");
  await world.finish(
    Promise.all([
      world.run("a", { on: 1, networks: ["cloth", "silk"] }),
      world.run("b", { on: 2, networks: ["cloth"] }),
      world.run("c", { on: 3, networks: ["silk"] }),
    ]),
  );
  await world.agree(5_000);
  await world.finish(Promise.all([world.host(2).connect("b", "silk"), world.host(1).disconnect("a", "cloth")]));
  await world.agree(5_000);
  await world.finish(Promise.all([world.host(2).disconnect("b", "cloth"), world.host(3).remove("c")]));
  await world.settle(5_000);
});

scenario("a container moves with its address", { hosts: 4, seeds: [5, 6, 7] }, async (world) => {
  await world.createNetwork("cloth");
  await world.finish(world.run("watcher", { on: 4, networks: ["cloth"] }));
  await world.finish(world.run("m", { on: 2, networks: ["cloth"] }));
  await world.agree(5_000);
  // The old record may still be on its way out where the new one comes in: both have the address and the MAC.
  const address = world.host(2).address4("m", "cloth");
  const removing = world.host(2).remove("m");
  await world.finish(removing);
  await world.finish(world.runWithAddress("m", { on: 3, network: "cloth", address }));
  assert.equal(world.host(3).address4("m", "cloth"), address);
  await world.agree(5_000);
  // A lost machine cannot withdraw: its record stays until the others notice, and the address is given to another.
  world.host(3).powerOff();
  await world.finish(world.host(3).start());
  await world.finish(world.runWithAddress("m", { on: 1, network: "cloth", address }));
  await world.settle(60_000);
});

scenario("weftd is killed and started again under running containers", { hosts: 4, seeds: [8, 9] }, async (world) => {
  await world.createNetwork("cloth");
  for (const on of [1, 2, 3, 4]) await world.finish(world.run(`c${on}`, { on, networks: ["cloth"] }));
  await world.agree(5_000);
  const before = world.host(2).gossipName;
  world.host(2).kill();
  await world.finish(world.host(3).remove("c3"));
  await world.finish(world.run("d", { on: 4, networks: ["cloth"] }));
  await world.runFor(1_000);
  await world.finish(world.host(2).start());
  await world.settle(60_000);
  assert.notEqual(world.host(2).gossipName, before);
});

scenario("machines lose power and come back without their containers", { hosts: 5, seeds: [10, 11] }, async (world) => {
  await world.createNetwork("cloth");
  for (const on of [1, 2, 3, 4, 5]) await world.finish(world.run(`c${on}`, { on, networks: ["cloth"] }));
  await world.agree(5_000);
  world.host(4).powerOff();
  world.host(5).powerOff();
  // Both are gone for long enough that the others stop telling of them.
  await world.agree(60_000);
  await world.finish(world.host(4).start());
  await world.finish(world.host(5).start());
  await world.finish(world.run("again", { on: 5, networks: ["cloth"] }));
  await world.settle(60_000);
});

scenario("the manager restarts: what runs goes on, then the rest", { hosts: 4, seeds: [12, 13] }, async (world) => {
  await world.createNetwork("cloth");
  for (const on of [1, 2, 3]) await world.finish(world.run(`c${on}`, { on, networks: ["cloth"] }));
  await world.agree(5_000);
  world.manager.kill();
  // Nobody can be attached, but who goes needs no manager.
  await world.finish(world.host(2).remove("c2"));
  const attaching = world.run("late", { on: 4, networks: ["cloth"] });
  await world.runFor(5_000);
  await world.finish(world.manager.start());
  await world.finish(attaching);
  await world.settle(60_000);
});

scenario("a partition during attach heals", { hosts: 6, seeds: [14, 15, 16] }, async (world) => {
  await world.createNetwork("cloth");
  for (const on of [1, 2, 5]) await world.finish(world.run(`c${on}`, { on, networks: ["cloth"] }));
  await world.agree(5_000);
  const attaching = [world.run("x", { on: 6, networks: ["cloth"] }), world.run("y", { on: 3, networks: ["cloth"] })];
  await world.runFor(world.random.below(8));
  world.partition((host) => host <= 3);
  const results = await world.finish(Promise.allSettled(attaching));
  assert.equal(results[1]?.status, "fulfilled");
  await world.finish(world.host(2).remove("c2"));
  await world.finish(world.host(5).remove("c5"));
  await world.finish(world.run("z", { on: 1, networks: ["cloth"] }));
  await world.runFor(world.random.below(120_000));
  world.heal();
  await world.settle(90_000);
});

scenario("a fifth of all packets is lost", { hosts: 6, lossPercent: 20, seeds: [17, 18] }, async (world) => {
  await world.createNetwork("cloth");
  const attach = [1, 2, 3, 4, 5, 6].map((on) => world.run(`c${on}`, { on, networks: ["cloth"] }));
  await world.finish(Promise.all(attach));
  await world.settle(60_000);
  await world.finish(Promise.all([2, 4].map((on) => world.host(on).remove(`c${on}`))));
  await world.settle(60_000);
});

scenario("a node leaves the swarm", { hosts: 3, seeds: [19] }, async (world) => {
  await world.createNetwork("cloth");
  for (const on of [1, 2, 3]) await world.finish(world.run(`c${on}`, { on, networks: ["cloth"] }));
  await world.agree(5_000);
  const host = world.host(3);
  await world.finish(host.leaveSwarm());
  assert.deepEqual(host.kernel.namespaces(), [host.sandboxPath("c3")], "only the container's own namespace stays");
  host.powerOff();
  await world.agree(5_000);
});

scenario("same seed, same world", { hosts: 4, lossPercent: 10, seeds: [20] }, async (world) => {
  const play = async (played: ClusterWorld) => {
    await played.createNetwork("cloth");
    await played.finish(Promise.all([1, 2, 3].map((on) => played.run(`c${on}`, { on, networks: ["cloth"] }))));
    await played.agree();
    await played.runFor(10_000);
    return [played.now, played.packets];
  };
  using again = await ClusterWorld.open({ seed: 20, hosts: 4, lossPercent: 10 });
  assert.deepEqual(await play(world), await play(again));
});
