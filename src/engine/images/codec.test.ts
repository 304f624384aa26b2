import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import {
  chainIds,
  DocumentError,
  decodeConfig,
  decodeManifest,
  digestOf,
  encodeManifest,
  maxManifestBytes,
  mediaTypes,
} from "./codec.ts";

const bytes = (json: unknown) => new TextEncoder().encode(JSON.stringify(json));
const descriptor = (fill: string, mediaType: string) => ({
  mediaType,
  digest: `sha256:${fill.repeat(64)}`,
  sizeBytes: 5,
  annotations: {},
});

describe("chainIds()", () => {
  it("agrees with the image specification", () => {
    const [a, b, c] = ["a", "b", "c"].map((fill) => `sha256:${fill.repeat(64)}`) as [string, string, string];
    const second = digestOf(`${a} ${b}`);
    assert.deepEqual(chainIds([a, b, c]), [a, second, digestOf(`${second} ${c}`)]);
    // sha256("sha256:aa… sha256:bb…"), computed with sha256sum
    assert.equal(second, "sha256:ccd722928bd92476ba1745586fed6e45a102504185ad88cd89e01ff116fd146c");
    assert.deepEqual(chainIds([]), []);
  });
});

describe("decodeManifest()", () => {
  it("gives back what encodeManifest() wrote", () => {
    const config = descriptor("1", mediaTypes.ociConfig);
    const layers = [descriptor("2", mediaTypes.ociLayer), descriptor("3", mediaTypes.ociLayerZstd)];
    const manifest = decodeManifest(encodeManifest(config, layers), undefined);
    assert.deepEqual(manifest, { kind: "manifest", mediaType: mediaTypes.ociManifest, config, layers });
  });

  it("tells an index by its content, whatever the header says", () => {
    const entry = {
      mediaType: mediaTypes.dockerManifest,
      digest: `sha256:${"4".repeat(64)}`,
      size: 7,
      platform: { os: "linux", architecture: "arm", variant: "v7" },
    };
    const index = decodeManifest(bytes({ schemaVersion: 2, manifests: [entry] }), mediaTypes.dockerManifest);
    assert.equal(index.kind, "index");
    assert.ok(index.kind === "index" && index.manifests[0]?.variant === "v7");
  });

  it("refuses what it cannot trust", () => {
    const good = { digest: `sha256:${"1".repeat(64)}`, size: 1 };
    const cases: unknown[] = [
      null,
      [],
      {},
      { schemaVersion: 1 },
      { schemaVersion: 2, config: { ...good, digest: "sha256:1" } },
      { schemaVersion: 2, config: { ...good, digest: `sha512:${"1".repeat(128)}` } },
      { schemaVersion: 2, config: { ...good, size: -1 } },
      { schemaVersion: 2, config: good, layers: [{}] },
      { schemaVersion: 2, manifests: [{ ...good, size: 1.5 }] },
    ];
    for (const json of cases) assert.throws(() => decodeManifest(bytes(json), undefined), DocumentError);
    assert.throws(() => decodeManifest(new Uint8Array(maxManifestBytes + 1), undefined), DocumentError);
  });

  it("is total over any bytes and any JSON", () => {
    const input = fc.oneof(
      fc.uint8Array(),
      fc.json().map((text) => new TextEncoder().encode(text)),
    );
    fc.assert(
      fc.property(input, (data) => {
        for (const decode of [() => decodeManifest(data, undefined), () => decodeConfig(data)]) {
          try {
            decode();
          } catch (error) {
            assert.ok(error instanceof DocumentError, String(error));
          }
        }
      }),
    );
  });
});

describe("decodeConfig()", () => {
  it("takes nulls as absent, as Go writes them", () => {
    const config = decodeConfig(
      bytes({
        os: "linux",
        config: { Cmd: null, Env: null, Labels: null, ExposedPorts: { "80/tcp": {} } },
        rootfs: null,
      }),
    );
    assert.deepEqual(config.config.exposedPorts, ["80/tcp"]);
    assert.equal(config.config.command, undefined);
    assert.deepEqual(config.diffIds, []);
  });
});
