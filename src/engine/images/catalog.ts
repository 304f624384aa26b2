import { KeyedMutex } from "../../base/async.ts";
import { crashPoint } from "../../base/crash-point.ts";
import { EngineError } from "../../base/errors.ts";
import type { Log } from "../../base/log.ts";
import type { Image } from "../../wire/gen/github.com/containerd/containerd/api/services/images/v1/images_pb.ts";
import { type Containerd, isAlreadyExists, isNotFound } from "../containerd/mod.ts";
import type { ImageDetail } from "../model.ts";
import {
  type ConfigDocument,
  chainIds,
  type Descriptor,
  DocumentError,
  decodeConfig,
  decodeManifest,
  maxConfigBytes,
  maxManifestBytes,
} from "./codec.ts";
import { readBlob } from "./content.ts";
import { type Platform, selectPlatform } from "./platform.ts";
import {
  familiarOf,
  familiarString,
  isDigest,
  parseReference,
  type Reference,
  repositoryName,
  withDefaultTag,
} from "./reference.ts";
import { chainBytes } from "./unpack.ts";

/** An image and all names under which it is recorded. */
export interface CatalogEntry {
  readonly id: string;
  readonly target: Descriptor;
  /** Canonical names, sorted. */
  readonly tags: readonly string[];
  readonly digests: readonly string[];
  /** Its record by id is there, so that it outlives its last name. */
  readonly anchored: boolean;
  readonly document: ConfigDocument;
}

/** What a record's manifest says; content never changes under its digest. */
interface Resolved {
  readonly id: string;
  readonly target: Descriptor;
}

/**
 * The images of this host. The truth is containerd's image records, whose targets are garbage collection roots:
 *
 * - `docker.io/library/x:latest` one for each tag, `docker.io/library/x@sha256:…` one for each digest pulled by;
 * - `sha256:<config>` one for each image: its anchor, which keeps it when its last name is gone.
 *
 * All point at a platform's manifest. The anchor is written after the names and deleted last, and one that is missing is
 * added at start: whatever line we die on, no image is lost or half there.
 */
export class Catalog {
  readonly #containerd: Containerd;
  readonly #log: Log;
  readonly #snapshotter: string;
  readonly #platform: Platform;
  /** Changes of records, one after another. */
  readonly #mutex = new KeyedMutex();
  #resolved = new Map<string, Resolved>();
  #documents = new Map<string, ConfigDocument>();
  #sizes = new Map<string, number>();

  constructor(deps: { containerd: Containerd; log: Log; snapshotter: string; platform: Platform }) {
    this.#containerd = deps.containerd;
    this.#log = deps.log;
    this.#snapshotter = deps.snapshotter;
    this.#platform = deps.platform;
  }

  /** For work on records that must not mix with other such work. */
  exclusively<T>(act: () => Promise<T>): Promise<T> {
    return this.#mutex.run("", act);
  }

