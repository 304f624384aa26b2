import { existsSync, statSync } from "node:fs";
import { join } from "node:path";
import { type Deferred, deferred, withSignal } from "../../base/async.ts";
import type { Clock } from "../../base/clock.ts";
import { EngineError } from "../../base/errors.ts";
import { exitCodeOf } from "../containers/record.ts";
import { JsonFileLog } from "../logs/json-file.ts";
import { type LogLimits, parseLogLimits } from "../logs/limits.ts";
import type { LogSource } from "../logs/reader.ts";
import type { ContainerRecord } from "../model.ts";
import type { SnapshotMount } from "../runtime-spec/rootfs.ts";
import { ProcessIo } from "../streams/process-io.ts";

/** One run of a container, from its start to the clean-up after its exit. */
export interface Run {
  /** Resolves when everything of the run has been cleaned up and recorded. */
  readonly finished: Deferred<number>;
  readonly startedMs: number;
  oomKilled: boolean;
}

export interface ContainerPlaces {
  /** `<data root>/containers`. */
  readonly data: string;
  /** `<exec root>/containers`: pipes. */
  readonly exec: string;
}

/** A container in memory: its record, its streams, and who waits for it. Decides nothing. */
export class LiveContainer {
  record: ContainerRecord;
  /** Set while it runs, or is being started or cleaned up. */
  run: Run | undefined;
  /** Nothing of an earlier run is left: no task, no sandbox. Not known after a restart of the daemon. */
  isReleased = false;
  /** What containerd returned for its snapshot; fetched again when a new daemon knows it no more. */
  rootfs: readonly SnapshotMount[] | undefined;
  consoleSize: { readonly height: number; readonly width: number } | undefined;
  /** A restart policy's next start. */
  restartTimer: Disposable | undefined;
  restartDelayMs = 0;
  readonly io: ProcessIo;
  readonly dataDirectory: string;
  readonly execDirectory: string;
  readonly #clock: Clock;
  #log: JsonFileLog | undefined;
  #logVersion = 0;
  #logRotations = 0;
  #logWaiters: Deferred<void> = deferred();
  #nextExit: Deferred<number> = deferred();
  readonly #removed: Deferred<number> = deferred();

  constructor(options: {
    readonly record: ContainerRecord;
    readonly places: ContainerPlaces;
    readonly clock: Clock;
    readonly closeInput: (id: string) => Promise<void>;
  }) {
    this.record = options.record;
    this.#clock = options.clock;
    this.dataDirectory = join(options.places.data, options.record.id);
    this.execDirectory = join(options.places.exec, options.record.id);
    this.io = new ProcessIo({
      prefix: `${this.execDirectory}/`,
      tty: options.record.spec.tty,
      openStdin: options.record.spec.openStdin,
      clock: options.clock,
      onOutput: (stream, chunk) => this.#log?.write(stream, chunk),
      closeInput: () => options.closeInput(options.record.id),
    });
  }

  get id(): string {
    return this.record.id;
  }

  get isRunning(): boolean {
    return this.record.state.kind === "running";
  }

  get logPath(): string {
    return join(this.dataDirectory, `${this.id}-json.log`);
  }

  get hasLog(): boolean {
    return this.record.spec.host.logDriver !== "none";
  }

  openLog(): void {
    if (!this.hasLog) return;
    this.#log = new JsonFileLog({
      path: this.logPath,
      clock: this.#clock,
      limits: this.#logLimits(),
      onWrite: () => this.#logChanged(),
      onRotate: () => {
        this.#logRotations += 1;
      },
    });
  }

  closeLog(): void {
    this.#log?.[Symbol.dispose]();
    this.#log = undefined;
    this.#logChanged();
  }

  /** For readers; `upTo` "now" stops at what has been written so far. */
  logSource(upTo: "end" | "now"): LogSource {
    if (upTo === "now") {
      this.#log?.flush("stdout");
      this.#log?.flush("stderr");
    }
    const size = existsSync(this.logPath) ? statSync(this.logPath).size : 0;
    return {
      path: this.logPath,
      maximumFiles: this.#logLimits().maximumFiles,
      rotations: () => this.#logRotations,
      version: () => this.#logVersion,
      changed: (seen, signal) =>
        this.#logVersion > seen ? Promise.resolve() : withSignal(this.#logWaiters.promise, signal),
      // As Docker's: a container that does not run is not followed.
      isFinished: () => this.run === undefined,
      ...(upTo === "now" ? { end: { rotations: this.#logRotations, offset: size } } : {}),
    };
  }

  beginRun(): Run {
    this.isReleased = false;
    this.run = { finished: deferred(), startedMs: this.#clock.now(), oomKilled: false };
    return this.run;
  }

  /** Tells everybody who waits for an exit; the record must say it already. */
  endRun(): void {
    const code = exitCodeOf(this.record.state);
    const { run } = this;
    this.run = undefined;
    run?.finished.resolve(code);
    this.#nextExit.resolve(code);
    this.#nextExit = deferred();
    this.#logChanged();
  }

  gone(): void {
    const code = exitCodeOf(this.record.state);
    this.run?.finished.resolve(code);
    this.#nextExit.resolve(code);
    this.#removed.resolve(code);
    this.#logChanged();
  }

  wait(condition: "not-running" | "next-exit" | "removed"): Promise<number> {
    if (condition === "removed") return this.#removed.promise;
    if (condition === "next-exit") return this.#nextExit.promise;
    return this.run === undefined ? Promise.resolve(exitCodeOf(this.record.state)) : this.run.finished.promise;
  }

  /** @throws {EngineError} `conflict` in Docker's words. */
  assertRunning(): void {
    // compat:
    if (this.restartTimer !== undefined) {
      throw new EngineError("conflict", `Container ${this.id} is restarting, wait until the container is running`);
    }
    // compat:
    if (!this.isRunning) throw new EngineError("conflict", `container ${this.id} is not running`);
  }

  #logLimits(): LogLimits {
    const { logDriver, logOptions } = this.record.spec.host;
    return parseLogLimits(logDriver, logOptions);
  }

  #logChanged(): void {
    this.#logVersion += 1;
    this.#logWaiters.resolve();
    this.#logWaiters = deferred();
  }
}
