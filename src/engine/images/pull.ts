import type { Clock } from "../../base/clock.ts";
import { EngineError } from "../../base/errors.ts";
import type { Containerd } from "../containerd/mod.ts";
import type { Progress, RegistryAuth } from "../engine.ts";
import { storeDocuments } from "./assemble.ts";
import { type Catalog, findPulled } from "./catalog.ts";
import {
  type ConfigDocument,
  type Descriptor,
  DocumentError,
  decodeConfig,
  decodeManifest,
  type Index,
  type Manifest,
  maxConfigBytes,
  mediaTypes,
  shortDigest,
} from "./codec.ts";
import { DigestMismatch } from "./content.ts";
import { downloadDocument, downloadLayer } from "./download.ts";
import type { Leased, WorkLease } from "./lease.ts";
import { type Platform, platformString, selectPlatform } from "./platform.ts";
import { canonicalString, familiarString, type Reference, repositoryName } from "./reference.ts";
import { openRepository, type RegistryOptions, type Repository } from "./registry/client.ts";
import { pullError } from "./registry/errors.ts";
import type { SharedWork, Slots } from "./transfers.ts";
import type { Unpacker } from "./unpack.ts";

export interface PullDeps {
  readonly containerd: Containerd;
  readonly clock: Clock;
  readonly catalog: Catalog;
  readonly lease: WorkLease;
  readonly unpacker: Unpacker;
  readonly registry: RegistryOptions;
  /** Layers under way, by digest, for all pulls. */
  readonly layers: SharedWork<void, Progress>;
  readonly slots: Slots;
}

export interface PullRequest {
  readonly reference: Reference;
  readonly auth: RegistryAuth | undefined;
  readonly platform: Platform;
  readonly progress: (p: Progress) => void;
}

interface Fetched {
  readonly manifest: Manifest;
  readonly bytes: Uint8Array;
  /** What the tag stands for: the index where there is one. */
  readonly digest: string;
}

/**
 * Brings an image from its registry into containerd and names it. Progress is what `docker pull` prints. Cut off at any
 * point it leaves nothing visible, and what was downloaded serves the next try.
 *
 * @throws {EngineError} in dockerd's words.
 */
export async function pullImage(deps: PullDeps, request: PullRequest, signal: AbortSignal): Promise<void> {
  const { reference } = request;
  try {
    using repository = await openRepository(reference, request.auth, deps.registry, signal);
    await deps.lease.run((leased) => new Pull(deps, request, repository, leased).run(signal));
  } catch (error) {
    signal.throwIfAborted();
    if (error instanceof DigestMismatch || error instanceof DocumentError) {
      throw new EngineError("internal", error.message, { cause: error });
    }
    throw pullError(error, reference);
  }
}

class Pull {
  readonly #deps: PullDeps;
  readonly #request: PullRequest;
  readonly #repository: Repository;
  readonly #leased: Leased;

  constructor(deps: PullDeps, request: PullRequest, repository: Repository, leased: Leased) {
    this.#deps = deps;
    this.#request = request;
    this.#repository = repository;
    this.#leased = leased;
  }

