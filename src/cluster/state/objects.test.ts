import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { create } from "@bufbuild/protobuf";
import { systemClock } from "../../base/clock.ts";
import { aesSeal, MemoryStore } from "../../store/mod.ts";
import { ClusterSchema, NodeSchema } from "../../wire/gen/swarm_objects_pb.ts";
import { checkVersion, ObjectStore } from "./objects.ts";

const open = (store: MemoryStore) =>
  ObjectStore.load({ store, seal: aesSeal(new Uint8Array(32).fill(7)), clock: systemClock });
const node = (id: string) => create(NodeSchema, { id });

describe("ObjectStore", () => {
  it("shows a write to readers once it is stored, with a growing version and its creation time kept", async () => {
    const objects = await open(new MemoryStore());
    await objects.write((draft) => draft.put("node", node("a")));
    const first = objects.get("node", "a");
    await objects.write((draft) => draft.put("node", node("a")));
    const second = objects.get("node", "a");
    assert.equal(first?.meta?.version?.index, 1n);
    assert.equal(second?.meta?.version?.index, 2n);
    assert.deepEqual(second?.meta?.createdAt, first?.meta?.createdAt);
  });

  it("stores writes of one burst together, and leaves out those that throw", async () => {
    const store = new MemoryStore();
    const objects = await open(store);
    const seen: number[] = [];
    objects.changes.listen((changes) => seen.push(changes.length));
    const results = await Promise.allSettled([
      objects.write((draft) => draft.put("node", node("a"))),
      objects.write((draft) => {
        draft.put("node", node("b"));
        throw new Error("no");
      }),
      objects.write((draft) => {
        assert.equal(draft.list("node").length, 1);
        draft.put("node", node("c"));
        draft.delete("node", "a");
      }),
    ]);
    assert.deepEqual(
      results.map((r) => r.status),
      ["fulfilled", "rejected", "fulfilled"],
    );
    assert.deepEqual(
      objects.list("node").map((n) => n.id),
      ["c"],
    );
    assert.deepEqual(seen, [2]);
  });

  it("is the same after a restart, also its version; secrets are not readable in the store", async () => {
    const store = new MemoryStore();
    const objects = await open(store);
    await objects.write((draft) => {
      draft.put("node", node("a"));
      draft.put("cluster", create(ClusterSchema, { id: "c", rootCa: { joinTokens: { worker: "SWMTKN-planted" } } }));
    });
    for (const { value } of await store.list("")) assert.ok(!Buffer.from(value).includes("SWMTKN-planted"));
    const again = await open(store);
    assert.equal(again.cluster().rootCa?.joinTokens?.worker, "SWMTKN-planted");
    await again.write((draft) => draft.put("node", node("b")));
    assert.equal(again.get("node", "b")?.meta?.version?.index, 2n);
  });

  it("checkVersion() refuses in Docker's words", async () => {
    const objects = await open(new MemoryStore());
    await objects.write((draft) => draft.put("node", node("a")));
    checkVersion(objects.list("node")[0] ?? {}, 1n);
    assert.throws(() => checkVersion(objects.list("node")[0] ?? {}, 2n), /update out of sequence/);
  });
});
