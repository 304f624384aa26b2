import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { create } from "@bufbuild/protobuf";
import { seededRandom } from "../../base/random.ts";
import { WeightedPeerSchema } from "../../wire/gen/swarm_types_pb.ts";
import { Remotes } from "./remotes.ts";

const a = { nodeId: "", address: "a:1" };
const b = { nodeId: "", address: "b:1" };

describe("Remotes", () => {
  it("prefers the manager that answers, and still tries the other once in a while", () => {
    const remotes = new Remotes([a, b]);
    for (let i = 0; i < 5; i++) remotes.observe(a, "good");
    for (let i = 0; i < 5; i++) remotes.observe(b, "bad");
    const random = seededRandom(1);
    const picks = Array.from({ length: 200 }, () => remotes.pick(random)?.address);
    assert.ok(picks.filter((address) => address === "a:1").length > 190);
  });
  it("forgets who is not named by the managers, but never all", () => {
    const remotes = new Remotes([a, b]);
    remotes.replace([
      create(WeightedPeerSchema, { peer: { nodeId: "x", addr: "b:1" }, weight: 10n }),
      create(WeightedPeerSchema, { peer: { addr: "" } }),
    ]);
    assert.deepEqual(remotes.list(), [{ nodeId: "x", address: "b:1" }]);
    remotes.observe(a, "good");
    remotes.replace([]);
    assert.deepEqual(remotes.list(), [{ nodeId: "x", address: "b:1" }]);
    assert.equal(new Remotes([]).pick(seededRandom(1)), undefined);
  });
});
