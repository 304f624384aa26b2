// kill -9 behind every step of pull, load, import and remove; afterwards nothing is left over and the same call succeeds.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { createReadStream, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { fileURLToPath } from "node:url";
import { gunzipSync } from "node:zlib";
import {
  type ImagesWorld,
  makeImage,
  makeTar,
  never,
  openImagesWorld,
  push,
  type Registry,
  startRegistry,
} from "../support/images-world.ts";

const child = fileURLToPath(new URL("../support/images-crash-child.ts", import.meta.url));
const steps = [
  "content.write",
  "content.write@3",
  "snapshot.prepare",
  "diff.apply@2",
  "snapshot.commit",
  "image.config",
  "image.manifest",
  "image.ensure",
  "image.ensure@2",
];

describe("images after kill -9", { timeout: 120_000 }, () => {
  let world: ImagesWorld;
  let registry: Registry;
  const stack = new AsyncDisposableStack();

  before(async () => {
    world = stack.use(await openImagesWorld());
    registry = stack.use(await startRegistry(join(world.root, "registry")));
  });
  after(() => stack.disposeAsync());

  /** Whether it was killed. */
  async function run(act: string, what: string, crashAfter: string): Promise<boolean> {
    const env = { ...process.env, WEFT_CRASH_AFTER: crashAfter };
    const running = spawn(process.execPath, [child, world.socketPath, act, what], {
      env,
      stdio: ["ignore", "ignore", "inherit"],
    });
    return await new Promise((resolve, reject) => {
      running.once("error", reject);
      running.once("exit", (code, signal) => {
        if (code === 0 || signal === "SIGKILL") resolve(signal === "SIGKILL");
        else reject(new Error(`${act} ended with ${code ?? signal}`));
      });
    });
  }

  /** What may be there: whole images only, each with its anchor, and nothing that no image needs. */
  async function assertConverged(what: string): Promise<void> {
    await world.reopen();
    const { blobs, snapshots, records, leases } = await world.contents();
    assert.equal(leases, 0, what);
    const images = await world.images.list();
    const needed = await Promise.all(images.map(({ id }) => world.images.find(id)));
    assert.equal(
      blobs.length,
      needed.reduce((sum, { diffIds }) => sum + diffIds.length + 2, 0),
      what,
    );
    assert.equal(
      snapshots.length,
      needed.reduce((sum, { diffIds }) => sum + diffIds.length, 0),
      what,
    );
    for (const { id } of images) assert.ok(records.includes(id), what);
  }

  async function removeAll(): Promise<void> {
    for (const { id } of await world.images.list()) {
      await world.images.remove(id, { force: true, noPrune: false, usedBy: () => [] });
    }
  }

  it("converges from every step of a pull", async () => {
    const image = await makeImage([{ a: "1" }, { b: "2" }]);
    await push(registry, image, { repository: "crash", tag: "1" });
    const name = `${registry.host}/crash:1`;
    for (const step of [...steps, "image.ensure@3"]) {
      assert.equal(await run("pull", name, step), true, `${step} was not reached`);
      await assertConverged(step);
      await world.images.pull(name, { progress: () => {} }, never);
      assert.equal((await world.images.find(name)).id, image.id);
      await assertConverged(`${step}, again`);
      await removeAll();
      assert.deepEqual((await world.contents()).blobs, [], step);
    }
  });

  it("converges from steps of load, import and remove", async () => {
    const image = await makeImage([{ c: "3" }]);
    const archive = join(world.root, "load.tar");
    const layer = image.layers[0];
    assert.ok(layer !== undefined);
    writeFileSync(
      archive,
      await makeTar({
        "layer.tar": gunzipSync(layer.blob),
        "config.json": image.config,
        "manifest.json": JSON.stringify([{ Config: "config.json", RepoTags: ["crash:load"], Layers: ["layer.tar"] }]),
      }),
    );
    const rootfs = join(world.root, "rootfs.tar");
    writeFileSync(rootfs, await makeTar({ "bin/x": "y" }));
    for (const [act, what, step, survivors] of [
      ["load", archive, "content.write", 0],
      ["load", archive, "snapshot.commit", 0],
      ["load", archive, "image.ensure", 1],
      ["import", rootfs, "import.layer", 0],
      ["import", rootfs, "diff.apply", 0],
      ["import", rootfs, "image.ensure", 1],
      ["remove", "crash:load", "image.remove", 1],
      ["remove", "crash:load", "image.remove@2", 0],
    ] as const) {
      await removeAll();
      if (act === "remove") await world.images.load(createReadStream(archive), () => {}, never);
      assert.equal(await run(act, what, step), true, `${act} ${step} was not reached`);
      await assertConverged(`${act} ${step}`);
      assert.equal((await world.images.list()).length, survivors, `${act} ${step}`);
    }
  });
});