  async entries(): Promise<readonly CatalogEntry[]> {
    const { images } = await this.#containerd.images.list({});
    const found = await Promise.all(images.map(async (image) => ({ image, resolved: await this.#resolve(image) })));
    const byId = new Map<string, { target: Descriptor; names: string[] }>();
    const live = new Map<string, Resolved>();
    for (const { image, resolved } of found) {
      if (resolved === undefined) continue;
      live.set(image.target?.digest ?? "", resolved);
      const entry = byId.get(resolved.id) ?? { target: resolved.target, names: [] };
      entry.names.push(image.name);
      byId.set(resolved.id, entry);
    }
    this.#resolved = live;
    const documents = new Map<string, ConfigDocument>();
    const entries: CatalogEntry[] = [];
    for (const [id, { target, names }] of byId) {
      const document = this.#documents.get(id);
      if (document === undefined) continue;
      documents.set(id, document);
      const named = names.filter((name) => !isDigest(name)).sort((a, b) => (a < b ? -1 : 1));
      entries.push({
        id,
        target,
        document,
        tags: named.filter((name) => !name.includes("@")),
        digests: named.filter((name) => name.includes("@")),
        anchored: names.includes(id),
      });
    }
    this.#documents = documents;
    return entries;
  }

  async detail(entry: CatalogEntry): Promise<ImageDetail> {
    const { document } = entry;
    const chain = chainIds(document.diffIds);
    return {
      id: entry.id,
      repoTags: entry.tags.map(familiarOf),
      repoDigests: entry.digests.map(familiarOf),
      createdAt: document.created,
      sizeBytes: await this.#size(entry.id, chain),
      labels: document.config.labels,
      architecture: document.architecture,
      os: document.os,
      author: document.author,
      comment: document.comment,
      config: document.config,
      diffIds: document.diffIds,
      chainId: chain.at(-1) ?? "",
      rawConfig: document.raw,
    };
  }

  /** Gives an image its names and its anchor; names that another image had move. Idempotent. */
  async publish(image: {
    readonly id: string;
    readonly target: Descriptor;
    readonly names: readonly string[];
  }): Promise<void> {
    for (const name of [...image.names, image.id]) {
      await this.#ensureRecord(name, image.target);
      crashPoint("image.ensure");
    }
  }

  /** Forgets a name (or an anchor: then containerd collects what nothing else keeps, before this returns). Idempotent. */
  async forget(name: string): Promise<void> {
    try {
      await this.#containerd.images.delete({ name, sync: isDigest(name) });
    } catch (error) {
      if (!isNotFound(error)) throw error;
    }
    crashPoint("image.remove");
  }

  /** Adds the anchors that a killed weftd did not come to write. */
  async repair(): Promise<void> {
    for (const entry of await this.entries()) {
      if (!entry.anchored) await this.#ensureRecord(entry.id, entry.target);
    }
  }

  async #ensureRecord(name: string, target: Descriptor): Promise<void> {
    const image = {
      name,
      target: {
        mediaType: target.mediaType,
        digest: target.digest,
        size: BigInt(target.sizeBytes),
        annotations: {},
      },
    };
    try {
      await this.#containerd.images.create({ image });
    } catch (error) {
      if (!isAlreadyExists(error)) throw error;
      await this.#containerd.images.update({ image });
    }
  }

  async #resolve(image: Image): Promise<Resolved | undefined> {
    const { target } = image;
    if (target === undefined) return undefined;
    try {
      const resolved =
        this.#resolved.get(target.digest) ??
        (await this.#resolveManifest({ ...target, sizeBytes: Number(target.size) }));
      if (resolved === undefined) return undefined;
      if (!this.#documents.has(resolved.id)) {
        const bytes = await readBlob(this.#containerd, resolved.id, maxConfigBytes);
        this.#documents.set(resolved.id, decodeConfig(bytes));
      }
      return resolved;
    } catch (error) {
      // Another program's record in our namespace, or one that was deleted while we looked.
      if (!isNotFound(error) && !(error instanceof DocumentError)) throw error;
      this.#log.debug("an image record does not resolve", { name: image.name, error });
      return undefined;
    }
  }

  async #resolveManifest(target: Descriptor): Promise<Resolved | undefined> {
    const document = decodeManifest(
      await readBlob(this.#containerd, target.digest, maxManifestBytes),
      target.mediaType,
    );
    if (document.kind === "manifest") return { id: document.config.digest, target };
    const chosen = selectPlatform(
      document.manifests.map((entry) => [entry, entry] as const),
      this.#platform,
    );
    return chosen === undefined ? undefined : await this.#resolveManifest(chosen);
  }

  async #size(id: string, chain: readonly string[]): Promise<number> {
    const known = this.#sizes.get(id);
    if (known !== undefined) return known;
    const size = await chainBytes(this.#containerd, this.#snapshotter, chain);
    if (this.#sizes.size > 10_000) this.#sizes.clear();
    this.#sizes.set(id, size);
    return size;
  }
}

/**
 * By id, by name, by unique prefix of an id, in this order. Pure.
 *
 * compat: dockerd's order and texts.
 *
 * @throws {EngineError} `not-found`, `invalid`.
 */
export function findEntry(entries: readonly CatalogEntry[], term: string): CatalogEntry {
  const idTerm = /^[a-f0-9]{64}$/.test(term) ? `sha256:${term}` : term;
  if (isDigest(idTerm)) return entries.find(({ id }) => id === idTerm) ?? notFound(idTerm);

  const reference = withDefaultTag(parseReference(term));
  const named = entries.find((entry) => hasName(entry, reference));
  if (named !== undefined) return named;
  const prefix = /^(?:sha256:)?([a-f0-9]+)$/.exec(term)?.[1];
  const matches = prefix === undefined ? [] : entries.filter(({ id }) => id.startsWith(`sha256:${prefix}`));
  return matches.length === 1 ? (matches[0] as CatalogEntry) : notFound(familiarString(reference));
}

function hasName(entry: CatalogEntry, reference: Reference): boolean {
  const repository = repositoryName(reference);
  if (reference.digest === undefined) return entry.tags.includes(`${repository}:${reference.tag}`);
  if (entry.digests.includes(`${repository}@${reference.digest}`)) return true;
  // compat: name@<image id> works as well, for a name that the image has.
  return entry.id === reference.digest && entry.tags.some((tag) => tag.startsWith(`${repository}:`));
}

function notFound(term: string): never {
  throw new EngineError("not-found", `No such image: ${term}`);
}

/** Snapshots that nothing but `entry` needs, top first: what `docker rmi` reports as deleted. Pure. */
export function releasedSnapshots(entry: CatalogEntry, others: readonly CatalogEntry[]): readonly string[] {
  const needed = new Set(others.flatMap(({ document }) => chainIds(document.diffIds)));
  return [...chainIds(entry.document.diffIds)].reverse().filter((name) => !needed.has(name));
}

/** The target of a digest that was pulled before, from its record. */
export async function findPulled(
  containerd: Containerd,
  name: string,
): Promise<{ readonly digest: string; readonly mediaType: string; readonly sizeBytes: number } | undefined> {
  try {
    const { image } = await containerd.images.get({ name });
    const target = image?.target;
    return target === undefined ? undefined : { ...target, sizeBytes: Number(target.size) };
  } catch (error) {
    if (isNotFound(error)) return undefined;
    throw error;
  }
}
