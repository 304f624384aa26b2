import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { crashPoint } from "../../base/crash-point.ts";
import { EngineError } from "../../base/errors.ts";
import type { Networks, SandboxRequest } from "../../network/mod.ts";
import type { Collection } from "../../store/mod.ts";
import { type Containerd, isAlreadyExists, isFailedPrecondition, isNotFound } from "../containerd/mod.ts";
import type { ContainerDirectory } from "../containers/directory.ts";
import { linkedEnvironment, refuseStoppedLinks } from "../containers/links.ts";
import { mergeEnv } from "../containers/merge.ts";
import { ensureBindSource, type ResolvedMounts } from "../containers/mounts.ts";
import type { ContainerRecord } from "../model.ts";
import { layersOf, readTextFile, type SnapshotMount } from "../runtime-spec/rootfs.ts";
import { buildSpec, type HostFacts } from "../runtime-spec/spec.ts";
import { type OciUser, resolveUser } from "../runtime-spec/users.ts";
import type { FifoPool } from "../streams/fifos.ts";
import { fillVolume } from "../volumes/fill.ts";
import type { HostVolumes } from "../volumes/open.ts";
import type { LiveContainer } from "./container.ts";
import type { Step, StepKind } from "./plan.ts";

export const runtimeName = "io.containerd.runc.v2";
/** Marks what is ours in containerd; only marked things are ever swept. */
export const ownerLabel = "weft/container";
const specTypeUrl = "types.containerd.io/opencontainers/runtime-spec/1/Spec";

/** Everything that steps act on, and what they need beside the container. */
export interface StepContext {
  readonly containerd: Containerd;
  readonly snapshotter: string;
  readonly networks: Networks;
  readonly volumes: HostVolumes;
  readonly records: Collection<ContainerRecord>;
  readonly fifos: FifoPool;
  readonly host: () => HostFacts;
  readonly initPath: string | undefined;
  readonly cgroupParent: string;
  /** Where images are mounted for a moment to fill volumes. */
  readonly scratchDirectory: string;
  /** Other containers, for shared namespaces. */
  readonly directory: Pick<ContainerDirectory, "find" | "lookUp">;
  readonly sandboxRequest: (container: LiveContainer) => SandboxRequest;
}

/** What one execution of a plan is given and leaves behind. */
export interface StepInput {
  readonly container: LiveContainer;
  /** Creation only. */
  readonly parentSnapshot?: string;
  readonly fill?: ResolvedMounts["toFill"];
  /** Start: the record to write first. */
  readonly next?: ContainerRecord;
}

interface Outcome {
  netnsPath: string | undefined;
  pid: number;
}

type Applier = (input: StepInput, outcome: Outcome, signal: AbortSignal) => Promise<void>;

/** The executor: one applier for every kind of step. Decides nothing. */
export class StepRunner {
  readonly #context: StepContext;
  readonly #appliers: Readonly<Record<StepKind, Applier>>;

