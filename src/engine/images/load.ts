import { z } from "zod";
import type { Clock } from "../../base/clock.ts";
import { EngineError } from "../../base/errors.ts";
import { newHexId } from "../../base/ids.ts";
import type { Random } from "../../base/random.ts";
import type { Progress } from "../engine.ts";
import { type ArchiveEntry, detectCompression, peek, readArchive } from "./archive.ts";
import { configDescriptor, storeDocuments } from "./assemble.ts";
import type { Catalog } from "./catalog.ts";
import {
  type Descriptor,
  DocumentError,
  decodeConfig,
  decodeManifest,
  digestOf,
  encodeManifest,
  type Manifest,
  maxConfigBytes,
  maxManifestBytes,
  mediaTypes,
  parseJson,
  shortDigest,
} from "./codec.ts";
import { coalesce, ensureBlob, openBlob, readBlob, type Stored } from "./content.ts";
import type { Leased, WorkLease } from "./lease.ts";
import { type Platform, selectPlatform } from "./platform.ts";
import { canonicalString, familiarOf, familiarString, parseReference, withDefaultTag } from "./reference.ts";
import type { Unpacker } from "./unpack.ts";

export interface LoadDeps {
  readonly clock: Clock;
  readonly random: Random;
  readonly catalog: Catalog;
  readonly lease: WorkLease;
  readonly unpacker: Unpacker;
  readonly platform: Platform;
}

/** An image as an archive describes it. */
interface ArchivedImage {
  readonly manifest: Manifest;
  readonly manifestBytes: Uint8Array;
  readonly configBytes: Uint8Array;
  readonly names: readonly string[];
  /** Layers so small that they are not in the content store yet. */
  readonly heldLayers: readonly Uint8Array[];
}

/** One file of the archive: small ones are held, others were streamed into the content store. */
type ArchivedFile = Stored & { readonly layerType: string; readonly bytes: Uint8Array | undefined };

/** Documents and legacy metadata; anything larger is a layer (or refused as a document). */
const maxHeldFileBytes = 256 << 10;
const maxHeldBytes = 32 << 20;
const maxLinks = 16;
const maxImages = 1000;

const archiveManifest = z
  .array(
    z.object({ Config: z.string(), RepoTags: z.array(z.string()).nullish(), Layers: z.array(z.string()).nullish() }),
  )
  .max(maxImages);

/**
 * `docker load`: a docker-archive (`manifest.json`) or an OCI layout (`index.json`). Images are published only once all of
 * them are stored and unpacked, so that a bad archive changes nothing. Returns the ids and their names.
 *
 * @throws {EngineError} `invalid`.
 */
export async function loadImages(
  deps: LoadDeps,
  source: AsyncIterable<Uint8Array>,
  progress: (p: Progress) => void,
  signal: AbortSignal,
): Promise<readonly { readonly id: string; readonly names: readonly string[] }[]> {
  try {
    return await deps.lease.run(async (leased) => {
      const files = await readFiles(deps, leased, source, signal);
      const images = await describe(files, leased, deps.platform);
      const stored = [];
      for (const image of images) stored.push(await unpackImage(deps, leased, image, progress, signal));
      for (const image of stored) await publish(deps.catalog, image, progress);
      return stored;
    });
  } catch (error) {
    signal.throwIfAborted();
    if (error instanceof DocumentError) throw new EngineError("invalid", error.message, { cause: error });
    throw error;
  }
}

/** The files of an archive by path, links followed. */
class ArchivedFiles {
  readonly #files = new Map<string, ArchivedFile>();
  readonly #links = new Map<string, string>();

  add(path: string, file: ArchivedFile): void {
    this.#files.set(path, file);
  }

  link(path: string, target: string): void {
    this.#links.set(path, target);
  }

  find(path: string): ArchivedFile | undefined {
    let at = path;
    for (let hops = 0; hops <= maxLinks; hops++) {
      const file = this.#files.get(at);
      if (file !== undefined) return file;
      const target = this.#links.get(at);
      if (target === undefined) return undefined;
      at = target;
    }
    return undefined;
  }

