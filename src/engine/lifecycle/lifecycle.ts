import { KeyedMutex } from "../../base/async.ts";
import type { Clock } from "../../base/clock.ts";
import { EngineError } from "../../base/errors.ts";
import { newHexId } from "../../base/ids.ts";
import type { Log } from "../../base/log.ts";
import type { Random } from "../../base/random.ts";
import type { Scope } from "../../base/scope.ts";
import type { Collection } from "../../store/mod.ts";
import type { Containerd } from "../containerd/mod.ts";
import type { ContainerDirectory } from "../containers/directory.ts";
import { exitCodeOf, neverTime, startedAtOf } from "../containers/record.ts";
import { sandboxOwnerOf } from "../containers/shared-sandbox.ts";
import { parseSignal } from "../containers/signals.ts";
import { failureText, type StartFailure, startFailure } from "../containers/start-failure.ts";
import type { ContainerRecord, ContainerState } from "../model.ts";
import type { LiveContainer, Run } from "./container.ts";
import { awaitExit, type Exit, type PendingExit } from "./exit.ts";
import { planForget, planLeave, planRelease, planRemove, planStart } from "./plan.ts";
import { nextRestartDelayMs, restartsAfterExit } from "./restart.ts";
import { finishedWithin, killRun, killWaitMs, parsedForKill, sigkill, signalTask, stopSignalOf } from "./signalling.ts";
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

const defaultStopTimeoutSeconds = 10;

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
      await signalTask(this.#context, container, stopSignal);
      return container.run;
    });
    if (run === undefined) return;
    const timeoutMs = timeoutSeconds < 0 ? undefined : timeoutSeconds * 1000;
    const finishedInTime = await finishedWithin(this.#context.clock, { run, timeoutMs }, signal);
    if (!finishedInTime) await killRun(this.#context, { container, run }, signal);
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
      await signalTask(this.#context, container, number);
      return container.run;
    });
    // As Docker's: a SIGKILL has been obeyed when this returns.
    if (number === sigkill && run !== undefined)
      await finishedWithin(this.#context.clock, { run, timeoutMs: killWaitMs }, this.#context.scope.signal);
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
    this.#announceGone(container);
  }

  #announceGone(container: LiveContainer): void {
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
    if (container.record.spec.host.autoRemove && !this.#context.scope.signal.aborted) {
      await this.exclusively(container, () => this.#finishLastRun(container, run, exit));
      return;
    }
    const restarts = await this.exclusively(container, async () => {
      const { state } = container.record;
      const withoutSandbox = await this.#withoutSandbox(container, this.#release(container, true));
      const finishedAt = exit.exitedAt ?? this.#context.clock.wall().toISOString();
      const restarts = !this.#isShuttingDown && restartsAfterExit(container.record, exit.exitCode);
      await this.#update(container, {
        ...withoutSandbox,
        restartCount: container.record.restartCount + (restarts ? 1 : 0),
        state: {
          kind: "exited",
          exitCode: exit.exitCode,
          startedAt: startedAtOf(state),
          finishedAt,
          oomKilled: run.oomKilled,
          error: "",
          ...(restarts ? { willRestart: true } : {}),
        },
      });
      this.#announceEnd(container, run, exit);
      return restarts;
    });
    if (restarts) this.#scheduleRestart(container, run);
  }

  /**
   * `--rm`: whoever waits is told as soon as the name, the addresses, the ports and the volumes are free again. What nobody
   * else can see follows, and takes longer: the shim's end, the snapshot, the record. Recovery finishes what is cut short.
   */
  async #finishLastRun(container: LiveContainer, run: Run, exit: Exit): Promise<void> {
    const { steps, clock, directory } = this.#context;
    // A clean-up is not cancelled by whoever asked for the stop.
    const signal = new AbortController().signal;
    const leaving = steps.applyAll(planLeave(container.record), { container }, signal);
    const withoutSandbox = await this.#withoutSandbox(container, leaving);
    container.closeLog();
    await container.io.finish();
    const finishedAt = exit.exitedAt ?? clock.wall().toISOString();
    await this.#update(container, {
      ...withoutSandbox,
      removeVolumes: true,
      state: { kind: "removing", exitCode: exit.exitCode, startedAt: startedAtOf(container.record.state), finishedAt },
    });
    this.#announceEnd(container, run, exit);
    await steps.applyAll(planForget(container.record), { container }, signal);
    this.#announceGone(container);
    try {
      await steps.applyAll(planRemove(container.record, false), { container }, signal);
    } catch (error) {
      // There for another try by hand.
      directory.add(container);
      throw error;
    }
  }

  /** What cannot be cleaned up now is tried again by the removal or the next daemon; the end is told all the same. */
  async #withoutSandbox(container: LiveContainer, cleanUp: Promise<void>): Promise<Partial<ContainerRecord>> {
    try {
      await cleanUp;
      return { sandboxId: undefined, sandboxOwner: undefined };
    } catch (error) {
      this.#context.log.error("cannot clean up after a run", { container: container.id, error });
      return {};
    }
  }

  #announceEnd(container: LiveContainer, run: Run, exit: Exit): void {
    if (run.oomKilled) this.#context.emit(container, "oom");
    this.#context.emit(container, "die", { exitCode: String(exit.exitCode) });
    container.endRun();
  }

  /** A start that did not get to the process: everything of it goes, and the container is as it was, but for the error. */
  async abandonStart(container: LiveContainer, failure: StartFailure | undefined): Promise<void> {
    const withoutSandbox = await this.#withoutSandbox(container, this.#release(container, false));
    const { state } = container.record;
    await this.#update(container, {
      ...withoutSandbox,
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
    let exited: PendingExit | undefined;
    const run = container.beginRun();
    try {
      const owner = sandboxOwnerOf(container.record, directory);
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

  #watch(container: LiveContainer, run: Run, first: PendingExit): void {
    this.#context.scope.run(`container-${container.id}`, async (signal) => {
      const exit = await awaitExit(this.#context, { containerId: container.id, first }, signal);
      if (exit === undefined) return;
      try {
        await this.finishRun(container, run, exit);
      } catch (error) {
        // One container's trouble is not the others'; the next start of the daemon tries again.
        this.#context.log.error("cannot clean up after a container", { container: container.id, error });
      }
    });
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

  async #update(container: LiveContainer, changes: Partial<ContainerRecord>): Promise<void> {
    const record = { ...container.record, ...changes };
    await this.#context.records.put(record.id, record);
    container.record = record;
  }
}

/** compat: a container that never ran stays `created`, one that ran before stays `exited` with its old times. */
function failedState(before: ContainerState, failure: StartFailure): ContainerState {
  const { exitCode, message: error } = failure;
  if (before.kind !== "exited") return { kind: "created", failure: { exitCode, error } };
  return { ...before, exitCode, oomKilled: false, error, willRestart: false };
}
