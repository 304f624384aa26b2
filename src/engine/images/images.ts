import type { Readable } from "node:stream";
import { Hub } from "../../base/async.ts";
import type { Clock } from "../../base/clock.ts";
import { EngineError } from "../../base/errors.ts";
import type { Log } from "../../base/log.ts";
import type { Random } from "../../base/random.ts";
import type { Containerd } from "../containerd/mod.ts";
import type {
  ContainerRecord,
  EngineEvent,
  ImageDetail,
  ImageSummary,
  Images,
  Progress,
  RegistryAuth,
} from "../mod.ts";
import { Catalog, type CatalogEntry, findEntry, releasedSnapshots } from "./catalog.ts";
import { importImage } from "./import.ts";
import { WorkLease } from "./lease.ts";
import { loadImages } from "./load.ts";
import { hostPlatform, type Platform, parsePlatform } from "./platform.ts";
import { pullImage } from "./pull.ts";
import {
  canonicalString,
  familiarName,
  familiarOf,
  familiarString,
  parseReference,
  withDefaultTag,
} from "./reference.ts";
import type { RegistryOptions } from "./registry/client.ts";
import { planRemoval } from "./removal.ts";
import { SharedWork, Slots } from "./transfers.ts";
import { Unpacker } from "./unpack.ts";

export interface ImagesDeps {
  readonly containerd: Containerd;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  /** `host[:port]` and CIDRs that may be spoken to without verified TLS; loopback always may. */
  readonly insecureRegistries?: readonly string[];
  /** Authorities and client certificates by registry; default `/etc/docker/certs.d`. */
  readonly certsDir?: string;
  /** Where HTTP_PROXY, HTTPS_PROXY and NO_PROXY are read; default: this process's. */
  readonly proxyEnv?: NodeJS.ProcessEnv;
  readonly userAgent?: string;
  /** Layers downloaded at a time, over all pulls. */
  readonly maxConcurrentDownloads?: number;
  readonly snapshotter?: string;
}

const defaultConcurrentDownloads = 3;

type Options<M extends keyof Images> = Images[M] extends (a: never, o: infer O, ...rest: never[]) => unknown
  ? O
  : never;

/**
 * Images over containerd: everything that is acknowledged is in its stores, nothing is kept beside them. What an earlier
 * weftd was killed over is cleaned up or finished here.
 */
export async function openImages(deps: ImagesDeps, signal: AbortSignal): Promise<Images & AsyncDisposable> {
  const images = new OpenImages(deps);
  await images.recover(signal);
  return images;
}

class OpenImages implements Images, AsyncDisposable {
  readonly #deps: ImagesDeps;
  readonly #platform: Platform;
  readonly #lease: WorkLease;
  readonly #unpacker: Unpacker;
  readonly #catalog: Catalog;
  readonly #layers = new SharedWork<void, Progress>();
  readonly #slots: Slots;
  readonly #events = new Hub<EngineEvent>();
  readonly #closed = new AbortController();
  readonly #running = new Set<Promise<unknown>>();

  constructor(deps: ImagesDeps) {
    const snapshotter = deps.snapshotter ?? "overlayfs";
    this.#deps = deps;
    this.#platform = hostPlatform(process.arch);
    this.#lease = new WorkLease(deps);
    this.#unpacker = new Unpacker({ random: deps.random, snapshotter });
    this.#catalog = new Catalog({ ...deps, snapshotter, platform: this.#platform });
    this.#slots = new Slots(deps.maxConcurrentDownloads ?? defaultConcurrentDownloads);
  }

  async recover(signal: AbortSignal): Promise<void> {
    await this.#lease.removeStale(signal);
    await this.#catalog.repair();
  }