  get(path: string): ArchivedFile {
    const file = this.find(path.replace(/^\.?\//, ""));
    if (file === undefined) throw new EngineError("invalid", `invalid archive: ${path} is named but missing`);
    return file;
  }
}

async function readFiles(
  deps: LoadDeps,
  leased: Leased,
  source: AsyncIterable<Uint8Array>,
  signal: AbortSignal,
): Promise<ArchivedFiles> {
  const files = new ArchivedFiles();
  let heldBytes = 0;
  for await (const entry of readArchive(source, signal)) {
    if (entry.type === "link") {
      files.link(entry.path, entry.target);
    } else if (entry.sizeBytes <= maxHeldFileBytes && heldBytes + entry.sizeBytes <= maxHeldBytes) {
      heldBytes += entry.sizeBytes;
      files.add(entry.path, await hold(entry));
    } else {
      files.add(entry.path, await store(deps, leased, entry, signal));
    }
  }
  return files;
}

async function hold(entry: ArchiveEntry): Promise<ArchivedFile> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of entry.body) chunks.push(chunk);
  const bytes = Buffer.concat(chunks);
  return { bytes, digest: digestOf(bytes), sizeBytes: bytes.length, layerType: layerType(bytes) };
}

async function store(deps: LoadDeps, leased: Leased, entry: ArchiveEntry, signal: AbortSignal): Promise<ArchivedFile> {
  const { head, body } = await peek(entry.body);
  const spec = { ref: `weft-load-${newHexId(deps.random).slice(0, 16)}`, sizeBytes: entry.sizeBytes };
  await using writer = await openBlob(leased.containerd, spec, deps.clock, signal);
  if (writer === undefined) throw new EngineError("conflict", "a write of this name is there already");
  for await (const chunk of coalesce(body, 1 << 20)) await writer.write(chunk);
  return { ...(await writer.commit()), layerType: layerType(head), bytes: undefined };
}

function layerType(head: Uint8Array): string {
  switch (detectCompression(head)) {
    case "gzip":
      return mediaTypes.ociLayerGzip;
    case "zstd":
      return mediaTypes.ociLayerZstd;
    case "none":
    case "xz":
    case "bzip2":
      return mediaTypes.ociLayer;
  }
}

async function describe(files: ArchivedFiles, leased: Leased, platform: Platform): Promise<readonly ArchivedImage[]> {
  const read = async (path: string, maxBytes: number): Promise<Uint8Array> => {
    const file = files.get(path);
    return file.bytes ?? (await readBlob(leased.containerd, file.digest, maxBytes));
  };
  if (files.find("manifest.json") !== undefined) return await describeDocker(files, read);
  if (files.find("index.json") !== undefined) return await describeOci(files, read, platform);
  throw new EngineError("invalid", "invalid archive: it has neither a manifest.json nor an index.json");
}

type ReadFile = (path: string, maxBytes: number) => Promise<Uint8Array>;

async function describeDocker(files: ArchivedFiles, read: ReadFile): Promise<readonly ArchivedImage[]> {
  const json = parseJson("manifest.json", await read("manifest.json", maxManifestBytes), maxManifestBytes);
  const listed = archiveManifest.safeParse(json);
  if (!listed.success) throw new DocumentError("manifest.json", listed.error.issues[0]?.message ?? "malformed");
  const images: ArchivedImage[] = [];
  for (const item of listed.data) {
    const configBytes = await read(item.Config, maxConfigBytes);
    const layerFiles = (item.Layers ?? []).map((path) => files.get(path));
    const layers = layerFiles.map((file) => ({
      mediaType: file.layerType,
      digest: file.digest,
      sizeBytes: file.sizeBytes,
      annotations: {},
    }));
    const config = configDescriptor(configBytes);
    images.push({
      manifest: { kind: "manifest", mediaType: mediaTypes.ociManifest, config, layers },
      manifestBytes: encodeManifest(config, layers),
      configBytes,
      names: (item.RepoTags ?? []).map(canonicalName),
      heldLayers: held(layerFiles),
    });
  }
  return images;
}

async function describeOci(
  files: ArchivedFiles,
  read: ReadFile,
  platform: Platform,
): Promise<readonly ArchivedImage[]> {
  const index = decodeManifest(await read("index.json", maxManifestBytes), mediaTypes.ociIndex);
  if (index.kind !== "index") throw new DocumentError("index.json", "is not an image index");
  const images = new Map<string, ArchivedImage>();
  for (const entry of index.manifests.slice(0, maxImages)) {
    const image = await describeOciImage(entry, files, read, platform);
    if (image === undefined) continue;
    const key = digestOf(image.manifestBytes);
    const names = [...(images.get(key)?.names ?? []), ...ociNames(entry)];
    images.set(key, { ...image, names });
  }
  if (images.size === 0) throw new EngineError("invalid", "invalid archive: it has no image for this platform");
  return [...images.values()];
}

