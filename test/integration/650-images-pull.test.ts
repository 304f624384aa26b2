// Pulls from a real registry v2 (Debian's docker-registry) on loopback into a containerd of our own.
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { createServer, type IncomingHttpHeaders, request, type Server } from "node:http";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import type { Progress } from "../../src/engine/mod.ts";
import {
  freePort,
  type ImagesWorld,
  lines,
  makeImage,
  never,
  openImagesWorld,
  push,
  pushManifest,
  type Registry,
  startRegistry,
  type TestImage,
} from "../support/images-world.ts";

const basicUser = `Basic ${Buffer.from("ann:secret").toString("base64")}`;

describe("Images.pull()", { timeout: 60_000 }, () => {
  let world: ImagesWorld;
  let registry: Registry;
  let image: TestImage;
  const stack = new AsyncDisposableStack();

  before(async () => {
    world = stack.use(await openImagesWorld());
    registry = stack.use(await startRegistry(join(world.root, "registry")));
    image = await makeImage([{ "etc/a": "base" }, { "etc/b": randomBytes(300_000) }], { labels: { who: "me" } });
    await push(registry, image, { repository: "lib/box", tag: "1" });
  });
  after(() => stack.disposeAsync());

  async function pull(name: string, signal = never): Promise<Progress[]> {
    const progress: Progress[] = [];
    await world.images.pull(`${registry.host}/${name}`, { progress: (p) => progress.push(p) }, signal);
    return progress;
  }

  it("prints what docker prints and records the image", async () => {
    const printed = lines(await pull("lib/box:1"));
    const ids = image.layers.map(({ digest }) => digest.slice(7, 19));
    assert.deepEqual(printed.slice(0, 3), ["1: Pulling from lib/box", ...ids.map((id) => `${id}: Pulling fs layer`)]);
    for (const id of ids) {
      const own = printed.filter((line) => line.startsWith(id));
      assert.deepEqual(
        own.map((line) => line.slice(14)),
        ["Pulling fs layer", "Verifying Checksum", "Download complete", "Pull complete"],
      );
    }
    assert.deepEqual(printed.slice(-2), [
      `Digest: ${image.manifestDigest}`,
      `Status: Downloaded newer image for ${registry.host}/lib/box:1`,
    ]);

    const found = await world.images.find(`${registry.host}/lib/box:1`);
    assert.equal(found.id, image.id);
    assert.deepEqual(found.repoDigests, [`${registry.host}/lib/box@${image.manifestDigest}`]);
    assert.deepEqual(found.config.command, ["/hello"]);
    assert.deepEqual(found.labels, { who: "me" });
    assert.equal(found.createdAt, "2026-01-02T03:04:05.678901234Z");
    assert.ok(found.sizeBytes >= 300_000 && found.sizeBytes < 400_000, String(found.sizeBytes));
    assert.deepEqual(
      world.events.map(({ action, id, attributes }) => ({ action, id, attributes })),
      [
        {
          action: "pull",
          id: `${registry.host}/lib/box:1`,
          attributes: { who: "me", name: `${registry.host}/lib/box` },
        },
      ],
    );
    const { snapshots, leases } = await world.contents();
    assert.ok(snapshots.includes(found.chainId));
    assert.equal(leases, 0);
  });

  it("says so when there is nothing new, by tag and by digest", async () => {
    assert.deepEqual(lines(await pull("lib/box:1")), [
      "1: Pulling from lib/box",
      `Digest: ${image.manifestDigest}`,
      `Status: Image is up to date for ${registry.host}/lib/box:1`,
    ]);
    const name = `lib/box@${image.manifestDigest}`;
    assert.deepEqual(lines(await pull(name)), [
      `${image.manifestDigest}: Pulling from lib/box`,
      `Digest: ${image.manifestDigest}`,
      `Status: Image is up to date for ${registry.host}/${name}`,
    ]);
  });

  it("takes from an index what fits this machine, and shares the layers it has", async () => {
    const foreign = await makeImage([{ x: "arm" }], { architecture: "s390x" });
    await push(registry, foreign, { repository: "lib/box", tag: "foreign" });
    const index = Buffer.from(
      JSON.stringify({
        schemaVersion: 2,
        mediaType: "application/vnd.oci.image.index.v1+json",
        manifests: [
          { of: foreign, architecture: "s390x" },
          { of: image, architecture: "amd64" },
        ].map(({ of, architecture }) => ({
          mediaType: "application/vnd.oci.image.manifest.v1+json",
          digest: of.manifestDigest,
          size: of.manifest.length,
          platform: { os: "linux", architecture },
        })),
      }),
    );
    await pushManifest(registry, index, {
      repository: "lib/box",
      tag: "multi",
      mediaType: "application/vnd.oci.image.index.v1+json",
    });
    const printed = lines(await pull("lib/box:multi"));
    assert.equal(printed.filter((line) => line.endsWith("Already exists")).length, 2);
    assert.equal((await world.images.find(`${registry.host}/lib/box:multi`)).id, image.id);
    await assert.rejects(
      world.images.pull(`${registry.host}/lib/box:multi`, { platform: "linux/riscv64", progress: () => {} }, never),
      { message: "no matching manifest for linux/riscv64 in the manifest list entries" },
    );
  });

  it("refuses in dockerd's words, and changes nothing", async () => {
    const before = await world.contents();
    const { host } = registry;
    const zeros = `sha256:${"0".repeat(64)}`;
    const refusals: [string, string][] = [
      [`${host}/lib/box:no`, `manifest for ${host}/lib/box:no not found: manifest unknown: manifest unknown`],
      [`${host}/none:no`, `manifest for ${host}/none:no not found: manifest unknown: manifest unknown`],
      [
        `${host}/lib/box@${zeros}`,
        `manifest for ${host}/lib/box@${zeros} not found: manifest unknown: manifest unknown`,
      ],
      [`${host}/UP`, "invalid reference format: repository name (UP) must be lowercase"],
    ];
    for (const [name, message] of refusals) {
      await assert.rejects(world.images.pull(name, { progress: () => {} }, never), { message });
    }
    const port = await freePort();
    await assert.rejects(world.images.pull(`127.0.0.1:${port}/x`, { progress: () => {} }, never), {
      message: `Get "http://127.0.0.1:${port}/v2/": dial tcp 127.0.0.1:${port}: connect: connection refused`,
    });
    assert.deepEqual(await world.contents(), before);
  });

  it("signs in with basic credentials", async () => {
    await using guarded = await startRegistry(join(world.root, "guarded"), { users: { ann: "secret" } });
    await push(guarded, image, { repository: "box", tag: "1", authorization: basicUser });
    const name = `${guarded.host}/box:1`;
    await assert.rejects(world.images.pull(name, { progress: () => {} }, never), {
      message: `Head "http://${guarded.host}/v2/box/manifests/1": no basic auth credentials`,
    });
    const auth = { username: "ann", password: "wrong", identityToken: "", serverAddress: "" };
    await assert.rejects(world.images.pull(name, { auth, progress: () => {} }, never), /unauthorized/);
    await world.images.pull(name, { auth: { ...auth, password: "secret" }, progress: () => {} }, never);
    assert.equal((await world.images.find(name)).id, image.id);
  });

  it("gets a token where the registry sends it to a token server", async () => {
    const asked: URL[] = [];
    await using proxy = await startProxy(registry, {
      answer(url, headers, reply) {
        if (url.pathname === "/token") {
          asked.push(url);
          reply(200, JSON.stringify({ token: `t-${headers.authorization ?? "anonymous"}` }));
          return true;
        }
        if (headers.authorization === "Bearer t-anonymous") return false;
        reply(401, JSON.stringify({ errors: [{ code: "UNAUTHORIZED", message: "authentication required" }] }), {
          "www-authenticate": `Bearer realm="http://${proxy.host}/token",service="test registry"`,
        });
        return true;
      },
    });
    await world.images.pull(`${proxy.host}/lib/box:1`, { progress: () => {} }, never);
    assert.equal(asked[0]?.searchParams.get("scope"), "repository:lib/box:pull");
    assert.equal(asked[0]?.searchParams.get("service"), "test registry");
    const auth = { username: "u", password: "p", identityToken: "", serverAddress: "" };
    await assert.rejects(
      world.images.pull(`${proxy.host}/lib/box:2`, { auth, progress: () => {} }, never),
      /^EngineError: pull access denied for .*\/lib\/box, repository does not exist or may require 'docker login'/,
    );
  });

  it("refuses content that is not what its digest says, and leaves nothing", async () => {
    const fresh = await makeImage([{ evil: randomBytes(200_000) }]);
    await push(registry, fresh, { repository: "evil", tag: "1" });
    await using proxy = await startProxy(registry, {
      body: (url, bytes) => {
        if (!url.pathname.endsWith(fresh.layers[0]?.digest ?? "-")) return bytes;
        bytes[1000] = (bytes[1000] ?? 0) ^ 1;
        return bytes;
      },
    });
    const before = await world.contents();
    await assert.rejects(world.images.pull(`${proxy.host}/evil:1`, { progress: () => {} }, never), {
      message: `filesystem layer verification failed for digest ${fresh.layers[0]?.digest}`,
    });
    assert.deepEqual(await world.contents(), before);
    assert.deepEqual((await world.containerd.content.listStatuses({})).statuses, []);
  });

  it("goes on where a broken download ended", async () => {
    const big = await makeImage([{ big: randomBytes(4 << 20) }]);
    await push(registry, big, { repository: "big", tag: "1" });
    const ranges: (string | undefined)[] = [];
    let cuts = 2;
    await using proxy = await startProxy(registry, {
      observe: (url, headers) => {
        if (url.pathname.includes(big.layers[0]?.digest ?? "-")) ranges.push(headers.range);
      },
      cutAfterBytes: (url) =>
        url.pathname.includes(big.layers[0]?.digest ?? "-") && cuts-- > 0 ? 1_500_000 : undefined,
    });
    await world.images.pull(`${proxy.host}/big:1`, { progress: () => {} }, never);
    assert.equal((await world.images.find(`${proxy.host}/big:1`)).id, big.id);
    assert.equal(ranges.length, 3);
    assert.equal(ranges[0], undefined);
    assert.match(ranges[1] ?? "", /^bytes=1\d{6}-$/);
    assert.match(ranges[2] ?? "", /^bytes=[23]\d{6}-$/);
  });

  it("goes on where a cancelled pull ended, also after a restart", async () => {
    const big = await makeImage([{ big: randomBytes(4 << 20) }]);
    await push(registry, big, { repository: "later", tag: "1" });
    const ranges: (string | undefined)[] = [];
    let stall = true;
    await using proxy = await startProxy(registry, {
      observe: (url, headers) => {
        if (url.pathname.includes(big.layers[0]?.digest ?? "-")) ranges.push(headers.range);
      },
      stallAfterBytes: (url) => (stall && url.pathname.includes(big.layers[0]?.digest ?? "-") ? 2_500_000 : undefined),
    });
    const stop = new AbortController();
    const cancelled = world.images.pull(
      `${proxy.host}/later:1`,
      {
        progress: ({ currentBytes = 0, status }) => {
          if (status === "Downloading" && currentBytes > 1_000_000) stop.abort(new Error("ctrl-c"));
        },
      },
      stop.signal,
    );
    await assert.rejects(cancelled, /ctrl-c/);
    stall = false;
    await world.reopen();
    await world.images.pull(`${proxy.host}/later:1`, { progress: () => {} }, never);
    assert.equal((await world.images.find(`${proxy.host}/later:1`)).id, big.id);
    assert.match(ranges.at(-1) ?? "", /^bytes=[12]\d{6}-$/);
  });

  it("downloads once what several pulls want at the same time", async () => {
    const shared = await makeImage([{ shared: randomBytes(2 << 20) }]);
    await push(registry, shared, { repository: "one", tag: "1" });
    await push(registry, shared, { repository: "one", tag: "2" });
    let fetched = 0;
    await using proxy = await startProxy(registry, {
      observe: (url) => {
        if (url.pathname.includes(shared.layers[0]?.digest ?? "-")) fetched += 1;
      },
    });
    const one = world.images.pull(`${proxy.host}/one:1`, { progress: () => {} }, never);
    const two = world.images.pull(`${proxy.host}/one:2`, { progress: () => {} }, never);
    await Promise.all([one, two]);
    assert.equal(fetched, 1);
    assert.deepEqual((await world.images.find(`${proxy.host}/one:1`)).repoTags, [
      `${proxy.host}/one:1`,
      `${proxy.host}/one:2`,
    ]);
  });

  it("goes on for the others when the pull that began a download is cancelled", async () => {
    const shared = await makeImage([{ kept: randomBytes(3 << 20) }]);
    const layer = shared.layers[0]?.digest ?? "-";
    await push(registry, shared, { repository: "kept", tag: "1" });
    let fetched = 0;
    const gate = Promise.withResolvers<void>();
    await using proxy = await startProxy(registry, {
      observe: (url) => {
        if (url.pathname.includes(layer)) fetched += 1;
      },
      pauseAfterBytes: (url) => (url.pathname.includes(layer) ? 1_500_000 : undefined),
      pause: gate.promise,
    });
    const begun = Promise.withResolvers<void>();
    const joined = Promise.withResolvers<void>();
    const stop = new AbortController();
    const watch = (done: () => void) => ({
      progress: ({ status }: Progress) => {
        if (status === "Downloading") done();
      },
    });
    const one = world.images.pull(`${proxy.host}/kept:1`, watch(begun.resolve), stop.signal);
    one.catch(() => {});
    await begun.promise;
    const two = world.images.pull(`${proxy.host}/kept:1`, watch(joined.resolve), never);
    await joined.promise;
    stop.abort(new Error("ctrl-c"));
    await assert.rejects(one, /ctrl-c/);
    gate.resolve();
    await two;
    assert.equal(fetched, 1);
    assert.equal((await world.images.find(`${proxy.host}/kept:1`)).id, shared.id);
  });

  it("moves a tag and keeps the image that had it", async () => {
    const [first, second] = [await makeImage([{ v: "1" }]), await makeImage([{ v: "2" }])];
    await push(registry, first, { repository: "moving", tag: "latest" });
    await pull("moving");
    await push(registry, second, { repository: "moving", tag: "latest" });
    assert.match(lines(await pull("moving")).at(-1) ?? "", /Downloaded newer image/);
    assert.deepEqual((await world.images.find(first.id)).repoTags, []);
    assert.equal((await world.images.find(`${registry.host}/moving`)).id, second.id);
  });

  it("survives containerd's garbage collection and a restart", async () => {
    const found = await world.images.find(image.id);
    await world.containerd.leases.create({ id: "sweep" });
    await world.containerd.leases.delete({ id: "sweep", sync: true });
    await world.reopen();
    assert.deepEqual(await world.images.find(image.id), found);
    const { blobs, snapshots } = await world.contents();
    for (const { digest } of image.layers) assert.ok(blobs.includes(digest));
    assert.ok(snapshots.includes(found.chainId));
  });
});

