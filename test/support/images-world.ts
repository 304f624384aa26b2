import { execFileSync, spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { pack } from "tar-stream";
import { systemClock } from "../../src/base/clock.ts";
import { silentLog } from "../../src/base/log.ts";
import { systemRandom } from "../../src/base/random.ts";
import { type Containerd, openContainerd, startContainerd } from "../../src/engine/containerd/mod.ts";
import { type ImagesDeps, openImages } from "../../src/engine/images/mod.ts";
import type { EngineEvent, Images, Progress } from "../../src/engine/mod.ts";

export const never = new AbortController().signal;

/** A containerd of its own under /tmp/wi-*, and images over it. */
export interface ImagesWorld extends AsyncDisposable {
  readonly root: string;
  readonly socketPath: string;
  readonly images: Images;
  readonly containerd: Containerd;
  readonly events: EngineEvent[];
  /** Lets go of the images and opens them again, as a restart of the daemon does. */
  reopen(): Promise<void>;
  /** Digests in the content store, names of the snapshots. */
  contents(): Promise<{ blobs: string[]; snapshots: string[]; records: string[]; leases: number }>;
}

export async function openImagesWorld(options: Partial<ImagesDeps> = {}): Promise<ImagesWorld> {
  const root = mkdtempSync("/tmp/wi-");
  const stack = new AsyncDisposableStack();
  stack.defer(() => removeTree(root));
  try {
    const process = await startContainerd(
      { root: join(root, "containerd"), state: join(root, "run"), log: silentLog, clock: systemClock },
      never,
    );
    stack.defer(() => process.stop());
    const containerd = stack.use(openContainerd({ socketPath: process.socketPath, namespace: "weft" }));
    const deps = { containerd, clock: systemClock, random: systemRandom, log: silentLog, certsDir: root, ...options };
    const events: EngineEvent[] = [];
    let images = await openImages(deps, never);
    images.events((event) => events.push(event));
    stack.defer(() => images[Symbol.asyncDispose]());
    return {
      root,
      socketPath: process.socketPath,
      containerd,
      events,
      get images() {
        return images;
      },
      async reopen() {
        await images[Symbol.asyncDispose]();
        images = await openImages(deps, never);
        images.events((event) => events.push(event));
      },
      async contents() {
        const blobs: string[] = [];
        for await (const { info } of containerd.content.list({})) blobs.push(...info.map(({ digest }) => digest));
        const snapshots: string[] = [];
        for await (const { info } of containerd.snapshots.list({ snapshotter: "overlayfs" })) {
          snapshots.push(...info.map(({ name }) => name));
        }
        const { images: records } = await containerd.images.list({});
        const { leases } = await containerd.leases.list({});
        return { blobs, snapshots, records: records.map(({ name }) => name).sort(), leases: leases.length };
      },
      [Symbol.asyncDispose]: () => stack.disposeAsync(),
    };
  } catch (error) {
    await stack.disposeAsync();
    throw error;
  }
}

/** Also what is still mounted below it. */
function removeTree(root: string): void {
  const mounts = readFileSync("/proc/self/mounts", "utf8").split("\n");
  const below = mounts.map((line) => line.split(" ")[1] ?? "").filter((path) => path.startsWith(`${root}/`));
  for (const path of below.reverse()) execFileSync("umount", ["-l", path]);
  rmSync(root, { recursive: true, force: true });
}

/** Debian's docker-registry on a free port of the loopback. */
export interface Registry extends AsyncDisposable {
  readonly host: string;
  readonly url: string;
}

export async function startRegistry(
  directory: string,
  options: { readonly users?: Readonly<Record<string, string>> } = {},
): Promise<Registry> {
  const port = await freePort();
  mkdirSync(directory, { recursive: true });
  const lines = [
    "version: 0.1",
    "log: {level: error}",
    `storage: {filesystem: {rootdirectory: ${directory}/data}}`,
    `http: {addr: "127.0.0.1:${port}"}`,
  ];
  if (options.users !== undefined) {
    const entries = Object.entries(options.users).map(([user, password]) => `${user}:${bcrypt(password)}`);
    writeFileSync(join(directory, "htpasswd"), `${entries.join("\n")}\n`);
    lines.push(`auth: {htpasswd: {realm: test, path: ${directory}/htpasswd}}`);
  }
  writeFileSync(join(directory, "config.yml"), `${lines.join("\n")}\n`);
  const child = spawn("docker-registry", ["serve", join(directory, "config.yml")], { stdio: "ignore" });
  const url = `http://127.0.0.1:${port}`;
  for (let i = 0; i < 200; i++) {
    const answer = await fetch(`${url}/v2/`).catch(() => undefined);
    await answer?.arrayBuffer();
    if (answer !== undefined) break;
    await systemClock.sleep(25, never);
  }
  return {
    host: `127.0.0.1:${port}`,
    url,
    async [Symbol.asyncDispose]() {
      const ended = new Promise((resolve) => child.once("exit", resolve));
      child.kill("SIGKILL");
      await ended;
    },
  };
}

/** The C library's own crypt, through perl, which every Debian has. */
function bcrypt(password: string): string {
  const script = "print crypt($ARGV[0], q{$2b$04$4c8AqPzwQDr6wqQw/xBS.O})";
  return execFileSync("perl", ["-e", script, password], { encoding: "utf8" });
}

export async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  if (address === null || typeof address === "string") throw new TypeError("no port");
  return address.port;
}

