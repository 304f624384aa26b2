import { KeyedMutex, withSignal } from "../../base/async.ts";
import type { Clock } from "../../base/clock.ts";
import { EngineError, messageOf } from "../../base/errors.ts";
import { newHexId } from "../../base/ids.ts";
import type { Log } from "../../base/log.ts";
import type { Random } from "../../base/random.ts";
import type { Scope } from "../../base/scope.ts";
import type { Collection } from "../../store/mod.ts";
import { type Containerd, isFailedPrecondition, isNotFound, isUnavailable, rawMessage } from "../containerd/mod.ts";
import type { ContainerDirectory } from "../containers/directory.ts";
import { exitCodeOf, neverTime, startedAtOf } from "../containers/record.ts";
import { parseSignal } from "../containers/signals.ts";
import { failureText, type StartFailure, startFailure } from "../containers/start-failure.ts";
import type { ContainerRecord, ContainerState } from "../model.ts";
import type { LiveContainer, Run } from "./container.ts";
import { planRelease, planRemove, planStart } from "./plan.ts";
import { nextRestartDelayMs, restartsAfterExit } from "./restart.ts";
import type { StepRunner } from "./steps.ts";

export interface LifecycleContext {
  readonly containerd: Containerd;
  readonly steps: StepRunner;
  readonly records: Collection<ContainerRecord>;
  readonly directory: ContainerDirectory;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  /** Owns the watches of running containers. */
  readonly scope: Scope;
  readonly emit: (container: LiveContainer, action: string, attributes?: Readonly<Record<string, string>>) => void;
  /** Execs and the like end with the run. */
  readonly onGone: (container: LiveContainer) => void;
}

/** How a run ended, as containerd tells. */
export interface Exit {
  readonly exitCode: number;
  readonly exitedAt: string | undefined;
}

const defaultStopTimeoutSeconds = 10;
const killWaitMs = 10_000;
const sigkill = 9;
const waitRetryMs = 200;

/** Starts, follows, stops and removes containers. One thing at a time happens to one container. */
export class Lifecycle {
  readonly #context: LifecycleContext;
  readonly #mutex = new KeyedMutex();
  #isShuttingDown = false;

  constructor(context: LifecycleContext) {
    this.#context = context;
  }

  /** Runs `act` while nothing else happens to the container. */
  exclusively<T>(container: LiveContainer, act: () => Promise<T>): Promise<T> {
    return this.#mutex.run(container.id, act);
  }

  async start(container: LiveContainer, signal: AbortSignal): Promise<void> {
    await this.exclusively(container, async () => {
      const { state } = container.record;
      // compat:
      if (state.kind === "running")
        throw new EngineError("not-modified", `container ${container.id} is already running`);
      if (state.kind === "removing" || state.kind === "dead") {
        // compat:
        throw new EngineError("conflict", "container is marked for removal and cannot be started");
      }
      this.#cancelRestart(container);
      container.restartDelayMs = 0;
      await this.#start(container, { restartCount: 0, stoppedByUser: false }, signal);
    });
  }

  /** Stop signal, then SIGKILL. Resolves when the run has been cleaned up. */
  async stop(
    container: LiveContainer,
    options: { readonly timeoutSeconds?: number; readonly signal?: string },
    signal: AbortSignal,
  ): Promise<void> {
    const { spec } = container.record;
    const stopSignal = parseSignal(options.signal ?? (spec.stopSignal === "" ? "TERM" : spec.stopSignal));
    const timeoutSeconds = options.timeoutSeconds ?? spec.stopTimeoutSeconds ?? defaultStopTimeoutSeconds;
    const run = await this.exclusively(container, async () => {
      const wasRestarting = container.restartTimer !== undefined;
      this.#cancelRestart(container);
      if (!container.isRunning && !wasRestarting) {
        throw new EngineError("not-modified", `container ${container.id} is not running`);
      }
      const { state } = container.record;
      const settled = state.kind === "exited" ? { state: { ...state, willRestart: false } } : {};
      if (!this.#isShuttingDown) await this.#update(container, { stoppedByUser: true, ...settled });
      if (!container.isRunning) return undefined;
      await this.#signal(container, stopSignal);
      return container.run;
    });
    if (run === undefined) return;
    const finishedInTime = await this.#finishedWithin(
      run,
      timeoutSeconds < 0 ? undefined : timeoutSeconds * 1000,
      signal,
    );
    if (!finishedInTime) await this.#killRun(container, run, signal);
    this.#context.emit(container, "stop");
  }

