// docker pull through a real registry (Debian's docker-registry) on a lab host's loopback: progress, digests, errors.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { command, eventually, type TestLab, withLab } from "../support/lab.ts";

const home = fileURLToPath(new URL("../..", import.meta.url)).replace(/\/$/, "");
const port = 5000;

/** Runs docker-registry inside host 1's namespace, listening on its loopback. */
async function withRegistry(lab: TestLab, body: () => Promise<void>): Promise<void> {
  const directory = await mkdtemp(join(tmpdir(), "weft-registry-"));
  await writeFile(
    join(directory, "config.yml"),
    `version: 0.1\nlog: {level: error}\nstorage: {filesystem: {rootdirectory: ${directory}/data}}\nhttp: {addr: "127.0.0.1:${port}"}\n`,
  );
  const binary = (
    await command([
      "sh",
      "-c",
      `command -v docker-registry || echo ${home}/.weft/tools/registry/usr/bin/docker-registry`,
    ])
  ).stdout.trim();
  const child = spawn(
    "nsenter",
    [`--net=/run/netns/${lab.host(1).namespace}`, binary, "serve", join(directory, "config.yml")],
    { stdio: "ignore" },
  );
  try {
    await eventually(
      "the registry answers",
      10_000,
      async () => (await lab.inHost(1, "curl", "-s", "-o", "/dev/null", `http://127.0.0.1:${port}/v2/`)).code === 0,
    );
    await body();
  } finally {
    child.kill("SIGKILL");
    await rm(directory, { recursive: true, force: true });
  }
}

/** Uploads one blob with curl from inside the host; returns its descriptor's digest. */
async function pushBlob(lab: TestLab, repository: string, bytes: Buffer): Promise<string> {
  const digest = `sha256:${createHash("sha256").update(bytes).digest("hex")}`;
  const file = join(tmpdir(), `weft-blob-${digest.slice(7, 19)}`);
  await writeFile(file, bytes);
  try {
    const start = await lab.inHost(
      1,
      "curl",
      "-s",
      "-D",
      "-",
      "-o",
      "/dev/null",
      "-X",
      "POST",
      `http://127.0.0.1:${port}/v2/${repository}/blobs/uploads/`,
    );
    const location = /^location: (\S+)/im.exec(start.stdout)?.[1] ?? "";
    const put = await lab.inHost(
      1,
      "curl",
      "-s",
      "-o",
      "/dev/null",
      "-w",
      "%{http_code}",
      "-X",
      "PUT",
      "-H",
      "Content-Type: application/octet-stream",
      "--data-binary",
      `@${file}`,
      `${location}${location.includes("?") ? "&" : "?"}digest=${digest}`,
    );
    assert.equal(put.stdout, "201");
  } finally {
    await rm(file);
  }
  return digest;
}

/** The toolbox with one more file, so that no layer of it is on the host already. */
async function uniqueLayer(): Promise<Buffer> {
  const directory = await mkdtemp(join(tmpdir(), "weft-layer-"));
  try {
    await writeFile(join(directory, "unique"), "for the registry test\n");
    const made = await command([
      "sh",
      "-c",
      `cp ${home}/.weft/toolbox.tar ${directory}/layer.tar && tar -C ${directory} -rf ${directory}/layer.tar unique`,
    ]);
    assert.equal(made.code, 0, made.output);
    return await readFile(join(directory, "layer.tar"));
  } finally {
    await rm(directory, { recursive: true });
  }
}

async function pushImage(lab: TestLab, repository: string, tag: string): Promise<string> {
  const layer = await uniqueLayer();
  const packed = gzipSync(layer, { level: 1 });
  const config = Buffer.from(
    JSON.stringify({
      architecture: "amd64",
      os: "linux",
      config: { Cmd: ["sh"], Env: ["FROM=registry"] },
      rootfs: { type: "layers", diff_ids: [`sha256:${createHash("sha256").update(layer).digest("hex")}`] },
    }),
  );
  const manifest = JSON.stringify({
    schemaVersion: 2,
    mediaType: "application/vnd.docker.distribution.manifest.v2+json",
    config: {
      mediaType: "application/vnd.docker.container.image.v1+json",
      size: config.length,
      digest: await pushBlob(lab, repository, config),
    },
    layers: [
      {
        mediaType: "application/vnd.docker.image.rootfs.diff.tar.gzip",
        size: packed.length,
        digest: await pushBlob(lab, repository, packed),
      },
    ],
  });
  const put = await lab.inHost(
    1,
    "curl",
    "-s",
    "-o",
    "/dev/null",
    "-w",
    "%{http_code}",
    "-X",
    "PUT",
    "-H",
    "Content-Type: application/vnd.docker.distribution.manifest.v2+json",
    "-d",
    manifest,
    `http://127.0.0.1:${port}/v2/${repository}/manifests/${tag}`,
  );
  assert.equal(put.stdout, "201");
  return `sha256:${createHash("sha256").update(manifest).digest("hex")}`;
}

