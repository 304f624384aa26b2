import type { Readable, Writable } from "node:stream";
import type { EndpointRequest } from "../network/mod.ts";
import type { ContainerRecord, ContainerSpec, ImageDetail, ImageSummary, MountSpec, Volume } from "./model.ts";

/** Containers on this host, over containerd. Everything acknowledged is on disk and in containerd's care. */
export interface Containers extends AsyncDisposable {
  list(): readonly ContainerRecord[];
  /** By full id, name (with or without `/`), unique id prefix. @throws {EngineError} `not-found` `No such container: x`. */
  find(term: string): ContainerRecord;
  create(
    spec: ContainerSpec,
    name: string | undefined,
    signal: AbortSignal,
  ): Promise<{ readonly id: string; readonly warnings: readonly string[] }>;
  /** @throws {EngineError} `not-modified` when already running. On failure it stays as it was, with the error. */
  start(id: string, signal: AbortSignal): Promise<void>;
  /** Stop signal, then SIGKILL after the timeout (undefined: the container's own, 10 s). `not-modified` when not running. */
  stop(
    id: string,
    options: { readonly timeoutSeconds?: number; readonly signal?: string },
    signal: AbortSignal,
  ): Promise<void>;
  restart(
    id: string,
    options: { readonly timeoutSeconds?: number; readonly signal?: string },
    signal: AbortSignal,
  ): Promise<void>;
  kill(id: string, signalName: string): Promise<void>;
  remove(
    id: string,
    options: { readonly force: boolean; readonly volumes: boolean },
    signal: AbortSignal,
  ): Promise<void>;
  rename(id: string, name: string): Promise<void>;
  resize(id: string, size: { readonly rows: number; readonly columns: number }): Promise<void>;
  /** Resolves with the exit code. `next-exit` waits for the exit after the next start as well; `removed` for the removal. */
  wait(id: string, condition: "not-running" | "next-exit" | "removed", signal: AbortSignal): Promise<number>;
  /** Live streams of the main process; with `logs` what was written before comes first. May be called before start. */
  attach(id: string, options: AttachOptions): Promise<Attached>;
  logs(id: string, options: LogOptions, signal: AbortSignal): AsyncIterable<LogLine>;
  createExec(id: string, spec: ExecSpec): Promise<string>;
  findExec(execId: string): ExecState;
  startExec(
    execId: string,
    options: {
      readonly detach: boolean;
      readonly tty: boolean;
      readonly size?: { readonly rows: number; readonly columns: number };
    },
  ): Promise<Attached | undefined>;
  resizeExec(execId: string, size: { readonly rows: number; readonly columns: number }): Promise<void>;
  connect(id: string, request: EndpointRequest, signal: AbortSignal): Promise<void>;
  disconnect(id: string, network: string, force: boolean, signal: AbortSignal): Promise<void>;
  /** Ids of the processes inside, with the host's numbering; for `top`. */
  pids(id: string): Promise<readonly number[]>;
  events(listener: (event: EngineEvent) => void): Disposable;
}

export interface AttachOptions {
  readonly stdin: boolean;
  readonly stdout: boolean;
  readonly stderr: boolean;
  /** Replay the log first. */
  readonly logs: boolean;
  readonly stream: boolean;
}

/** Ends of a process's streams. With a TTY everything comes on `stdout`. `close` lets go without touching the process. */
export interface Attached {
  readonly stdin: Writable | undefined;
  readonly stdout: Readable | undefined;
  readonly stderr: Readable | undefined;
  readonly tty: boolean;
  close(): void;
}

export interface LogOptions {
  readonly stdout: boolean;
  readonly stderr: boolean;
  readonly follow: boolean;
  /** Last lines, per container; undefined: all. */
  readonly tail: number | undefined;
  readonly since: Date | undefined;
  readonly until: Date | undefined;
}

export interface LogLine {
  readonly stream: "stdout" | "stderr";
  /** RFC 3339 with nanoseconds. */
  readonly time: string;
  /** Bytes as written, the newline included where there was one. */
  readonly data: Uint8Array;
}

export interface ExecSpec {
  readonly command: readonly string[];
  readonly tty: boolean;
  readonly attachStdin: boolean;
  readonly attachStdout: boolean;
  readonly attachStderr: boolean;
  readonly env: readonly string[];
  readonly user: string;
  readonly workingDirectory: string;
  readonly privileged: boolean;
  readonly detachKeys: string;
}

export interface ExecState {
  readonly id: string;
  readonly containerId: string;
  readonly spec: ExecSpec;
  readonly running: boolean;
  readonly exitCode: number | undefined;
  readonly pid: number;
}

/** Progress of a pull, load or import, as `docker` prints it. */
export interface Progress {
  readonly id?: string;
  readonly status?: string;
  readonly currentBytes?: number;
  readonly totalBytes?: number;
  readonly stream?: string;
  readonly aux?: Readonly<Record<string, unknown>>;
}

export interface RegistryAuth {
  readonly username: string;
  readonly password: string;
  readonly identityToken: string;
  readonly serverAddress: string;
}

export interface Images {
  list(): Promise<readonly ImageSummary[]>;
  /** By id, id prefix, `name[:tag]`, `name@digest`. @throws {EngineError} `not-found` `No such image: x:latest`. */
  find(term: string): Promise<ImageDetail>;
  pull(
    reference: string,
    options: { readonly auth?: RegistryAuth; readonly platform?: string; readonly progress: (p: Progress) => void },
    signal: AbortSignal,
  ): Promise<void>;
  /** `docker load`: docker-archive or OCI layout, also gzip. */
  load(archive: Readable, progress: (p: Progress) => void, signal: AbortSignal): Promise<void>;
  /** `docker import`: one root file system; `changes` are Dockerfile instructions (CMD, ENTRYPOINT, ENV, …). Returns the id. */
  import(
    archive: Readable,
    options: { readonly reference?: string; readonly message: string; readonly changes: readonly string[] },
    signal: AbortSignal,
  ): Promise<string>;
  tag(source: string, target: string): Promise<void>;
  /** Returns what `docker rmi` prints. @throws {EngineError} `conflict` when a container uses it. */
  remove(
    term: string,
    options: {
      readonly force: boolean;
      readonly noPrune: boolean;
      readonly usedBy: (imageId: string) => readonly ContainerRecord[];
    },
  ): Promise<readonly ({ readonly untagged: string } | { readonly deleted: string })[]>;
  events(listener: (event: EngineEvent) => void): Disposable;
}

export interface Volumes {
  list(): Promise<readonly Volume[]>;
  find(name: string): Promise<Volume>;
  /** Existing with the same name: returned as it is. */
  create(options: {
    readonly name: string | undefined;
    readonly driver: string;
    readonly labels: Readonly<Record<string, string>>;
    readonly options: Readonly<Record<string, string>>;
  }): Promise<Volume>;
  remove(name: string, force: boolean): Promise<void>;
  prune(all: boolean): Promise<{ readonly deleted: readonly string[]; readonly reclaimedBytes: number }>;
}

/** One line of `docker events`. */
export interface EngineEvent {
  readonly type: "container" | "image" | "volume" | "network" | "daemon" | "node" | "service" | "secret" | "config";
  readonly action: string;
  readonly id: string;
  readonly attributes: Readonly<Record<string, string>>;
  readonly scope: "local" | "swarm";
  readonly timeMs: number;
}

export type { MountSpec };