async function describeOciImage(
  entry: Descriptor,
  files: ArchivedFiles,
  read: ReadFile,
  platform: Platform,
): Promise<ArchivedImage | undefined> {
  const bytes = await readOciBlob(entry, read, maxManifestBytes);
  const document = decodeManifest(bytes, entry.mediaType);
  if (document.kind === "index") {
    // An archive of one platform still lists the others.
    const present = document.manifests.filter(({ digest }) => files.find(blobPath(digest)) !== undefined);
    const chosen = selectPlatform(
      present.map((inner) => [inner, inner] as const),
      platform,
    );
    return chosen === undefined ? undefined : await describeOciImage(chosen, files, read, platform);
  }
  const isImage =
    document.config.mediaType === mediaTypes.ociConfig || document.config.mediaType === mediaTypes.dockerConfig;
  if (!isImage) return undefined;
  const layerFiles = document.layers.map((layer) => {
    const file = files.get(blobPath(layer.digest));
    if (file.digest !== layer.digest) throw mismatch(layer);
    return file;
  });
  const configBytes = await readOciBlob(document.config, read, maxConfigBytes);
  return { manifest: document, manifestBytes: bytes, configBytes, names: [], heldLayers: held(layerFiles) };
}

function held(files: readonly ArchivedFile[]): readonly Uint8Array[] {
  return files.flatMap(({ bytes }) => bytes ?? []);
}

async function readOciBlob(blob: Descriptor, read: ReadFile, maxBytes: number): Promise<Uint8Array> {
  const bytes = await read(blobPath(blob.digest), maxBytes);
  if (digestOf(bytes) !== blob.digest) throw mismatch(blob);
  return bytes;
}

function blobPath(digest: string): string {
  return `blobs/${digest.replace(":", "/")}`;
}

function mismatch(blob: Descriptor): EngineError {
  return new EngineError("invalid", `invalid archive: the content of ${blobPath(blob.digest)} has another digest`);
}

/** containerd's annotation holds the whole name; the OCI one is often a bare tag, which names nothing by itself. */
function ociNames(entry: Descriptor): readonly string[] {
  const whole = entry.annotations["io.containerd.image.name"];
  if (whole !== undefined) return [canonicalName(whole)];
  const name = entry.annotations["org.opencontainers.image.ref.name"];
  return name !== undefined && /[/:]/.test(name) ? [canonicalName(name)] : [];
}

function canonicalName(name: string): string {
  const reference = withDefaultTag(parseReference(name));
  if (reference.tag === undefined) throw new EngineError("invalid", `invalid tag ${JSON.stringify(name)}`);
  return canonicalString({ ...reference, digest: undefined });
}

async function unpackImage(
  deps: LoadDeps,
  leased: Leased,
  image: ArchivedImage,
  progress: (p: Progress) => void,
  signal: AbortSignal,
): Promise<{ readonly id: string; readonly target: Descriptor; readonly names: readonly string[] }> {
  const { diffIds } = decodeConfig(image.configBytes);
  const { layers } = image.manifest;
  if (diffIds.length !== layers.length) {
    // compat: dockerd's words
    const lengths = `expected ${diffIds.length}, got ${layers.length}`;
    throw new EngineError("invalid", `invalid manifest, layers length mismatch: ${lengths}`);
  }
  const { unpacker, clock } = deps;
  for (const bytes of image.heldLayers) await ensureBlob(leased.containerd, { bytes, labels: {} }, clock, signal);
  const have = await unpacker.unpackedLayers(leased, diffIds, signal);
  for (const [i, layer] of layers.entries()) {
    if (i < have) continue;
    const id = shortDigest(diffIds[i] as string);
    const totalBytes = layer.sizeBytes;
    progress({ id, status: "Loading layer", currentBytes: 0, totalBytes });
    await unpacker.unpack(leased, layer, diffIds.slice(0, i + 1), signal);
    progress({ id, status: "Loading layer", currentBytes: totalBytes, totalBytes });
  }
  const options = { snapshotter: unpacker.snapshotter, clock };
  const { id, target } = await storeDocuments(leased, image, options, signal);
  return { id, target, names: image.names };
}

async function publish(
  catalog: Catalog,
  image: { readonly id: string; readonly target: Descriptor; readonly names: readonly string[] },
  progress: (p: Progress) => void,
): Promise<void> {
  await catalog.exclusively(async () => {
    for (const entry of await catalog.entries()) {
      if (entry.id === image.id) continue;
      for (const name of entry.tags.filter((tag) => image.names.includes(tag))) {
        progress({
          stream: `The image ${familiarOf(name)} already exists, renaming the old one with ID ${entry.id} to empty string\n`,
        });
      }
    }
    await catalog.publish(image);
  });
  for (const name of image.names) {
    progress({ stream: `Loaded image: ${familiarString(parseReference(name))}\n` });
  }
  if (image.names.length === 0) progress({ stream: `Loaded image ID: ${image.id}\n` });
}
