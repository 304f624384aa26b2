import { execFile } from "node:child_process";
import { mkdir, readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { Hub, KeyedMutex } from "../../base/async.ts";
import type { Clock } from "../../base/clock.ts";
import { EngineError } from "../../base/errors.ts";
import { newHexId } from "../../base/ids.ts";
import type { Log } from "../../base/log.ts";
import type { Random } from "../../base/random.ts";
import { Collection, type Seal, type Store } from "../../store/mod.ts";
import { containerCodec } from "../containers/record.ts";
import type { EngineEvent, Volumes } from "../engine.ts";
import type { ContainerRecord, Volume } from "../model.ts";
import { checkVolumeName, volumeCodec } from "./model.ts";

export interface VolumesOptions {
  /** Volumes live in `<data root>/volumes/<name>/_data`. */
  readonly dataRoot: string;
  readonly store: Store;
  readonly seal: Seal;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
}

/** Volumes of this host, with their events. */
export interface HostVolumes extends Volumes {
  /** An anonymous volume with a name chosen by the caller, who wrote it down first. */
  createAnonymous(name: string): Promise<Volume>;
  /** Removes an anonymous volume that no container but this one uses; others are left alone. Idempotent. */
  releaseAnonymous(name: string, containerId: string): Promise<void>;
  events(listener: (event: EngineEvent) => void): Disposable;
}

export async function openVolumes(options: VolumesOptions, signal: AbortSignal): Promise<HostVolumes> {
  signal.throwIfAborted();
  const collection = new Collection<Volume>({ ...options, prefix: "volume", codec: volumeCodec });
  const volumes = new Map((await collection.list()).map(({ id, value }) => [id, value]));
  await mkdir(join(options.dataRoot, "volumes"), { recursive: true, mode: 0o701 });
  return new LocalVolumes(options, collection, volumes);
}

class LocalVolumes implements HostVolumes {
  readonly #options: VolumesOptions;
  readonly #collection: Collection<Volume>;
  readonly #containers: Collection<ContainerRecord>;
  readonly #volumes: Map<string, Volume>;
  readonly #mutex = new KeyedMutex();
  readonly #events = new Hub<EngineEvent>();

  constructor(options: VolumesOptions, collection: Collection<Volume>, volumes: Map<string, Volume>) {
    this.#options = options;
    this.#collection = collection;
    this.#containers = new Collection<ContainerRecord>({ ...options, prefix: "container", codec: containerCodec });
    this.#volumes = volumes;
  }

  async list(): Promise<readonly Volume[]> {
    return [...this.#volumes.values()].sort((a, b) => (a.name < b.name ? -1 : 1));
  }

  async find(name: string): Promise<Volume> {
    const volume = this.#volumes.get(name);
    // compat:
    if (volume === undefined) throw new EngineError("not-found", `get ${name}: no such volume`);
    return volume;
  }

  async create(wanted: Parameters<Volumes["create"]>[0]): Promise<Volume> {
    if (wanted.name === undefined) return await this.createAnonymous(newHexId(this.#options.random));
    const { name } = wanted;
    if (wanted.driver !== "" && wanted.driver !== "local") {
      // compat:
      throw new EngineError(
        "not-found",
        `create ${name}: error looking up volume plugin ${wanted.driver}: plugin "${wanted.driver}" not found`,
      );
    }
    checkVolumeName(name);
    checkDriverOptions(name, wanted.options);
    return await this.#ensure({ name, labels: wanted.labels, options: wanted.options, anonymous: false });
  }

  async createAnonymous(name: string): Promise<Volume> {
    return await this.#ensure({ name, labels: { "com.docker.volume.anonymous": "" }, options: {}, anonymous: true });
  }

  async releaseAnonymous(name: string, containerId: string): Promise<void> {
    if (this.#volumes.get(name)?.anonymous !== true) return;
    const users = (await this.#usersByVolume()).get(name) ?? [];
    if (users.every((user) => user === containerId)) await this.#mutex.run(name, () => this.#delete(name));
  }

  #ensure(wanted: Pick<Volume, "name" | "labels" | "options" | "anonymous">): Promise<Volume> {
    const { name } = wanted;
    return this.#mutex.run(name, async () => {
      const existing = this.#volumes.get(name);
      if (existing !== undefined) return existing;
      const mountpoint = join(this.#directory(name), "_data");
      await mkdir(mountpoint, { recursive: true, mode: 0o755 });
      const createdAt = this.#options.clock.wall().toISOString();
      const volume: Volume = { ...wanted, driver: "local", mountpoint, createdAt };
      await this.#collection.put(name, volume);
      this.#volumes.set(name, volume);
      this.#emit("create", name);
      return volume;
    });
  }

  async remove(name: string, force: boolean): Promise<void> {
    await this.#mutex.run(name, async () => {
      if (!this.#volumes.has(name)) {
        if (force) return;
        // compat:
        throw new EngineError("not-found", `get ${name}: no such volume`);
      }
      const users = (await this.#usersByVolume()).get(name) ?? [];
      if (users.length > 0) {
        // compat:
        throw new EngineError("conflict", `remove ${name}: volume is in use - [${users.join(", ")}]`);
      }
      await this.#delete(name);
    });
  }

  /** The directory first: a record without one can be removed again, a directory without a record would be forgotten. */
  async #delete(name: string): Promise<void> {
    await rm(this.#directory(name), { recursive: true, force: true });
    await this.#collection.delete(name);
    this.#volumes.delete(name);
    this.#emit("destroy", name);
  }

  async prune(all: boolean): Promise<{ readonly deleted: readonly string[]; readonly reclaimedBytes: number }> {
    const used = await this.#usersByVolume();
    const deleted: string[] = [];
    let reclaimedBytes = 0;
    for (const volume of [...this.#volumes.values()]) {
      if (used.has(volume.name) || (!all && !volume.anonymous)) continue;
      const bytes = await sizeOf(volume.mountpoint);
      await this.remove(volume.name, true);
      deleted.push(volume.name);
      reclaimedBytes += bytes;
    }
    return { deleted, reclaimedBytes };
  }

  events(listener: (event: EngineEvent) => void): Disposable {
    return this.#events.listen(listener);
  }

  #directory(name: string): string {
    return join(this.#options.dataRoot, "volumes", name);
  }

  /** Asked of the store, where every acknowledged container is. */
  async #usersByVolume(): Promise<ReadonlyMap<string, readonly string[]>> {
    const users = new Map<string, string[]>();
    for (const { id, value } of await this.#containers.list()) {
      // Its processes have ended; the rest of it has no use for volumes.
      if (value.state.kind === "removing") continue;
      for (const mount of value.mounts) {
        if (mount.type === "volume") users.set(mount.name, [...(users.get(mount.name) ?? []), id]);
      }
    }
    return users;
  }

  #emit(action: string, name: string): void {
    const timeMs = this.#options.clock.wall().getTime();
    this.#events.emit({
      type: "volume",
      action,
      id: name,
      attributes: { driver: "local" },
      scope: "local",
      timeMs,
    });
  }
}

function checkDriverOptions(name: string, options: Readonly<Record<string, string>>): void {
  for (const key of Object.keys(options)) {
    if (key === "type" || key === "device" || key === "o" || key === "size") {
      throw new EngineError("unsupported", `create ${name}: option "${key}" of local volumes is not supported yet`);
    }
    // compat:
    throw new EngineError("invalid", `create ${name}: invalid option: "${key}"`);
  }
}

/** Bytes on disk, as `du` counts them. */
async function sizeOf(directory: string): Promise<number> {
  if ((await readdir(directory)).length === 0) return 0;
  const { stdout } = await promisify(execFile)("du", ["-sb", directory]);
  return Number.parseInt(stdout, 10) || 0;
}