test("images from a registry", async (t) => {
  await withLab("wreg", 1, async (lab) => {
    await withRegistry(lab, async () => {
      const name = `127.0.0.1:${port}/team/tool`;
      const digest = await pushImage(lab, "team/tool", "v1");

      await t.test("pull shows its progress and the digest, and the image runs", async () => {
        const pulled = await lab.ok(1, "pull", `${name}:v1`);
        assert.match(pulled, /v1: Pulling from team\/tool/);
        assert.match(pulled, /Pull complete/);
        assert.ok(pulled.includes(`Digest: ${digest}`), pulled);
        assert.ok(pulled.includes(`Status: Downloaded newer image for ${name}:v1`), pulled);
        assert.equal(await lab.ok(1, "run", "--rm", `${name}:v1`, "sh", "-c", "echo $FROM"), "registry");
      });
      await t.test("a second pull finds it up to date; run by digest finds it too", async () => {
        assert.ok((await lab.ok(1, "pull", `${name}:v1`)).includes(`Status: Image is up to date for ${name}:v1`));
        assert.equal(await lab.ok(1, "run", "--rm", `${name}@${digest}`, "echo", "by-digest"), "by-digest");
        assert.equal(await lab.ok(1, "inspect", "-f", "{{index .RepoDigests 0}}", `${name}:v1`), `${name}@${digest}`);
      });
      await t.test("run pulls what is missing", async () => {
        await lab.ok(1, "rmi", `${name}:v1`);
        assert.match(
          (await lab.docker(1, "run", "--rm", `${name}:v1`, "true")).output,
          /Unable to find image .* locally[\s\S]*Status: Downloaded newer image/,
        );
      });
      await t.test("errors are Docker's", async () => {
        assert.match(
          (await lab.docker(1, "pull", `${name}:nope`)).output,
          new RegExp(`manifest for ${name}:nope not found: manifest unknown`),
        );
        assert.match(
          (await lab.docker(1, "pull", `127.0.0.1:${port}/no/such`)).output,
          /not found|repository does not exist/,
        );
        assert.match((await lab.docker(1, "pull", "127.0.0.1:5999/x:1")).output, /connection refused/);
      });
    });
  });
});

test("images: tag, list, remove, import, load", async () => {
  await withLab("wimg", 1, async (lab) => {
    await lab.ok(1, "tag", "toolbox:latest", "other/name:v2");
    const rows = await lab.ok(1, "images", "--format", "{{.Repository}}:{{.Tag}} {{.ID}}");
    const ids = rows.split("\n").map((row) => row.split(" ")[1]);
    assert.equal(new Set(ids).size, 1);
    await lab.ok(1, "create", "--name", "user", "other/name:v2");
    assert.match((await lab.docker(1, "rmi", ids[0] ?? "")).output, /conflict/);
    assert.match(await lab.ok(1, "rmi", "other/name:v2"), /Untagged: other\/name:v2/);
    await lab.ok(1, "rm", "user");
    assert.equal(await lab.ok(1, "run", "--rm", "toolbox", "echo", "kept"), "kept");
    const imported = await lab.ok(
      1,
      "import",
      "--change",
      'ENTRYPOINT ["echo","imported"]',
      "--change",
      "ENV A=b",
      `${home}/.weft/toolbox.tar`,
      "made:here",
    );
    assert.match(imported, /^sha256:[0-9a-f]{64}$/);
    assert.equal(await lab.ok(1, "run", "--rm", "made:here", "ran"), "imported ran");
    assert.match((await lab.docker(1, "load", "-i", `${home}/package.json`)).output, /[Ee]rror|invalid|unexpected/);
  });
});
