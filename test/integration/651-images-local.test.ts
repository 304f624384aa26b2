// load, import, tag, list and remove over a containerd of our own; the archives are docker's formats.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { Readable } from "node:stream";
import { after, before, describe, it } from "node:test";
import { gunzipSync, gzipSync, zstdCompressSync } from "node:zlib";
import { pack } from "tar-stream";
import type { ContainerRecord, Progress } from "../../src/engine/mod.ts";
import {
  digestOf,
  type ImagesWorld,
  lines,
  makeImage,
  makeTar,
  never,
  openImagesWorld,
  type TestImage,
} from "../support/images-world.ts";

const noUser = { force: false, noPrune: false, usedBy: () => [] };

describe("Images without a registry", { timeout: 60_000 }, () => {
  let world: ImagesWorld;
  const stack = new AsyncDisposableStack();

  before(async () => {
    world = stack.use(await openImagesWorld());
  });
  after(() => stack.disposeAsync());

  async function load(archive: Buffer): Promise<string[]> {
    const progress: Progress[] = [];
    await world.images.load(Readable.from(pieces(archive)), (p) => progress.push(p), never);
    return lines(progress);
  }

  async function importTar(
    archive: Buffer,
    options: { reference?: string; changes?: string[]; message?: string } = {},
  ) {
    const { changes = [], message = "", ...rest } = options;
    return await world.images.import(Readable.from(pieces(archive)), { ...rest, changes, message }, never);
  }

  describe("load()", () => {
    it("takes docker-archives, plain and compressed, with layers of any size", async () => {
      const image = await makeImage([{ "etc/a": "small" }, { big: randomBytes(600_000) }]);
      for (const [i, compress] of [(b: Buffer) => b, gzipSync, zstdCompressSync].entries()) {
        const archive = compress(await dockerArchive(image, [`loaded:v${i}`]));
        assert.deepEqual(await load(archive), [`Loaded image: loaded:v${i}`]);
      }
      const found = await world.images.find("loaded:v0");
      assert.deepEqual(found.repoTags, ["loaded:v0", "loaded:v1", "loaded:v2"]);
      assert.equal(found.id, image.id);
      assert.deepEqual(found.repoDigests, []);
      const { snapshots } = await world.contents();
      assert.ok(snapshots.includes(found.chainId));
    });

    it("says the id where there is no name, and what lost its name", async () => {
      const [one, two] = [await makeImage([{ one: "1" }]), await makeImage([{ two: "2" }])];
      assert.deepEqual(await load(await dockerArchive(one, [])), [`Loaded image ID: ${one.id}`]);
      await load(await dockerArchive(one, ["taken:1"]));
      assert.deepEqual(await load(await dockerArchive(two, ["taken:1"])), [
        `The image taken:1 already exists, renaming the old one with ID ${one.id} to empty string`,
        "Loaded image: taken:1",
      ]);
    });

    it("takes OCI layouts", async () => {
      const image = await makeImage([{ oci: randomBytes(400_000) }]);
      const archive = await ociArchive(image, { "io.containerd.image.name": "docker.io/library/oci:1" });
      assert.deepEqual(await load(archive), ["Loaded image: oci:1"]);
      assert.equal((await world.images.find("oci:1")).id, image.id);
      const bare = await makeImage([{ oci: "bare" }]);
      const nameless = await ociArchive(bare, { "org.opencontainers.image.ref.name": "latest" });
      assert.deepEqual(await load(nameless), [`Loaded image ID: ${bare.id}`]);
    });

    it("refuses what is broken, and changes nothing", async () => {
      const image = await makeImage([{ x: randomBytes(400_000) }]);
      const whole = await dockerArchive(image, ["broken:1"]);
      const damaged = Buffer.from(gzipSync(whole));
      damaged[damaged.length >> 1] = (damaged[damaged.length >> 1] ?? 0) ^ 0xff;
      const other = await makeImage([{ y: "other" }]);
      const swapped: TestImage = { ...image, layers: other.layers };
      const oci = await ociArchive({ ...image, config: Buffer.from("{}") }, {});
      const cases: [string, Buffer, RegExp][] = [
        ["text", Buffer.from("garbage\n"), /unexpected EOF/],
        ["long text", Buffer.from("garbage\n".repeat(200)), /invalid tar header/],
        ["nothing", Buffer.alloc(0), /neither a manifest.json nor an index.json/],
        ["a root file system", await makeTar({ "bin/sh": "x" }), /neither a manifest.json nor an index.json/],
        ["cut off", whole.subarray(0, whole.length >> 1), /unexpected EOF/],
        ["damaged gzip", damaged, /./],
        ["cut gzip", gzipSync(whole).subarray(0, 9000), /unexpected EOF/],
        ["way out", await makeTar({ "../../etc/passwd": "x" }), /leads out of it/],
        ["no JSON", await makeTar({ "manifest.json": "{" }), /invalid manifest.json/],
        ["wrong JSON", await makeTar({ "manifest.json": "[1]" }), /invalid manifest.json/],
        [
          "missing config",
          await makeTar({ "manifest.json": '[{"Config":"c","Layers":[]}]' }),
          /c is named but missing/,
        ],
        ["bad tag", await dockerArchive(image, ["UP:1"]), /must be lowercase/],
        ["other layers", await dockerArchive(swapped, ["broken:1"]), /don't match image configuration/],
        ["fewer layers", await dockerArchive({ ...image, layers: [] }, ["broken:1"]), /expected 1, got 0/],
        ["wrong config", oci, /has another digest|is named but missing/],
      ];
      const before = await world.contents();
      for (const [what, archive, message] of cases) {
        await assert.rejects(load(archive), (error: Error & { code?: string }) => {
          assert.match(error.message, message, what);
          assert.equal(error.code, "invalid", what);
          return true;
        });
      }
      assert.deepEqual(await world.contents(), before);
    });

    it("follows links within the archive", async () => {
      const image = await makeImage([{ z: "linked" }]);
      const layer = image.layers[0];
      assert.ok(layer !== undefined);
      const tar = pack();
      tar.entry({ name: "aaa/layer.tar" }, gunzipSync(layer.blob));
      tar.entry({ name: "bbb/layer.tar", type: "symlink", linkname: "../aaa/layer.tar" });
      tar.entry({ name: "c.json" }, image.config);
      const manifest = [{ Config: "c.json", RepoTags: ["linked:1"], Layers: ["bbb/layer.tar"] }];
      tar.entry({ name: "manifest.json" }, JSON.stringify(manifest));
      tar.finalize();
      const chunks: Buffer[] = [];
      for await (const chunk of tar as unknown as AsyncIterable<Buffer>) chunks.push(chunk);
      assert.deepEqual(await load(Buffer.concat(chunks)), ["Loaded image: linked:1"]);
    });
  });

  describe("import()", () => {
    it("makes an image of a root file system and the changes", async () => {
      const path = join(world.root, "rootfs.tar");
      const tar = await makeTar({ "bin/sh": randomBytes(100_000), "etc/passwd": "root:x:0:0:::\n" });
      execFileSync("sh", ["-c", `cat > ${path}`], { input: tar });
      const changes = ['CMD ["sh"]', "ENV A=1 B='two words'", "EXPOSE 80", "WORKDIR /srv"];
      const plain = await importTar(readFileSync(path), { reference: "made:1", changes });
      assert.match(plain, /^sha256:[a-f0-9]{64}$/);
      const found = await world.images.find("made:1");
      assert.equal(found.id, plain);
      assert.deepEqual(found.config.command, ["sh"]);
      assert.deepEqual(found.config.env, ["A=1", "B=two words"]);
      assert.equal(found.config.workingDirectory, "/srv");
      assert.equal(found.comment, "Imported from -");
      assert.deepEqual(found.diffIds, [digestOf(tar)]);
      const xz = execFileSync("xz", ["-c", path]);
      for (const archive of [gzipSync(tar), zstdCompressSync(tar), xz]) {
        const again = await importTar(archive, { message: "once more" });
        assert.deepEqual((await world.images.find(again)).diffIds, [digestOf(tar)]);
        assert.equal((await world.images.find(again)).comment, "once more");
      }
    });

    it("refuses in dockerd's words, and changes nothing", async () => {
      const before = await world.contents();
      const tar = await makeTar({ a: "b" });
      const zeros = `sha256:${"0".repeat(64)}`;
      await assert.rejects(importTar(tar, { changes: ["FOO x"] }), { message: "FOO is not a valid change command" });
      await assert.rejects(importTar(tar, { reference: `a@${zeros}` }), { message: "cannot import digest reference" });
      await assert.rejects(importTar(Buffer.from("garbage\n")), /unexpected EOF/);
      await assert.rejects(importTar(tar.subarray(0, 700)), /unexpected EOF/);
      assert.deepEqual(await world.contents(), before);
    });
  });

  describe("tag(), find(), remove()", () => {
    it("finds by name, id and prefix, and says what it did not find", async () => {
      const id = await importTar(await makeTar({ find: "me" }), { reference: "find:1" });
      await world.images.tag("find:1", "localhost:5000/other/find");
      for (const term of ["find:1", "docker.io/library/find:1", id, id.slice(7), id.slice(7, 19), id.slice(0, 19)]) {
        assert.equal((await world.images.find(term)).id, id, term);
      }
      const found = await world.images.find("localhost:5000/other/find:latest");
      assert.deepEqual(found.repoTags, ["find:1", "localhost:5000/other/find:latest"]);
      const zeros = `sha256:${"0".repeat(64)}`;
      const missing: [string, string][] = [
        ["nope", "No such image: nope:latest"],
        ["0123456789ab", "No such image: 0123456789ab:latest"],
        [zeros, `No such image: ${zeros}`],
        [`nope@${zeros}`, `No such image: nope@${zeros}`],
        ["bad name", "invalid reference format"],
      ];
      for (const [term, message] of missing) await assert.rejects(world.images.find(term), { message });
    });

    it("refuses names that would be read as something else", async () => {
      const zeros = "0".repeat(64);
      const refusals: [string, string][] = [
        ["sha256:1", "refusing to create an ambiguous tag using digest algorithm as name"],
        [`x@sha256:${zeros}`, "refusing to create a tag with a digest reference"],
        [zeros, `invalid repository name (${zeros}), cannot specify 64-byte hexadecimal strings`],
      ];
      for (const [target, message] of refusals) await assert.rejects(world.images.tag("find:1", target), { message });
      await assert.rejects(world.images.tag("nope", "x"), { message: "No such image: nope:latest" });
    });

    it("takes names off, then the image and what only it needed", async () => {
      const [base, top] = [{ base: "shared" }, { top: "own" }];
      const one = await makeImage([base]);
      const two = await makeImage([base, top]);
      await load(await dockerArchive(one, ["one:1"]));
      await load(await dockerArchive(two, ["two:1", "two:2"]));
      const { chainId } = await world.images.find("two:1");
      await assert.rejects(world.images.remove(two.id, noUser), {
        message: `conflict: unable to delete ${two.id.slice(7, 19)} (must be forced) - image is referenced in multiple repositories`,
      });
      assert.deepEqual(await world.images.remove("two:1", noUser), [{ untagged: "two:1" }]);
      assert.deepEqual(await world.images.remove(two.id.slice(7, 19), noUser), [
        { untagged: "two:2" },
        { deleted: two.id },
        { deleted: chainId },
      ]);
      const { blobs, snapshots } = await world.contents();
      assert.ok(!blobs.includes(two.id) && !blobs.includes(two.layers[1]?.digest ?? ""));
      assert.ok(!snapshots.includes(chainId));
      assert.equal((await world.images.find("one:1")).id, one.id);
      await assert.rejects(world.images.find(two.id), { message: `No such image: ${two.id}` });
    });

    it("keeps what a container uses, unless forced", async () => {
      const id = await importTar(await makeTar({ used: "1" }), { reference: "used:1" });
      const container = { id: "c".repeat(64), state: { kind: "created" } } as ContainerRecord;
      const used = { ...noUser, usedBy: () => [container] };
      const [short, user] = [id.slice(7, 19), "c".repeat(12)];
      await assert.rejects(world.images.remove("used:1", used), {
        message: `conflict: unable to remove repository reference "used:1" (must force) - container ${user} is using its referenced image ${short}`,
      });
      await assert.rejects(world.images.remove(id, used), {
        message: `conflict: unable to delete ${short} (must be forced) - image is being used by stopped container ${user}`,
      });
      const running = {
        ...used,
        force: true,
        usedBy: () => [{ ...container, state: { kind: "running", pid: 1, startedAt: "" } } as ContainerRecord],
      };
      await assert.rejects(world.images.remove(id, running), {
        message: `conflict: unable to delete ${short} (cannot be forced) - image is being used by running container ${user}`,
      });
      assert.deepEqual(await world.images.remove("used:1", running), [{ untagged: "used:1" }]);
      assert.deepEqual((await world.images.find(id)).repoTags, []);
      assert.deepEqual(await world.images.remove(id, { ...used, force: true }), [{ deleted: id }]);
    });

    it("tells of each change", async () => {
      world.events.length = 0;
      const id = await importTar(await makeTar({ told: "1" }), { reference: "told:1" });
      await world.images.tag("told:1", "told:2");
      await world.images.remove("told:1", noUser);
      await world.images.remove("told:2", noUser);
      assert.deepEqual(
        world.events.map((event) => [event.type, event.action, event.id, event.attributes["name"]]),
        [
          ["image", "import", id, "told:1"],
          ["image", "tag", id, "told:2"],
          ["image", "untag", id, id],
          ["image", "untag", id, id],
          ["image", "delete", id, id],
        ],
      );
    });
  });

  it("lists the newest first", async () => {
    const id = await importTar(await makeTar({ newest: "1" }));
    assert.equal((await world.images.list())[0]?.id, id);
  });

  it("adds the anchor of an image that a kill left with its name alone, and drops stale leases", async () => {
    const id = await importTar(await makeTar({ anchor: "1" }), { reference: "anchor:1" });
    await world.containerd.images.delete({ name: id });
    await world.containerd.leases.create({ id: "left-over", labels: { "weft.lease": "images" } });
    await world.reopen();
    assert.ok((await world.contents()).records.includes(id));
    assert.equal((await world.contents()).leases, 0);
    assert.deepEqual(await world.images.remove("anchor:1", noUser).then((r) => r.length), 3);
  });
});

function* pieces(bytes: Buffer): Generator<Buffer> {
  for (let at = 0; at < bytes.length; at += 50_000) yield bytes.subarray(at, at + 50_000);
}

/** As `docker save` of 20.10 writes it. */
async function dockerArchive(image: TestImage, names: readonly string[]): Promise<Buffer> {
  const config = `${image.id.slice(7)}.json`;
  const layers = image.layers.map(({ diffId, blob }) => [`${diffId.slice(7)}/layer.tar`, gunzipSync(blob)] as const);
  const manifest = [{ Config: config, RepoTags: names, Layers: layers.map(([path]) => path) }];
  return await makeTar({
    ...Object.fromEntries(layers),
    [config]: image.config,
    "manifest.json": JSON.stringify(manifest),
  });
}

async function ociArchive(image: TestImage, annotations: Readonly<Record<string, string>>): Promise<Buffer> {
  const path = (digest: string) => `blobs/${digest.replace(":", "/")}`;
  const manifests = [
    {
      mediaType: "application/vnd.oci.image.manifest.v1+json",
      digest: image.manifestDigest,
      size: image.manifest.length,
      annotations,
    },
  ];
  return await makeTar({
    "oci-layout": '{"imageLayoutVersion":"1.0.0"}',
    "index.json": JSON.stringify({ schemaVersion: 2, manifests }),
    [path(image.manifestDigest)]: image.manifest,
    [path(image.id)]: image.config,
    ...Object.fromEntries(image.layers.map(({ digest, blob }) => [path(digest), blob])),
  });
}