  async kill(container: LiveContainer, signalName: string): Promise<void> {
    const number = parsedForKill(container, signalName === "" ? "KILL" : signalName);
    const run = await this.exclusively(container, async () => {
      if (!container.isRunning) {
        // compat:
        throw new EngineError(
          "conflict",
          `cannot kill container: ${container.record.name}: container ${container.id} is not running`,
        );
      }
      const stops = number === sigkill || number === stopSignalOf(container);
      if (stops) await this.#update(container, { stoppedByUser: true });
      await this.#signal(container, number);
      return container.run;
    });
    // As Docker's: a SIGKILL has been obeyed when this returns.
    if (number === sigkill && run !== undefined)
      await this.#finishedWithin(run, killWaitMs, this.#context.scope.signal);
  }

  async remove(
    container: LiveContainer,
    options: { readonly force: boolean; readonly volumes: boolean },
    signal: AbortSignal,
  ): Promise<void> {
    if (container.isRunning) {
      if (!options.force) {
        // compat:
        throw new EngineError(
          "conflict",
          `cannot remove container "${container.record.name}": container is running: stop the container before removing or force remove`,
        );
      }
      await this.kill(container, "KILL").catch((error: unknown) => {
        // It ended by itself in between.
        if (container.isRunning) throw error;
      });
    }
    await this.exclusively(container, async () => {
      if (this.#context.directory.get(container.id) === undefined) return;
      if (container.restartTimer !== undefined && !options.force) {
        // compat:
        throw new EngineError(
          "conflict",
          `cannot remove container "${container.record.name}": container is restarting: stop the container before removing or force remove`,
        );
      }
      if (container.isRunning)
        throw new EngineError("conflict", `cannot remove container "${container.id}": it still runs`);
      this.#cancelRestart(container);
      await this.finishRemoval(container, options.volumes, signal);
    });
  }

  /** From any state that does not run; taken up again by recovery when it is cut short. */
  async finishRemoval(container: LiveContainer, volumes: boolean, signal: AbortSignal): Promise<void> {
    const { state } = container.record;
    if (state.kind !== "removing") {
      const finishedAt = state.kind === "exited" || state.kind === "dead" ? state.finishedAt : neverTime;
      const exitCode = exitCodeOf(state);
      await this.#update(container, {
        state: { kind: "removing", exitCode, startedAt: startedAtOf(state), finishedAt },
        removeVolumes: volumes,
      });
    }
    await this.#context.steps.applyAll(planRemove(container.record, container.isReleased), { container }, signal);
    this.#context.directory.remove(container);
    this.#context.onGone(container);
    container.gone();
    this.#context.emit(container, "destroy");
  }

  /** Opens our ends of the pipes that an earlier daemon made; a container whose pipes are gone runs on without a log. */
  async adoptStreams(container: LiveContainer): Promise<void> {
    container.openLog();
    try {
      container.io.reopen();
    } catch (error) {
      this.#context.log.warn("cannot take up a container's output", { container: container.id, error });
    }
  }

  /** A container that an earlier daemon started, and may have died before it wrote that down. */
  async adopt(container: LiveContainer, pid: number): Promise<void> {
    const { state } = container.record;
    if (state.kind === "running" && state.pid === pid) return;
    await this.#update(container, {
      state: { kind: "running", pid, startedAt: this.#context.clock.wall().toISOString() },
    });
  }

  /** Follows a task that runs already: after a start, or when an earlier daemon started it. */
  follow(container: LiveContainer, run: Run): void {
    const exited = this.#context.containerd.tasks.wait({ containerId: container.id });
    this.#watch(container, run, exited);
  }

  /** Cleans up after a run and records its end; then restarts or removes, as was asked. */
  async finishRun(container: LiveContainer, run: Run, exit: Exit): Promise<void> {
    const restarts = await this.exclusively(container, async () => {
      const { state } = container.record;
      await this.#release(container, true);
      const finishedAt = exit.exitedAt ?? this.#context.clock.wall().toISOString();
      const restarts = !this.#isShuttingDown && restartsAfterExit(container.record, exit.exitCode);
      const isRemoved = container.record.spec.host.autoRemove && !this.#context.scope.signal.aborted;
      const startedAt = startedAtOf(state);
      await this.#update(container, {
        sandboxId: undefined,
        sandboxOwner: undefined,
        restartCount: container.record.restartCount + (restarts ? 1 : 0),
        // With --rm its end and the beginning of its removal are one record.
        ...(isRemoved ? { removeVolumes: true } : {}),
        state: isRemoved
          ? { kind: "removing", exitCode: exit.exitCode, startedAt, finishedAt }
          : {
              kind: "exited",
              exitCode: exit.exitCode,
              startedAt,
              finishedAt,
              oomKilled: run.oomKilled,
              error: "",
              ...(restarts ? { willRestart: true } : {}),
            },
      });
      if (run.oomKilled) this.#context.emit(container, "oom");
      this.#context.emit(container, "die", { exitCode: String(exit.exitCode) });
      container.endRun();
      return restarts;
    });
    if (restarts) this.#scheduleRestart(container, run);
    else if (container.record.spec.host.autoRemove && !this.#context.scope.signal.aborted) {
      await this.remove(container, { force: false, volumes: true }, this.#context.scope.signal);
    }
  }

  /** A start that did not get to the process: everything of it goes, and the container is as it was, but for the error. */
  async abandonStart(container: LiveContainer, failure: StartFailure | undefined): Promise<void> {
    await this.#release(container, false).catch((error: unknown) => {
      this.#context.log.error("cannot clean up after a failed start", { container: container.id, error });
    });
    const { state } = container.record;
    await this.#update(container, {
      sandboxId: undefined,
      sandboxOwner: undefined,
      ...(failure === undefined ? {} : { state: failedState(state, failure) }),
    });
  }

  /** Clean shutdown: what runs is stopped and may be started again with the daemon. */
  async stopAll(signal: AbortSignal): Promise<void> {
    this.#isShuttingDown = true;
    await Promise.all(
      this.#context.directory.all().map(async (container) => {
        this.#cancelRestart(container);
        if (!container.isRunning) return;
        try {
          await this.stop(container, {}, signal);
        } catch (error) {
          this.#context.log.warn("cannot stop a container", { container: container.id, error });
        }
      }),
    );
  }

  /** A restart policy's start when the daemon comes up; nobody waits for it. */
  startWithDaemon(container: LiveContainer): void {
    this.#context.scope.run(`start-${container.id}`, (signal) => this.#startByPolicy(container, signal));
  }

  /** The daemon goes without stopping anything: no policy acts any more. */
  letGo(): void {
    this.#isShuttingDown = true;
    for (const container of this.#context.directory.all()) this.#cancelRestart(container);
  }

  markOom(containerId: string): void {
    const run = this.#context.directory.get(containerId)?.run;
    if (run !== undefined) run.oomKilled = true;
  }

  async #start(container: LiveContainer, changes: Partial<ContainerRecord>, signal: AbortSignal): Promise<void> {
    const { steps, random, clock, directory, containerd } = this.#context;
    let pid = 0;
    let exited: ReturnType<Containerd["tasks"]["wait"]> | undefined;
    const run = container.beginRun();
    try {
      const owner = ownerOf(container.record, directory);
      const sandboxId = owner === undefined ? newHexId(random) : owner.record.sandboxId;
      const next = { ...container.record, ...changes, sandboxId, sandboxOwner: owner?.id };
      const plan = planStart(next);
      const last = Math.max(...plan.map((step) => step.phase));
      await steps.apply(
        plan.filter((step) => step.phase < last),
        { container, next },
        signal,
      );
      // Asked before the start: a process that ends at once is not missed.
      exited = containerd.tasks.wait({ containerId: container.id });
      exited.catch(() => {});
      pid = await steps.apply(
        plan.filter((step) => step.phase === last),
        { container },
        signal,
      );
    } catch (error) {
      const failure = startFailure(error, "container");
      await this.abandonStart(container, failure);
      container.endRun();
      if (container.record.spec.host.autoRemove) await this.finishRemoval(container, true, this.#context.scope.signal);
      throw error instanceof EngineError ? error : failure;
    }
    await this.#update(container, { state: { kind: "running", pid, startedAt: clock.wall().toISOString() } });
    this.#context.emit(container, "start");
    this.#watch(container, run, exited);
  }

  #watch(container: LiveContainer, run: Run, first: ReturnType<Containerd["tasks"]["wait"]>): void {
    this.#context.scope.run(`container-${container.id}`, async (signal) => {
      const exit = await this.#awaitExit(container, first, signal);
      if (exit === undefined) return;
      try {
        await this.finishRun(container, run, exit);
      } catch (error) {
        // One container's trouble is not the others'; the next start of the daemon tries again.
        this.#context.log.error("cannot clean up after a container", { container: container.id, error });
      }
    });
  }

  /** Survives restarts of containerd. undefined: the daemon ends. */
  async #awaitExit(
    container: LiveContainer,
    first: ReturnType<Containerd["tasks"]["wait"]>,
    signal: AbortSignal,
  ): Promise<Exit | undefined> {
    const { tasks } = this.#context.containerd;
    for (let waiting: ReturnType<Containerd["tasks"]["wait"]> = first; !signal.aborted; ) {
      try {
        const response = await withSignal(waiting, signal);
        return { exitCode: response.exitStatus, exitedAt: formatTimestamp(response.exitedAt) };
      } catch (error) {
        if (signal.aborted) return undefined;
        if (isNotFound(error)) return { exitCode: 255, exitedAt: undefined };
        if (!isUnavailable(error))
          this.#context.log.warn("waiting for a container failed", { container: container.id, error });
        await this.#context.clock.sleep(waitRetryMs, signal).catch(() => {});
        waiting = tasks.wait({ containerId: container.id });
        waiting.catch(() => {});
      }
    }
    return undefined;
  }

  async #release(container: LiveContainer, ran: boolean): Promise<void> {
    // A clean-up is not cancelled by whoever asked for the stop.
    const signal = new AbortController().signal;
    try {
      await this.#context.steps.applyAll(planRelease(container.record, ran), { container }, signal);
      container.isReleased = true;
    } finally {
      container.closeLog();
      await container.io.finish();
    }
  }

  #scheduleRestart(container: LiveContainer, run: Run): void {
    const { clock, scope } = this.#context;
    container.restartDelayMs = nextRestartDelayMs(container.restartDelayMs, clock.now() - run.startedMs);
    container.restartTimer = clock.after(container.restartDelayMs, () => {
      if (container.restartTimer === undefined) return;
      container.restartTimer = undefined;
      scope.run(`restart-${container.id}`, (signal) => this.#startByPolicy(container, signal));
    });
  }

  async #startByPolicy(container: LiveContainer, signal: AbortSignal): Promise<void> {
    await this.exclusively(container, async () => {
      if (container.run !== undefined || container.record.state.kind === "removing" || this.#isShuttingDown) return;
      try {
        await this.#start(container, {}, signal);
      } catch (error) {
        this.#context.log.warn("a restart policy's start failed", {
          container: container.id,
          error: failureText(error),
        });
      }
    });
  }

  #cancelRestart(container: LiveContainer): void {
    container.restartTimer?.[Symbol.dispose]();
    container.restartTimer = undefined;
  }

  async #signal(container: LiveContainer, number: number): Promise<void> {
    try {
      await this.#context.containerd.tasks.kill({ containerId: container.id, signal: number });
    } catch (error) {
      // It ended by itself; its exit is being seen to.
      if (!isNotFound(error) && !isFailedPrecondition(error)) {
        throw new EngineError("internal", `cannot kill container: ${container.id}: ${rawMessage(error)}`, {
          cause: error,
        });
      }
    }
    this.#context.emit(container, "kill", { signal: String(number) });
  }

  async #killRun(container: LiveContainer, run: Run, signal: AbortSignal): Promise<void> {
    await this.#signal(container, sigkill);
    if (await this.#finishedWithin(run, killWaitMs, signal)) return;
    throw new EngineError(
      "internal",
      `cannot stop container: ${container.id}: tried to kill container, but did not receive an exit event`,
    );
  }

  /** True when the run was over in time; undefined waits for ever. */
  async #finishedWithin(run: Run, timeoutMs: number | undefined, signal: AbortSignal): Promise<boolean> {
    const giveUp = new AbortController();
    const over = run.finished.promise.then(() => true);
    const either = AbortSignal.any([giveUp.signal, signal]);
    const timeout =
      timeoutMs === undefined
        ? new Promise<never>((_, reject) =>
            either.addEventListener("abort", () => reject(either.reason), { once: true }),
          )
        : this.#context.clock.sleep(timeoutMs, either).then(() => false);
    timeout.catch(() => {});
    try {
      return await Promise.race([over, timeout]);
    } finally {
      giveUp.abort();
    }
  }

  async #update(container: LiveContainer, changes: Partial<ContainerRecord>): Promise<void> {
    const record = { ...container.record, ...changes };
    await this.#context.records.put(record.id, record);
    container.record = record;
  }
}