  async run(signal: AbortSignal): Promise<void> {
    const { reference, progress } = this.#request;
    const wanted = reference.digest ?? reference.tag ?? "";
    const digest = reference.digest ?? (await this.#repository.headManifest(wanted, signal));
    const known = digest === undefined ? undefined : await this.#findKnown(digest, signal);
    if (digest !== undefined && known !== undefined) {
      progress({ id: wanted, status: `Pulling from ${reference.path}` });
      await this.#publish(digest, known);
      return;
    }
    const fetched = await this.#fetch(wanted, signal);
    progress({ id: wanted, status: `Pulling from ${reference.path}` });
    const { config, layers } = fetched.manifest;
    const configBytes = await downloadDocument(this.#repository, config, maxConfigBytes, signal);
    const document = decodeConfig(configBytes);
    checkRunnable(config, document, layers);
    await this.#bringLayers(layers, document.diffIds, signal);
    const image = { manifest: fetched.manifest, manifestBytes: fetched.bytes, configBytes };
    const { unpacker, clock } = this.#deps;
    const stored = await storeDocuments(this.#leased, image, { snapshotter: unpacker.snapshotter, clock }, signal);
    await this.#publish(fetched.digest, stored);
  }

  /** The image that was pulled by this digest before, if it is whole and for the platform that is asked for. */
  async #findKnown(
    digest: string,
    signal: AbortSignal,
  ): Promise<{ readonly id: string; readonly target: Descriptor } | undefined> {
    const { catalog, containerd, unpacker } = this.#deps;
    const name = `${repositoryName(this.#request.reference)}@${digest}`;
    if ((await findPulled(containerd, name)) === undefined) return undefined;
    const entry = (await catalog.entries()).find(({ digests }) => digests.includes(name));
    if (entry === undefined) return undefined;
    const { document } = entry;
    if (selectPlatform([[document, true]], this.#request.platform) !== true) return undefined;
    const unpacked = await unpacker.unpackedLayers(this.#leased, document.diffIds, signal);
    return unpacked === document.diffIds.length ? entry : undefined;
  }

  async #publish(digest: string, image: { readonly id: string; readonly target: Descriptor }): Promise<void> {
    const { reference, progress } = this.#request;
    const { catalog } = this.#deps;
    const byDigest = `${repositoryName(reference)}@${digest}`;
    const name = canonicalString(reference);
    const isNew = await catalog.exclusively(async () => {
      const before = (await catalog.entries()).find((entry) => [...entry.tags, ...entry.digests].includes(name));
      await catalog.publish({ id: image.id, target: image.target, names: [name, byDigest] });
      return before?.id !== image.id;
    });
    const familiar = familiarString(reference);
    progress({ status: `Digest: ${digest}` });
    progress({
      status: isNew ? `Status: Downloaded newer image for ${familiar}` : `Status: Image is up to date for ${familiar}`,
    });
  }

  async #fetch(wanted: string, signal: AbortSignal): Promise<Fetched> {
    const fetched = await this.#repository.fetchManifest(wanted, signal);
    refuseSchema1(fetched.contentType);
    const document = decodeManifest(fetched.bytes, fetched.contentType);
    if (document.kind === "manifest") return { manifest: document, bytes: fetched.bytes, digest: fetched.digest };
    const chosen = choose(document, this.#request.platform);
    const inner = await this.#repository.fetchManifest(chosen.digest, signal);
    const manifest = decodeManifest(inner.bytes, chosen.mediaType);
    if (manifest.kind !== "manifest") throw new DocumentError("image index", "an index within an index");
    return { manifest, bytes: inner.bytes, digest: fetched.digest };
  }

  /** Downloads side by side, unpacks from the base up as soon as a layer and all below it are there. */
  async #bringLayers(layers: readonly Descriptor[], diffIds: readonly string[], signal: AbortSignal): Promise<void> {
    const { progress } = this.#request;
    const { unpacker } = this.#deps;
    const have = await unpacker.unpackedLayers(this.#leased, diffIds, signal);
    const stop = new AbortController();
    const all = AbortSignal.any([signal, stop.signal]);
    const ids = layers.map(({ digest }) => shortDigest(digest));
    for (const [i, id] of ids.entries()) progress({ id, status: i < have ? "Already exists" : "Pulling fs layer" });
    // Layers that are unpacked are fetched all the same where their blob has gone: push and save need it.
    const downloads = layers.map((layer, i) => this.#download(layer, i >= have, all));
    for (const download of downloads) download.catch(() => {});
    try {
      for (const [i, layer] of layers.entries()) {
        await downloads[i];
        if (i < have) continue;
        const id = ids[i] as string;
        const totalBytes = layer.sizeBytes;
        progress({ id, status: "Extracting", currentBytes: 0, totalBytes });
        await unpacker.unpack(this.#leased, layer, diffIds.slice(0, i + 1), all);
        progress({ id, status: "Extracting", currentBytes: totalBytes, totalBytes });
        progress({ id, status: "Pull complete" });
      }
    } finally {
      stop.abort(new Error("another layer failed"));
      await Promise.allSettled(downloads);
    }
  }

  async #download(blob: Descriptor, isShown: boolean, signal: AbortSignal): Promise<void> {
    const { layers, slots, clock, containerd } = this.#deps;
    const id = shortDigest(blob.digest);
    const progress = (p: Progress) => {
      if (isShown && !signal.aborted) this.#request.progress({ id, ...p });
    };
    const start = async (report: (p: Progress) => void, stop: AbortSignal) => {
      if (slots.full) report({ status: "Waiting" });
      const download = {
        repository: this.#repository,
        blob,
        clock,
        leased: this.#leased,
        unleased: containerd,
        progress: report,
      };
      await slots.run(() => downloadLayer(download, stop), stop);
      report({ status: "Download complete" });
    };
    await layers.run(blob.digest, start, progress, signal);
  }
}

/** Only what can be unpacked and run: not a chart, an attestation or another artifact that lives in a registry. */
function checkRunnable(config: Descriptor, document: ConfigDocument, layers: readonly Descriptor[]): void {
  if (config.mediaType !== mediaTypes.ociConfig && config.mediaType !== mediaTypes.dockerConfig) {
    // compat: dockerd's words
    throw new EngineError("invalid", `unsupported media type ${config.mediaType}`);
  }
  if (document.diffIds.length !== layers.length) {
    throw new EngineError("invalid", "layers from manifest don't match image configuration");
  }
}

function choose(index: Index, platform: Platform): Descriptor {
  const chosen = selectPlatform(
    index.manifests.map((entry) => [entry, entry] as const),
    platform,
  );
  if (chosen !== undefined) return chosen;
  // compat: dockerd's words
  const message = `no matching manifest for ${platformString(platform)} in the manifest list entries`;
  throw new EngineError("not-found", message);
}

function refuseSchema1(contentType: string | undefined): void {
  if (contentType !== mediaTypes.dockerSchema1 && contentType !== mediaTypes.dockerSchema1Signed) return;
  throw new EngineError(
    "invalid",
    "Docker Image Format v1 and Docker Image manifest version 2, schema 1 are not supported: push the image again with a current version of Docker",
  );
}
