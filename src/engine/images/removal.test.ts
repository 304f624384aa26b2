import assert from "node:assert/strict";
import { describe, it } from "node:test";
import type { ContainerRecord } from "../model.ts";
import { planRemoval } from "./removal.ts";

const imageId = `sha256:${"ab".repeat(32)}`;
const digest = `sha256:${"0".repeat(64)}`;
const stopped = { id: "d".repeat(64), state: { kind: "exited" } } as ContainerRecord;
const running = { id: "e".repeat(64), state: { kind: "running" } } as ContainerRecord;

function plan(term: string, references: string[], options: { force?: boolean; containers?: ContainerRecord[] } = {}) {
  const { force = false, containers = [] } = options;
  return planRemoval({ imageId, references, term, force, containers });
}

describe("planRemoval()", () => {
  const [one, two, other] = ["docker.io/library/x:1", "docker.io/library/x:2", "docker.io/library/y:1"] as const;
  const byDigest = `docker.io/library/x@${digest}`;

  it("takes one name off where there are others", () => {
    assert.deepEqual(plan("x:1", [one, two]), { untag: [one], deleteImage: false });
    assert.deepEqual(plan("x:1", [one, other], { containers: [running] }), { untag: [one], deleteImage: false });
  });

  it("takes a repository's digests off with its last tag", () => {
    assert.deepEqual(plan("x:1", [one, byDigest]), { untag: [one, byDigest], deleteImage: true });
    assert.deepEqual(plan("x:1", [one, two, byDigest]), { untag: [one], deleteImage: false });
    assert.deepEqual(plan("x:1", [one, other, byDigest]), { untag: [one, byDigest], deleteImage: false });
    assert.deepEqual(plan(`x@${digest}`, [one, byDigest]), { untag: [byDigest], deleteImage: false });
  });

  it("removes by id what has one name at most, or when forced", () => {
    assert.deepEqual(plan("abab", []), { untag: [], deleteImage: true });
    assert.deepEqual(plan("abab", [one, byDigest]), { untag: [one, byDigest], deleteImage: true });
    assert.deepEqual(plan("abab", [one, two], { force: true }), { untag: [one, two], deleteImage: true });
    assert.throws(() => plan("abab", [one, two]), {
      code: "conflict",
      message:
        "conflict: unable to delete abababababab (must be forced) - image is referenced in multiple repositories",
    });
  });

  it("asks for force where a stopped container uses the last name", () => {
    assert.throws(() => plan("x:1", [one], { containers: [stopped] }), {
      message:
        'conflict: unable to remove repository reference "x:1" (must force) - container dddddddddddd is using its referenced image abababababab',
    });
    assert.deepEqual(plan("x:1", [one], { containers: [stopped], force: true }), { untag: [one], deleteImage: true });
  });

  it("never deletes what runs; a name may go", () => {
    assert.throws(() => plan("abab", [one], { containers: [running], force: true }), {
      message:
        "conflict: unable to delete abababababab (cannot be forced) - image is being used by running container eeeeeeeeeeee",
    });
    assert.deepEqual(plan("x:1", [one], { containers: [running], force: true }), { untag: [one], deleteImage: false });
  });
});