/** An image made here: layers are tars of the given files. */
export interface TestImage {
  readonly id: string;
  readonly config: Buffer;
  readonly layers: readonly { readonly blob: Buffer; readonly digest: string; readonly diffId: string }[];
  readonly manifest: Buffer;
  readonly manifestDigest: string;
}

export async function makeImage(
  layerFiles: readonly Readonly<Record<string, string | Buffer>>[],
  options: { readonly labels?: Readonly<Record<string, string>>; readonly architecture?: string } = {},
): Promise<TestImage> {
  const layers = await Promise.all(
    layerFiles.map(async (files) => {
      const tar = await makeTar(files);
      const blob = gzipSync(tar, { level: 1 });
      return { blob, digest: digestOf(blob), diffId: digestOf(tar) };
    }),
  );
  const config = Buffer.from(
    JSON.stringify({
      architecture: options.architecture ?? "amd64",
      os: "linux",
      created: "2026-01-02T03:04:05.678901234Z",
      config: { Cmd: ["/hello"], Env: ["A=b"], Labels: options.labels ?? {}, ExposedPorts: { "80/tcp": {} } },
      rootfs: { type: "layers", diff_ids: layers.map(({ diffId }) => diffId) },
    }),
  );
  const manifest = Buffer.from(
    JSON.stringify({
      schemaVersion: 2,
      mediaType: "application/vnd.oci.image.manifest.v1+json",
      config: { mediaType: "application/vnd.oci.image.config.v1+json", digest: digestOf(config), size: config.length },
      layers: layers.map(({ blob, digest }) => ({
        mediaType: "application/vnd.oci.image.layer.v1.tar+gzip",
        digest,
        size: blob.length,
      })),
    }),
  );
  return { id: digestOf(config), config, layers, manifest, manifestDigest: digestOf(manifest) };
}

export async function makeTar(files: Readonly<Record<string, string | Buffer>>): Promise<Buffer> {
  const tar = pack();
  for (const [name, content] of Object.entries(files)) tar.entry({ name, mtime: new Date(0) }, content);
  tar.finalize();
  const chunks: Buffer[] = [];
  for await (const chunk of tar as unknown as AsyncIterable<Buffer>) chunks.push(chunk);
  return Buffer.concat(chunks);
}

export function digestOf(bytes: Uint8Array): string {
  return `sha256:${createHash("sha256").update(bytes).digest("hex")}`;
}

/** Puts an image into a registry and gives it a tag. */
export async function push(
  registry: Registry,
  image: TestImage,
  target: { readonly repository: string; readonly tag: string; readonly authorization?: string },
): Promise<void> {
  const headers = target.authorization === undefined ? {} : { authorization: target.authorization };
  for (const blob of [image.config, ...image.layers.map((layer) => layer.blob)]) {
    const start = await fetch(`${registry.url}/v2/${target.repository}/blobs/uploads/`, { method: "POST", headers });
    await start.arrayBuffer();
    const location = new URL(start.headers.get("location") ?? "", registry.url);
    location.searchParams.set("digest", digestOf(blob));
    await expectOk(
      await fetch(location, {
        method: "PUT",
        headers: { ...headers, "content-type": "application/octet-stream" },
        body: new Uint8Array(blob),
      }),
    );
  }
  await pushManifest(registry, image.manifest, {
    ...target,
    mediaType: "application/vnd.oci.image.manifest.v1+json",
  });
}

export async function pushManifest(
  registry: Registry,
  manifest: Buffer,
  target: {
    readonly repository: string;
    readonly tag: string;
    readonly mediaType: string;
    readonly authorization?: string;
  },
): Promise<void> {
  const headers = target.authorization === undefined ? {} : { authorization: target.authorization };
  await expectOk(
    await fetch(`${registry.url}/v2/${target.repository}/manifests/${target.tag}`, {
      method: "PUT",
      headers: { ...headers, "content-type": target.mediaType },
      body: new Uint8Array(manifest),
    }),
  );
}

async function expectOk(answer: Response): Promise<void> {
  const body = await answer.text();
  if (!answer.ok) throw new Error(`the registry refused: ${answer.status} ${body}`);
}

/** Progress as lines, `id: status` like `docker pull` without a terminal. */
export function lines(progress: readonly Progress[]): string[] {
  return progress
    .filter(({ currentBytes }) => currentBytes === undefined)
    .map(({ id, status, stream }) => (id === undefined ? "" : `${id}: `) + (status ?? stream?.trimEnd() ?? ""));
}