  constructor(context: StepContext) {
    this.#context = context;
    this.#appliers = {
      "snapshot.ensure": (input) => this.#ensureSnapshot(input),
      "volumes.fill": (input) => this.#fillVolumes(input),
      "files.ensure": (input) => this.#ensureFiles(input.container),
      "record.write": (input) => this.#writeRecord(input),
      "sandbox.prepare": async ({ container }, outcome) => {
        const { sandboxId, mode } = this.#context.sandboxRequest(container);
        outcome.netnsPath = await this.#context.networks.prepareSandbox(sandboxId, mode);
      },
      "sandbox.open": async ({ container }, _outcome, signal) => {
        await this.#context.networks.openSandbox(this.#context.sandboxRequest(container), signal);
      },
      "task.ensure": (input, outcome) => this.#ensureTask(input.container, outcome),
      "task.start": (input, outcome) => this.#startTask(input.container, outcome),
      "task.kill": ({ container }) => this.#killTask(container.id),
      "output.drain": ({ container }) => container.io.drain(),
      "task.remove": ({ container }) => this.#removeTask(container.id),
      "sandbox.close": async ({ container }, _outcome, signal) => {
        const { sandboxId } = container.record;
        if (sandboxId !== undefined) await this.#context.networks.closeSandbox(sandboxId, signal);
      },
      "snapshot.remove": ({ container }) => this.removeSnapshot(container.id),
      "files.remove": async ({ container }) => {
        rmSync(container.dataDirectory, { recursive: true, force: true });
        rmSync(container.execDirectory, { recursive: true, force: true });
      },
      "volumes.remove": (input) => this.#removeVolumes(input.container),
      "record.remove": ({ container }) => this.#context.records.delete(container.id),
    };
  }

  /** Phase by phase; after a failure the rest of its phase is awaited and no further phase begun. Returns the task's pid. */
  async apply(steps: readonly Step[], input: StepInput, signal: AbortSignal): Promise<number> {
    const outcome: Outcome = { netnsPath: undefined, pid: 0 };
    for (const phase of phasesOf(steps)) {
      const results = await Promise.allSettled(phase.map((step) => this.#run(step.kind, input, outcome, signal)));
      const failure = results.find((result) => result.status === "rejected");
      if (failure !== undefined) throw failure.reason;
    }
    return outcome.pid;
  }

  /** Like `apply`, but does all it can before it throws: for cleaning up. */
  async applyAll(steps: readonly Step[], input: StepInput, signal: AbortSignal): Promise<void> {
    const outcome: Outcome = { netnsPath: undefined, pid: 0 };
    const failures: unknown[] = [];
    for (const phase of phasesOf(steps)) {
      const results = await Promise.allSettled(phase.map((step) => this.#run(step.kind, input, outcome, signal)));
      for (const result of results) if (result.status === "rejected") failures.push(result.reason);
    }
    if (failures.length === 1) throw failures[0];
    if (failures.length > 1) throw new AggregateError(failures, `cleaning up container ${input.container.id} failed`);
  }

  async removeSnapshot(key: string): Promise<void> {
    const { containerd, snapshotter } = this.#context;
    try {
      await containerd.snapshots.remove({ snapshotter, key });
    } catch (error) {
      if (!isNotFound(error)) throw error;
    }
  }

  /** Task and container in containerd, whatever state they are in. */
  async removeTask(id: string): Promise<void> {
    await this.#killTask(id);
    await this.#removeTask(id);
  }

  async #run(kind: StepKind, input: StepInput, outcome: Outcome, signal: AbortSignal): Promise<void> {
    await this.#appliers[kind](input, outcome, signal);
    crashPoint(kind);
  }

  async #ensureSnapshot({ container, parentSnapshot }: StepInput): Promise<void> {
    const { containerd, snapshotter } = this.#context;
    try {
      const { mounts } = await containerd.snapshots.prepare({
        snapshotter,
        key: container.id,
        parent: parentSnapshot ?? "",
        // Nothing in containerd refers to it before the first start.
        labels: { [ownerLabel]: container.id, "containerd.io/gc.root": container.record.createdAt },
      });
      container.rootfs = mounts;
    } catch (error) {
      if (!isAlreadyExists(error)) throw error;
    }
    // Programs ask for this file to learn that they are in a container; Docker puts it there.
    const [upper] = layersOf(await this.#rootfsOf(container));
    if (upper !== undefined) writeFileSync(join(upper, ".dockerenv"), "", { mode: 0o755 });
  }

  async #rootfsOf(container: LiveContainer): Promise<readonly SnapshotMount[]> {
    const { containerd, snapshotter } = this.#context;
    container.rootfs ??= (await containerd.snapshots.mounts({ snapshotter, key: container.id })).mounts;
    return container.rootfs;
  }

  async #fillVolumes({ container, fill }: StepInput): Promise<void> {
    const rootfs = await this.#rootfsOf(container);
    for (const { volume, destination } of fill ?? []) {
      const scratch = join(this.#context.scratchDirectory, container.id);
      await fillVolume({ rootfs, destination, volumePath: volume.mountpoint, scratch });
    }
  }

  /** Mount targets for the runtime; `network/` writes what is in them. */
  async #ensureFiles(container: LiveContainer): Promise<void> {
    mkdirSync(container.dataDirectory, { recursive: true, mode: 0o710 });
    for (const name of ["hosts", "hostname", "resolv.conf"]) {
      writeFileSync(join(container.dataDirectory, name), name === "hostname" ? `${container.record.hostname}\n` : "", {
        flag: "a",
        mode: 0o644,
      });
    }
  }

  async #writeRecord({ container, next }: StepInput): Promise<void> {
    const record = next ?? container.record;
    await this.#context.records.put(record.id, record);
    container.record = record;
  }

  async #ensureTask(container: LiveContainer, outcome: Outcome): Promise<void> {
    const { containerd, snapshotter, fifos } = this.#context;
    const { id, record } = container;
    mkdirSync(container.execDirectory, { recursive: true, mode: 0o700 });
    refuseStoppedLinks(record, this.#context);
    for (const mount of record.spec.host.mounts) if (mount.type === "bind") ensureBindSource(mount);
    const [rootfs] = await Promise.all([this.#rootfsOf(container), container.io.prepare(fifos)]);
    const spec = buildSpec({
      container: { ...record, process: { ...record.process, env: environmentOf(record, this.#context) } },
      host: this.#context.host(),
      user: userOf(record, rootfs),
      ...this.#namespacesOf(container, outcome.netnsPath),
      initPath: this.#context.initPath,
      cgroupParent: this.#context.cgroupParent,
      consoleSize: container.consoleSize,
    });
    const wanted = {
      id,
      labels: { [ownerLabel]: id },
      runtime: { name: runtimeName },
      spec: { typeUrl: specTypeUrl, value: new TextEncoder().encode(JSON.stringify(spec)) },
      snapshotter,
      snapshotKey: id,
    };
    try {
      await containerd.containers.create({ container: wanted });
    } catch (error) {
      // Left by a start that died; its specification names an old namespace.
      if (!isAlreadyExists(error)) throw error;
      await this.removeTask(id);
      await containerd.containers.create({ container: wanted });
    }
    container.openLog();
    await containerd.tasks.create({
      containerId: id,
      rootfs: rootfs.map(({ type, source, options }) => ({ type, source, options: [...options] })),
      ...container.io.paths,
      terminal: record.spec.tty,
    });
  }

  #namespacesOf(
    container: LiveContainer,
    netnsPath: string | undefined,
  ): Pick<Parameters<typeof buildSpec>[0], "netnsPath" | "joined" | "filesDirectory"> {
    const { record } = container;
    const owner = record.sandboxOwner === undefined ? undefined : this.#context.directory.find(record.sandboxOwner);
    const ownersPath = owner === undefined ? undefined : this.#ownersNetns(owner);
    const { pidMode } = record.spec.host;
    const pidOwner = pidMode.startsWith("container:") ? this.#context.directory.find(pidMode.slice(10)) : undefined;
    const pidOwnerState = pidOwner?.record.state;
    if (pidOwner !== undefined && pidOwnerState?.kind !== "running") {
      // compat:
      throw new EngineError("conflict", `cannot join PID namespace of a non running container: ${pidOwner.id}`);
    }
    return {
      netnsPath: owner === undefined ? hostAsUndefined(record, netnsPath) : ownersPath,
      filesDirectory: owner?.dataDirectory ?? container.dataDirectory,
      joined: pidOwnerState?.kind === "running" ? { pid: `/proc/${pidOwnerState.pid}/ns/pid` } : {},
    };
  }

  #ownersNetns(owner: LiveContainer): string | undefined {
    if (owner.record.spec.networkMode === "host") return undefined;
    const sandbox =
      owner.record.sandboxId === undefined ? undefined : this.#context.networks.sandbox(owner.record.sandboxId);
    if (sandbox === undefined) {
      throw new EngineError(
        "conflict",
        `Cannot join the network of container ${owner.id}: it has none, expected a sandbox`,
      );
    }
    return sandbox.netnsPath;
  }

  async #startTask(container: LiveContainer, outcome: Outcome): Promise<void> {
    const { pid } = await this.#context.containerd.tasks.start({ containerId: container.id });
    outcome.pid = pid;
  }

  async #removeTask(id: string): Promise<void> {
    const { containerd } = this.#context;
    for (let attempt = 0; ; attempt++) {
      try {
        await containerd.tasks.delete({ containerId: id });
        break;
      } catch (error) {
        if (isNotFound(error)) break;
        // It runs, or was made and never started: containerd deletes only what has stopped.
        if (!isFailedPrecondition(error) || attempt === 2) throw error;
        await this.#killTask(id);
      }
    }
    try {
      await containerd.containers.delete({ id });
    } catch (error) {
      if (!isNotFound(error)) throw error;
    }
  }

  /** Whatever state it is in, none included; resolves when it has ended. */
  async #killTask(id: string): Promise<void> {
    const { tasks } = this.#context.containerd;
    try {
      await tasks.kill({ containerId: id, signal: 9, all: true });
    } catch (error) {
      if (isNotFound(error) || isFailedPrecondition(error)) return;
      throw error;
    }
    try {
      await tasks.wait({ containerId: id }, { timeoutMs: 10_000 });
    } catch (error) {
      if (!isNotFound(error)) throw error;
    }
  }

  async #removeVolumes(container: LiveContainer): Promise<void> {
    for (const mount of container.record.mounts) {
      if (mount.type === "volume") await this.#context.volumes.releaseAnonymous(mount.name, container.id);
    }
  }
}

/** Legacy links tell about the others as they are at this start. */
export function environmentOf(
  record: ContainerRecord,
  context: Pick<StepContext, "networks" | "directory">,
): readonly string[] {
  return mergeEnv(linkedEnvironment(record, context), record.process.env);
}

function hostAsUndefined(record: ContainerRecord, netnsPath: string | undefined): string | undefined {
  return record.spec.networkMode === "host" ? undefined : netnsPath;
}

function userOf(record: ContainerRecord, rootfs: readonly SnapshotMount[]): OciUser {
  const layers = layersOf(rootfs);
  const { user } = record.process;
  return resolveUser(user, record.spec.host.groupAdd, {
    passwd: readTextFile(layers, "/etc/passwd"),
    group: readTextFile(layers, "/etc/group"),
  });
}

function phasesOf(steps: readonly Step[]): readonly (readonly Step[])[] {
  const numbers = [...new Set(steps.map((step) => step.phase))].sort((a, b) => a - b);
  return numbers.map((number) => steps.filter((step) => step.phase === number));
}