/** `container:TERM`: whose sandbox is shared. @throws {EngineError} in Docker's words when there is none to share. */
function ownerOf(record: ContainerRecord, directory: ContainerDirectory): LiveContainer | undefined {
  const { networkMode } = record.spec;
  if (!networkMode.startsWith("container:")) return undefined;
  let owner: LiveContainer;
  try {
    owner = directory.find(networkMode.slice("container:".length));
  } catch (error) {
    // compat:
    throw new EngineError("not-found", `joining network namespace of container: ${messageOf(error)}`, { cause: error });
  }
  if (owner.id === record.id) {
    // compat:
    throw new EngineError("invalid", "joining network namespace of container: cannot join own network namespace");
  }
  if (owner.isRunning) {
    // Sharing with one who shares is sharing with the same third.
    const { sandboxOwner } = owner.record;
    return (sandboxOwner === undefined ? undefined : directory.get(sandboxOwner)) ?? owner;
  }
  // compat:
  throw new EngineError(
    "conflict",
    `cannot join network namespace of a non running container: container ${owner.record.name} is ${owner.record.state.kind}`,
  );
}

/** compat: a container that never ran stays `created`, one that ran before stays `exited` with its old times. */
function failedState(before: ContainerState, failure: StartFailure): ContainerState {
  const { exitCode, message: error } = failure;
  if (before.kind !== "exited") return { kind: "created", failure: { exitCode, error } };
  return { ...before, exitCode, oomKilled: false, error, willRestart: false };
}

function stopSignalOf(container: LiveContainer): number {
  const { stopSignal } = container.record.spec;
  return parseSignal(stopSignal === "" ? "TERM" : stopSignal);
}

function parsedForKill(container: LiveContainer, text: string): number {
  try {
    return parseSignal(text);
  } catch (error) {
    // compat:
    throw new EngineError("invalid", `cannot kill container: ${container.record.name}: ${messageOf(error)}`, {
      cause: error,
    });
  }
}

function formatTimestamp(time: { readonly seconds: bigint; readonly nanos: number } | undefined): string | undefined {
  if (time === undefined) return undefined;
  const text = new Date(Number(time.seconds) * 1000).toISOString();
  return text.replace(/\.\d+Z$/, `.${String(time.nanos).padStart(9, "0")}Z`);
}
