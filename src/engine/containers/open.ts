import { existsSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { Hub, withSignal } from "../../base/async.ts";
import { cgroupParentOf, removeUnusedCgroups } from "../../base/cgroup.ts";
import type { Clock } from "../../base/clock.ts";
import { EngineError } from "../../base/errors.ts";
import { newHexId } from "../../base/ids.ts";
import type { Log } from "../../base/log.ts";
import type { Random } from "../../base/random.ts";
import { Scope } from "../../base/scope.ts";
import type { EndpointRequest, Networks } from "../../network/mod.ts";
import { Collection, type Seal, type Store } from "../../store/mod.ts";
import { type Containerd, isNotFound, rawMessage } from "../containerd/mod.ts";
import type {
  Attached,
  AttachOptions,
  Containers,
  EngineEvent,
  ExecSpec,
  ExecState,
  Images,
  LogLine,
  LogOptions,
} from "../engine.ts";
import { Execs } from "../exec/execs.ts";
import { LiveContainer } from "../lifecycle/container.ts";
import { Lifecycle } from "../lifecycle/lifecycle.ts";
import { watchOom } from "../lifecycle/oom.ts";
import { recover } from "../lifecycle/recovery.ts";
import { environmentOf, type StepContext, StepRunner } from "../lifecycle/steps.ts";
import { logWarnings } from "../logs/limits.ts";
import { readLog } from "../logs/reader.ts";
import type { ContainerRecord, ContainerSpec } from "../model.ts";
import { observeHost } from "../runtime-spec/host.ts";
import { FifoPool } from "../streams/fifos.ts";
import { releaseScratch } from "../volumes/fill.ts";
import type { HostVolumes } from "../volumes/open.ts";
import { attachTo } from "./attach.ts";
import { type CreateContext, type CreationIntent, createContainer, undoIntents } from "./create.ts";
import { ContainerDirectory } from "./directory.ts";
import { generateName, nameConflict, parseContainerName } from "./names.ts";
import { connectNetwork, disconnectNetwork } from "./network-changes.ts";
import { containerCodec } from "./record.ts";
import { sandboxRequest } from "./sandbox-request.ts";

export interface ContainersOptions {
  /** Records' files: `<data root>/containers/<id>/`. */
  readonly dataRoot: string;
  /** What a reboot may lose: pipes. */
  readonly execRoot: string;
  readonly containerd: Containerd;
  readonly store: Store;
  readonly seal: Seal;
  readonly networks: Networks;
  readonly images: Pick<Images, "find">;
  readonly volumes: HostVolumes;
  readonly log: Log;
  readonly clock: Clock;
  readonly random: Random;
  /** Default `overlayfs`. */
  readonly snapshotter?: string;
}

/** The containers of this host; letting go of them stops none. */
export interface HostContainers extends Containers {
  /** Clean shutdown without live restore: stops what runs, each with its own signal and timeout. */
  stopAll(signal: AbortSignal): Promise<void>;
}

const initPaths = ["/usr/bin/docker-init", "/usr/libexec/docker/docker-init", "/usr/bin/tini", "/sbin/tini"];

/**
 * Takes up what an earlier daemon left: containers that run are followed again, half-done creations, starts and removals
 * are finished or undone, and `networks.recovered` is called with what lives.
 */
export async function openContainers(options: ContainersOptions, signal: AbortSignal): Promise<HostContainers> {
  const places = { data: join(options.dataRoot, "containers"), exec: join(options.execRoot, "containers") };
  await mkdir(places.data, { recursive: true, mode: 0o710 });
  await mkdir(places.exec, { recursive: true, mode: 0o700 });
  await releaseScratch(join(options.execRoot, "fill"));
  const fifos = new FifoPool(join(options.execRoot, "fifos"));
  await fifos.fill();
  const engine = new Engine(options, fifos, places);
  await engine.recover(signal);
  return engine;
}

class Engine implements HostContainers {
  readonly #options: ContainersOptions;
  readonly #places: { readonly data: string; readonly exec: string };
  readonly #directory = new ContainerDirectory();
  readonly #records: Collection<ContainerRecord>;
  readonly #events = new Hub<EngineEvent>();
  readonly #scope: Scope;
  readonly #steps: StepRunner;
  readonly #stepContext: StepContext;
  readonly #lifecycle: Lifecycle;
  readonly #execs: Execs;
  readonly #creation: CreateContext;

  constructor(options: ContainersOptions, fifos: FifoPool, places: { readonly data: string; readonly exec: string }) {
    this.#options = options;
    this.#places = places;
    const { containerd, networks, volumes, images, clock, random, log } = options;
    this.#records = new Collection<ContainerRecord>({ ...options, prefix: "container", codec: containerCodec });
    this.#scope = new Scope(log);
    this.#stepContext = {
      containerd,
      networks,
      volumes,
      fifos,
      records: this.#records,
      snapshotter: options.snapshotter ?? "overlayfs",
      host: observeHost,
      initPath: initPaths.find((path) => existsSync(path)),
      cgroupParent: cgroupParentOf(options.execRoot),
      scratchDirectory: join(options.execRoot, "fill"),
      directory: this.#directory,
      sandboxRequest: (container) => sandboxRequest(container, networks, this.#directory),
    };
    this.#steps = new StepRunner(this.#stepContext);
    const emit = (container: LiveContainer, action: string, attributes: Readonly<Record<string, string>> = {}) =>
      this.#emit(container.record, action, attributes);
    this.#execs = new Execs({
      containerd,
      fifos,
      clock,
      random,
      host: observeHost,
      emit,
      environmentOf: ({ record }) => environmentOf(record, this.#stepContext),
    });
    this.#lifecycle = new Lifecycle({
      containerd,
      steps: this.#steps,
      records: this.#records,
      directory: this.#directory,
      clock,
      random,
      log,
      scope: this.#scope,
      emit,
      onGone: (container) => this.#execs.forget(container.id),
    });
    this.#creation = {
      images,
      networks,
      volumes,
      directory: this.#directory,
      steps: this.#steps,
      intents: new Collection<CreationIntent>({
        ...options,
        prefix: "container-intent",
        codec: { version: 1, upgrade: (json) => json as CreationIntent },
      }),
      host: observeHost,
      now: () => clock.wall().toISOString(),
      newId: () => newHexId(random),
      live: (record) => this.#live(record),
    };
    this.#scope.run("oom-events", (signal) =>
      watchOom({ containerd, clock, log }, (id) => this.#lifecycle.markOom(id), signal),
    );
  }

  /** Once, before anything else is asked. */
  async recover(signal: AbortSignal): Promise<void> {
    const records = (await this.#records.list()).map(({ value }) => value);
    const isLeaving = (record: ContainerRecord) => record.state.kind === "removing";
    // Names belong to those that stay.
    for (const record of records) if (!isLeaving(record)) this.#directory.add(this.#live(record));
    for (const record of records) if (isLeaving(record)) this.#directory.add(this.#live(record));
    await undoIntents(this.#creation);
    const context = {
      ...this.#stepContext,
      directory: this.#directory,
      lifecycle: this.#lifecycle,
      steps: this.#steps,
    };
    // Of containers that were killed together with their daemon.
    removeUnusedCgroups(this.#stepContext.cgroupParent);
    const toStart = await recover({ ...context, places: this.#places, log: this.#options.log }, signal);
    for (const container of toStart) this.#lifecycle.startWithDaemon(container);
  }

  list(): readonly ContainerRecord[] {
    return this.#directory.all().map((container) => container.record);
  }

  find(term: string): ContainerRecord {
    return this.#directory.find(term).record;
  }

  async create(
    spec: ContainerSpec,
    name: string | undefined,
    signal: AbortSignal,
  ): Promise<{ readonly id: string; readonly warnings: readonly string[] }> {
    const id = newHexId(this.#options.random);
    const isTaken = (candidate: string) => this.#directory.ownerOf(candidate) !== undefined;
    const chosen = name === undefined ? generateName(this.#options.random, isTaken) : parseContainerName(name);
    const owner = this.#directory.ownerOf(chosen);
    if (owner !== undefined) throw nameConflict(chosen, owner);
    this.#directory.reserve(chosen, id);
    try {
      const container = await createContainer(this.#creation, { id, name: chosen, spec }, signal);
      this.#directory.add(container);
      this.#emit(container.record, "create", {});
      return { id, warnings: logWarnings(spec.host.logOptions) };
    } catch (error) {
      this.#directory.release(chosen);
      throw error;
    }
  }

  start(id: string, signal: AbortSignal): Promise<void> {
    return this.#lifecycle.start(this.#directory.find(id), signal);
  }

  stop(
    id: string,
    options: { readonly timeoutSeconds?: number; readonly signal?: string },
    signal: AbortSignal,
  ): Promise<void> {
    return this.#lifecycle.stop(this.#directory.find(id), options, signal);
  }

  async restart(
    id: string,
    options: { readonly timeoutSeconds?: number; readonly signal?: string },
    signal: AbortSignal,
  ): Promise<void> {
    const container = this.#directory.find(id);
    if (container.isRunning) await this.#lifecycle.stop(container, options, signal);
    await this.#lifecycle.start(container, signal);
    this.#emit(container.record, "restart", {});
  }

  kill(id: string, signalName: string): Promise<void> {
    return this.#lifecycle.kill(this.#directory.find(id), signalName);
  }

  remove(
    id: string,
    options: { readonly force: boolean; readonly volumes: boolean },
    signal: AbortSignal,
  ): Promise<void> {
    return this.#lifecycle.remove(this.#directory.find(id), options, signal);
  }

  async rename(id: string, name: string): Promise<void> {
    const container = this.#directory.find(id);
    const wanted = parseContainerName(name);
    const oldName = container.record.name;
    if (wanted === oldName) {
      // compat:
      throw new EngineError("invalid", "Renaming a container with the same name as its current name");
    }
    const owner = this.#directory.ownerOf(wanted);
    if (owner !== undefined) {
      // compat:
      const conflict = nameConflict(wanted, owner);
      throw new EngineError("conflict", `Error when allocating new name: ${conflict.message}`, { cause: conflict });
    }
    this.#directory.reserve(wanted, container.id);
    await this.#lifecycle.exclusively(container, async () => {
      try {
        await this.#save(container, { ...container.record, name: wanted });
      } catch (error) {
        this.#directory.release(wanted);
        throw error;
      }
      this.#directory.release(oldName);
      const { sandboxId, sandboxOwner } = container.record;
      if (sandboxId !== undefined && sandboxOwner === undefined) await this.#options.networks.rename(sandboxId, wanted);
    });
    this.#emit(container.record, "rename", { oldName: `/${oldName}` });
  }

  async resize(id: string, size: { readonly rows: number; readonly columns: number }): Promise<void> {
    const container = this.#directory.find(id);
    const consoleSize = { height: size.rows, width: size.columns };
    // Asked between create and start as well: the terminal then starts with it.
    container.consoleSize = consoleSize;
    container.assertRunning();
    try {
      await this.#options.containerd.tasks.resizePty({ containerId: container.id, ...consoleSize });
    } catch (error) {
      if (isNotFound(error)) container.assertRunning();
      throw new EngineError("internal", `cannot resize container ${container.id}: ${rawMessage(error)}`, {
        cause: error,
      });
    }
    this.#emit(container.record, "resize", { height: String(size.rows), width: String(size.columns) });
  }

  wait(id: string, condition: "not-running" | "next-exit" | "removed", signal: AbortSignal): Promise<number> {
    return withSignal(this.#directory.find(id).wait(condition), signal);
  }

  async attach(id: string, options: AttachOptions): Promise<Attached> {
    const container = this.#directory.find(id);
    const attached = attachTo(container, options);
    this.#emit(container.record, "attach", {});
    return attached;
  }

  logs(id: string, options: LogOptions, signal: AbortSignal): AsyncIterable<LogLine> {
    const container = this.#directory.find(id);
    if (!container.hasLog) {
      // compat:
      throw new EngineError("unsupported", "configured logging driver does not support reading");
    }
    return readLog(container.logSource(options.follow ? "end" : "now"), options, signal);
  }

  async createExec(id: string, spec: ExecSpec): Promise<string> {
    return this.#execs.create(this.#directory.find(id), spec);
  }

  findExec(execId: string): ExecState {
    return this.#execs.find(execId);
  }

  startExec(execId: string, options: Parameters<Containers["startExec"]>[1]): Promise<Attached | undefined> {
    return this.#execs.start(execId, options);
  }

  resizeExec(execId: string, size: { readonly rows: number; readonly columns: number }): Promise<void> {
    return this.#execs.resize(execId, size);
  }

  async connect(id: string, request: EndpointRequest, signal: AbortSignal): Promise<void> {
    const container = this.#directory.find(id);
    const save = (record: ContainerRecord) => this.#save(container, record);
    await this.#lifecycle.exclusively(container, () =>
      connectNetwork({ networks: this.#options.networks, save }, container.record, request, signal),
    );
  }

  async disconnect(id: string, network: string, force: boolean, signal: AbortSignal): Promise<void> {
    const container = this.#directory.find(id);
    const save = (record: ContainerRecord) => this.#save(container, record);
    await this.#lifecycle.exclusively(container, () =>
      disconnectNetwork({ networks: this.#options.networks, save }, container.record, { network, force }, signal),
    );
  }

  async pids(id: string): Promise<readonly number[]> {
    const container = this.#directory.find(id);
    container.assertRunning();
    const { processes } = await this.#options.containerd.tasks.listPids({ containerId: container.id });
    return processes.map((process) => process.pid);
  }

  events(listener: (event: EngineEvent) => void): Disposable {
    return this.#events.listen(listener);
  }

  stopAll(signal: AbortSignal): Promise<void> {
    return this.#lifecycle.stopAll(signal);
  }

  /** Lets go: processes run on, their pipes stay. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#lifecycle.letGo();
    await this.#scope[Symbol.asyncDispose]();
    for (const container of this.#directory.all()) {
      container.closeLog();
      await container.io.release();
    }
    removeUnusedCgroups(this.#stepContext.cgroupParent);
  }

  #live(record: ContainerRecord): LiveContainer {
    const { containerd, clock, log } = this.#options;
    return new LiveContainer({
      record,
      places: this.#places,
      clock,
      closeInput: async (id) => {
        try {
          await containerd.tasks.closeIO({ containerId: id, stdin: true });
        } catch (error) {
          // The process is gone: so is its input.
          if (!isNotFound(error)) log.warn("cannot close a container's input", { container: id, error });
        }
      },
    });
  }

  async #save(container: LiveContainer, record: ContainerRecord): Promise<void> {
    await this.#records.put(record.id, record);
    container.record = record;
  }

  #emit(record: ContainerRecord, action: string, attributes: Readonly<Record<string, string>>): void {
    this.#events.emit({
      type: "container",
      action,
      id: record.id,
      attributes: { ...record.spec.labels, ...attributes, image: record.spec.image, name: record.name },
      scope: "local",
      timeMs: this.#options.clock.wall().getTime(),
    });
  }
}
