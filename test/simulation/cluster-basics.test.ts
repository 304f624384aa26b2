import assert from "node:assert/strict";
import { scenario } from "./cluster-world.ts";

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