  /** Gives up pulls, loads and imports under way and waits for them. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed.abort(new EngineError("unavailable", "the engine is shutting down"));
    await Promise.allSettled(this.#running);
  }

  async list(): Promise<readonly ImageSummary[]> {
    const details = await Promise.all((await this.#catalog.entries()).map((entry) => this.#catalog.detail(entry)));
    return details.sort((a, b) => Date.parse(b.createdAt) - Date.parse(a.createdAt) || (a.id < b.id ? -1 : 1));
  }

  async find(term: string): Promise<ImageDetail> {
    return await this.#catalog.detail(findEntry(await this.#catalog.entries(), term));
  }

  async pull(
    reference: string,
    options: {
      readonly auth?: RegistryAuth;
      readonly platform?: string;
      readonly progress: (p: Progress) => void;
    },
    signal: AbortSignal,
  ): Promise<void> {
    const parsed = withDefaultTag(parseReference(reference));
    const { platform: wanted = "" } = options;
    const platform = wanted === "" ? this.#platform : parsePlatform(wanted, this.#platform);
    const deps = {
      containerd: this.#deps.containerd,
      clock: this.#deps.clock,
      catalog: this.#catalog,
      lease: this.#lease,
      unpacker: this.#unpacker,
      registry: this.#registryOptions(),
      layers: this.#layers,
      slots: this.#slots,
    };
    const request = { reference: parsed, auth: options.auth, platform, progress: options.progress };
    await this.#work((all) => pullImage(deps, request, all), signal);
    const familiar = familiarString(parsed);
    const labels = await this.#labelsOf(familiar);
    this.#emit("pull", familiar, { ...labels, name: familiarName(parsed) });
  }

  async load(archive: Readable, progress: (p: Progress) => void, signal: AbortSignal): Promise<void> {
    const deps = this.#localDeps();
    const loaded = await this.#work((all) => loadImages(deps, archive, progress, all), signal);
    for (const { id, names } of loaded) {
      const shown = names.length === 0 ? [id] : names.map(familiarOf);
      for (const name of shown) this.#emit("load", id, { name });
    }
  }

  async import(archive: Readable, options: Options<"import">, signal: AbortSignal): Promise<string> {
    const deps = this.#localDeps();
    const { id, name } = await this.#work((all) => importImage(deps, archive, options, all), signal);
    this.#emit("import", id, { name: name === undefined ? "" : familiarOf(name) });
    return id;
  }

  async tag(source: string, target: string): Promise<void> {
    const reference = withDefaultTag(parseReference(target));
    // compat: dockerd's words, for both
    if (reference.digest !== undefined) {
      throw new EngineError("invalid", "refusing to create a tag with a digest reference");
    }
    if (familiarName(reference) === "sha256") {
      throw new EngineError("invalid", "refusing to create an ambiguous tag using digest algorithm as name");
    }
    const id = await this.#catalog.exclusively(async () => {
      const entry = findEntry(await this.#catalog.entries(), source);
      await this.#catalog.publish({ id: entry.id, target: entry.target, names: [canonicalString(reference)] });
      return entry.id;
    });
    this.#emit("tag", id, { name: familiarString(reference) });
  }

  async remove(
    term: string,
    options: {
      readonly force: boolean;
      readonly noPrune: boolean;
      readonly usedBy: (imageId: string) => readonly ContainerRecord[];
    },
  ): Promise<readonly ({ readonly untagged: string } | { readonly deleted: string })[]> {
    return await this.#catalog.exclusively(async () => {
      const entries = await this.#catalog.entries();
      const entry = findEntry(entries, term);
      const references = [...entry.tags, ...entry.digests];
      const containers = options.usedBy(entry.id);
      const plan = planRemoval({ imageId: entry.id, references, term, force: options.force, containers });
      const labels = entry.document.config.labels;
      for (const name of plan.untag) {
        await this.#catalog.forget(name);
        this.#emit("untag", entry.id, { ...labels, name: entry.id });
      }
      const untagged = plan.untag.map((name) => ({ untagged: familiarOf(name) }));
      if (!plan.deleteImage) return untagged;
      await this.#catalog.forget(entry.id);
      this.#emit("delete", entry.id, { name: entry.id });
      // A container that lives on keeps its layers.
      const others = entries.filter((other) => other !== entry);
      const released = containers.length > 0 ? [] : releasedSnapshots(entry, others);
      return [...untagged, ...[entry.id, ...released].map((deleted) => ({ deleted }))];
    });
  }

  events(listener: (event: EngineEvent) => void): Disposable {
    return this.#events.listen(listener);
  }

  /** Read anew for each pull: the daemon may have been told to reload. */
  #registryOptions(): RegistryOptions {
    const { insecureRegistries, certsDir, proxyEnv, userAgent, clock } = this.#deps;
    return {
      insecureRegistries: insecureRegistries ?? [],
      certsDir: certsDir ?? "/etc/docker/certs.d",
      proxyEnv: proxyEnv ?? process.env,
      userAgent: userAgent ?? "weft",
      clock,
    };
  }

  #localDeps() {
    return {
      clock: this.#deps.clock,
      random: this.#deps.random,
      catalog: this.#catalog,
      lease: this.#lease,
      unpacker: this.#unpacker,
      platform: this.#platform,
    };
  }

  async #work<T>(act: (signal: AbortSignal) => Promise<T>, signal: AbortSignal): Promise<T> {
    const running = act(AbortSignal.any([signal, this.#closed.signal]));
    this.#running.add(running);
    try {
      return await running;
    } finally {
      this.#running.delete(running);
    }
  }

  async #labelsOf(term: string): Promise<Readonly<Record<string, string>>> {
    const found: readonly CatalogEntry[] = await this.#catalog.entries();
    try {
      return findEntry(found, term).document.config.labels;
    } catch {
      // Removed again meanwhile: the event still says that it was pulled.
      return {};
    }
  }

  #emit(action: string, id: string, attributes: Readonly<Record<string, string>>): void {
    this.#events.emit({
      type: "image",
      action,
      id,
      attributes,
      scope: "local",
      timeMs: this.#deps.clock.wall().getTime(),
    });
  }
}