interface Tampering {
  readonly answer?: (
    url: URL,
    headers: IncomingHttpHeaders,
    reply: (status: number, body: string, headers?: Record<string, string>) => void,
  ) => boolean;
  readonly observe?: (url: URL, headers: { readonly range?: string | undefined }) => void;
  readonly body?: (url: URL, bytes: Buffer) => Buffer;
  readonly cutAfterBytes?: (url: URL) => number | undefined;
  readonly stallAfterBytes?: (url: URL) => number | undefined;
  readonly pauseAfterBytes?: (url: URL) => number | undefined;
  readonly pause?: Promise<void>;
}

/** Passes requests on to the registry and spoils what comes back. */
async function startProxy(registry: Registry, tampering: Tampering): Promise<{ host: string } & AsyncDisposable> {
  const server: Server = createServer((incoming, outgoing) => {
    const url = new URL(incoming.url ?? "/", registry.url);
    tampering.observe?.(url, incoming.headers);
    const reply = (status: number, body: string, headers: Record<string, string> = {}) => {
      outgoing.writeHead(status, { "content-type": "application/json", ...headers }).end(body);
    };
    if (tampering.answer?.(url, incoming.headers, reply) === true) return;
    const { authorization: _ours, ...headers } = incoming.headers;
    const forward = request(url, { method: incoming.method ?? "GET", headers }, (answer) => {
      const chunks: Buffer[] = [];
      answer.on("data", (chunk: Buffer) => chunks.push(chunk));
      answer.on("end", () => {
        const whole = Buffer.concat(chunks);
        const bytes = tampering.body?.(url, whole) ?? whole;
        outgoing.writeHead(answer.statusCode ?? 500, answer.headers);
        const cut = tampering.cutAfterBytes?.(url);
        const stall = tampering.stallAfterBytes?.(url);
        const pause = tampering.pauseAfterBytes?.(url);
        if (cut !== undefined) outgoing.write(bytes.subarray(0, cut), () => outgoing.socket?.end());
        else if (stall !== undefined) outgoing.write(bytes.subarray(0, stall));
        else if (pause !== undefined) {
          outgoing.write(bytes.subarray(0, pause));
          tampering.pause?.then(
            () => outgoing.end(bytes.subarray(pause)),
            () => outgoing.destroy(),
          );
        } else outgoing.end(bytes);
      });
    });
    forward.end();
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  const port = typeof address === "object" && address !== null ? address.port : 0;
  return {
    host: `127.0.0.1:${port}`,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
