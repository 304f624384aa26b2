import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { systemClock } from "../../src/base/clock.ts";
import { silentLog } from "../../src/base/log.ts";
import {
  type Containerd,
  type ContainerdProcess,
  type ImageDetail,
  openContainerd,
  startContainerd,
} from "../../src/engine/mod.ts";
import { openSqliteStore } from "../../src/store/mod.ts";
import { BareNetworks, cleanUp, makeImage, never, openEngine } from "../support/engine-world.ts";

const skip = process.getuid?.() === 0 ? false : "needs root";

/** Every kind of step, and what a daemon that comes back must find after a kill right behind it. */
const kills: readonly {
  readonly after: string;
  readonly expect: "nothing" | "created" | "running" | "gone" | "maybe";
  readonly scenario?: "rm";
}[] = [
  { after: "snapshot.ensure", expect: "nothing" },
  { after: "files.ensure", expect: "nothing" },
  { after: "volumes.fill", expect: "nothing" },
  { after: "record.write", expect: "created" },
  { after: "record.write@2", expect: "created" },
  { after: "sandbox.prepare", expect: "created" },
  { after: "sandbox.open", expect: "created" },
  { after: "task.ensure", expect: "created" },
  { after: "task.start", expect: "running" },
  { after: "output.drain", expect: "created" },
  { after: "task.remove", expect: "created" },
  { after: "sandbox.close", expect: "created" },
  { after: "snapshot.remove", expect: "gone" },
  { after: "files.remove", expect: "gone" },
  { after: "volumes.remove", expect: "gone" },
  { after: "record.remove", expect: "gone" },
  { after: "task.kill", expect: "created" },
  // --rm, and a successor of the same name: it may or may not be there yet.
  { after: "output.drain", expect: "gone", scenario: "rm" },
  { after: "volumes.remove", expect: "gone", scenario: "rm" },
  { after: "task.kill", expect: "maybe", scenario: "rm" },
  { after: "task.remove", expect: "maybe", scenario: "rm" },
  { after: "snapshot.remove", expect: "maybe", scenario: "rm" },
  { after: "record.remove", expect: "maybe", scenario: "rm" },
];

describe("a daemon killed behind any step converges", { skip, timeout: 120_000 }, () => {
  let root: string;
  let supervisor: ContainerdProcess;
  let containerd: Containerd;
  let image: ImageDetail;
  const stack = new AsyncDisposableStack();

  before(async () => {
    root = mkdtempSync("/tmp/we-");
    stack.defer(() => cleanUp(root));
    const places = { root: join(root, "containerd"), state: join(root, "run") };
    supervisor = await startContainerd({ ...places, log: silentLog, clock: systemClock }, never);
    stack.defer(() => supervisor.stop());
    containerd = stack.use(openContainerd({ socketPath: supervisor.socketPath, namespace: "weft" }));
    image = await makeImage(root, containerd);
    writeFileSync(join(root, "image.json"), JSON.stringify(image));
  });
  after(() => stack.disposeAsync());

  for (const kill of kills) {
    test(`after ${kill.after}${kill.scenario === "rm" ? " with --rm" : ""}: ${kill.expect}`, async () => {
      for (const mark of ["created", "started", "removed"]) rmSync(join(root, mark), { force: true });
      const child = spawnSync(
        process.execPath,
        [join(import.meta.dirname, "../support/engine-crash-child.ts"), root, kill.scenario ?? ""],
        {
          env: { ...process.env, WEFT_CRASH_AFTER: kill.after },
          encoding: "utf8",
        },
      );
      assert.equal(child.signal, "SIGKILL", `the kill point was reached: ${child.stderr}`);

      await using store = await openSqliteStore({ path: join(root, "store.db"), log: silentLog }, never);
      const networks = new BareNetworks();
      const parts = { root, containerd, image, store, networks };
      const { containers, volumes } = await openEngine(parts);
      try {
        const [record, ...others] = containers.list();
        assert.deepEqual(others, []);
        if (kill.expect === "nothing" || kill.expect === "gone") assert.equal(record, undefined);
        else if (kill.expect === "maybe") assert.notEqual(record?.state.kind, "removing");
        else if (kill.expect === "running") assert.equal(record?.state.kind, "running");
        else assert.notEqual(record?.state.kind ?? "none", "running");
        if (record !== undefined) {
          // Whatever state it was left in, it is a whole container.
          if (record.state.kind !== "running") await containers.start(record.id, never);
          await containers.kill(record.id, "KILL");
          await containers.remove(record.id, { force: false, volumes: true }, never);
        }
        assert.deepEqual((await containerd.tasks.list({})).tasks, []);
        assert.deepEqual((await containerd.containers.list({})).containers, []);
        const keys: string[] = [];
        for await (const { info } of containerd.snapshots.list({ snapshotter: "overlayfs" })) {
          keys.push(...info.map(({ name }) => name));
        }
        assert.deepEqual(keys, [image.chainId]);
        assert.deepEqual(await volumes.list(), []);
        assert.deepEqual(readdirSync(join(root, "data/volumes")), []);
        assert.deepEqual(readdirSync(join(root, "data/containers")), []);
        assert.deepEqual(existsSync(join(root, "exec/fill")) ? readdirSync(join(root, "exec/fill")) : [], []);
      } finally {
        await containers[Symbol.asyncDispose]();
        networks.removeAll();
      }
    });
  }
});
