import { mkdirSync } from "node:fs";
import type { Clock } from "../../base/clock.ts";
import { EngineError, messageOf } from "../../base/errors.ts";
import { newHexId } from "../../base/ids.ts";
import type { Random } from "../../base/random.ts";
import { type Containerd, isNotFound, rawMessage } from "../containerd/mod.ts";
import { mergeEnv } from "../containers/merge.ts";
import { StartFailure, startFailure } from "../containers/start-failure.ts";
import type { Attached, ExecSpec, ExecState } from "../engine.ts";
import type { LiveContainer } from "../lifecycle/container.ts";
import { resolveCapabilities } from "../runtime-spec/capabilities.ts";
import type { OciProcess } from "../runtime-spec/oci.ts";
import { readTextFile } from "../runtime-spec/rootfs.ts";
import { parseSecurityOptions } from "../runtime-spec/security.ts";
import type { HostFacts } from "../runtime-spec/spec.ts";
import { resolveUser } from "../runtime-spec/users.ts";
import type { FifoPool } from "../streams/fifos.ts";
import { ProcessIo } from "../streams/process-io.ts";

const processTypeUrl = "types.containerd.io/opencontainers/runtime-spec/1/Process";
/** Finished ones can be inspected this long: clients ask for the exit code afterwards. */
const keepFinishedMs = 5 * 60_000;

interface Size {
  readonly rows: number;
  readonly columns: number;
}

interface LiveExec {
  state: ExecState;
  started: boolean;
  readonly container: LiveContainer;
}

export interface ExecsOptions {
  readonly containerd: Containerd;
  readonly fifos: FifoPool;
  readonly clock: Clock;
  readonly random: Random;
  readonly host: () => HostFacts;
  readonly emit: (container: LiveContainer, action: string, attributes: Readonly<Record<string, string>>) => void;
  /** The container's own variables, and those of its links. */
  readonly environmentOf: (container: LiveContainer) => readonly string[];
}

/** Commands in running containers. They belong to their container's run and are not stored: Docker forgets them too. */
export class Execs {
  readonly #options: ExecsOptions;
  readonly #execs = new Map<string, LiveExec>();

  constructor(options: ExecsOptions) {
    this.#options = options;
  }

  /** @throws {EngineError} `conflict` when the container does not run. */
  create(container: LiveContainer, spec: ExecSpec): string {
    container.assertRunning();
    // compat:
    if (spec.command.length === 0) throw new EngineError("invalid", "No exec command specified");
    const id = newHexId(this.#options.random);
    const state: ExecState = { id, containerId: container.id, spec, running: false, exitCode: undefined, pid: 0 };
    this.#execs.set(id, { state, started: false, container });
    this.#emit(container, "exec_create", state);
    return id;
  }

  find(id: string): ExecState {
    return this.#get(id).state;
  }

  /** Ids of a container's execs that have not ended. */
  idsOf(containerId: string): readonly string[] {
    return [...this.#execs.values()]
      .filter(({ state }) => state.containerId === containerId && state.exitCode === undefined)
      .map(({ state }) => state.id);
  }

  /** The container is gone. */
  forget(containerId: string): void {
    for (const [id, { state }] of this.#execs) if (state.containerId === containerId) this.#execs.delete(id);
  }

  async start(
    id: string,
    options: { readonly detach: boolean; readonly tty: boolean; readonly size?: Size },
  ): Promise<Attached | undefined> {
    const exec = this.#get(id);
    const { container, state } = exec;
    const { spec } = state;
    // compat:
    if (exec.started) throw new EngineError("conflict", `Error: Exec command ${id} has already run`);
    container.assertRunning();
    exec.started = true;
    const { tasks } = this.#options.containerd;
    const key = { containerId: container.id, execId: id };
    mkdirSync(container.execDirectory, { recursive: true, mode: 0o700 });
    const io = new ProcessIo({
      prefix: `${container.execDirectory}/${id.slice(0, 16)}-`,
      tty: spec.tty,
      openStdin: spec.attachStdin && !options.detach,
      clock: this.#options.clock,
      onOutput: () => {},
      closeInput: async () => {
        await tasks.closeIO({ ...key, stdin: true }).catch(ignoreNotFound);
      },
    });
    const attached = options.detach ? undefined : attach(io, spec);
    let isAdded = false;
    try {
      const process = this.#processOf(container, spec, options.size);
      await io.prepare(this.#options.fifos);
      await tasks.exec({
        ...key,
        ...io.paths,
        terminal: spec.tty,
        spec: { typeUrl: processTypeUrl, value: new TextEncoder().encode(JSON.stringify(process)) },
      });
      isAdded = true;
      const exited = tasks.wait(key);
      const { pid } = await tasks.start(key).catch((error: unknown) => {
        exited.catch(() => {});
        throw error;
      });
      if (exec.state.exitCode === undefined) exec.state = { ...exec.state, running: true, pid };
      this.#emit(container, "exec_start", exec.state);
      // Ends with the process; a lost connection shows as exit code 255.
      void this.#follow(exec, io, exited);
      if (options.size !== undefined && spec.tty) await this.resize(id, options.size);
      return attached;
    } catch (error) {
      const failure = error instanceof EngineError ? error : startFailure(error, "exec");
      exec.state = {
        ...exec.state,
        running: false,
        exitCode: failure instanceof StartFailure ? failure.exitCode : 126,
      };
      await io.finish();
      if (isAdded) await tasks.deleteProcess(key).catch(() => {});
      this.#forgetLater(id);
      throw failure;
    }
  }

  async resize(id: string, size: Size): Promise<void> {
    const { container } = this.#get(id);
    try {
      await this.#options.containerd.tasks.resizePty({
        containerId: container.id,
        execId: id,
        width: size.columns,
        height: size.rows,
      });
    } catch (error) {
      if (!isNotFound(error)) throw new EngineError("conflict", `cannot resize exec ${id}: ${rawMessage(error)}`);
    }
  }

  async #follow(exec: LiveExec, io: ProcessIo, exited: Promise<{ readonly exitStatus: number }>): Promise<void> {
    const { id } = exec.state;
    const exitCode = await exited.then(
      (response) => response.exitStatus,
      () => 255,
    );
    await io.drain();
    exec.state = { ...exec.state, running: false, exitCode };
    await io.finish();
    const key = { containerId: exec.container.id, execId: id };
    await this.#options.containerd.tasks.deleteProcess(key).catch(() => {
      // With its container it went as well.
    });
    this.#options.emit(exec.container, "exec_die", { execID: id, exitCode: String(exitCode) });
    this.#forgetLater(id);
  }

  #processOf(container: LiveContainer, spec: ExecSpec, size: Size | undefined): OciProcess {
    const { record } = container;
    const { state } = record;
    const root = state.kind === "running" ? [`/proc/${state.pid}/root`] : [];
    const host = record.spec.host;
    const capabilities = resolveCapabilities({
      privileged: host.privileged || spec.privileged,
      add: host.capAdd,
      drop: host.capDrop,
      available: this.#options.host().capabilities,
    });
    return {
      terminal: spec.tty,
      ...(size === undefined ? {} : { consoleSize: { height: size.rows, width: size.columns } }),
      user: resolveUser(spec.user === "" ? record.process.user : spec.user, host.groupAdd, {
        passwd: readTextFile(root, "/etc/passwd"),
        group: readTextFile(root, "/etc/group"),
      }),
      args: spec.command,
      env: mergeEnv(this.#options.environmentOf(container), spec.tty ? ["TERM=xterm"] : [], spec.env),
      cwd: spec.workingDirectory !== "" ? spec.workingDirectory : record.process.workingDirectory,
      capabilities: { bounding: capabilities, effective: capabilities, permitted: capabilities },
      noNewPrivileges: parseSecurityOptions(host.securityOptions).noNewPrivileges,
    };
  }

  #emit(container: LiveContainer, action: string, state: ExecState): void {
    this.#options.emit(container, `${action}: ${state.spec.command.join(" ")}`, { execID: state.id });
  }

  #forgetLater(id: string): void {
    this.#options.clock.after(keepFinishedMs, () => this.#execs.delete(id));
  }

  #get(id: string): LiveExec {
    const exec = this.#execs.get(id);
    // compat:
    if (exec === undefined) throw new EngineError("not-found", `No such exec instance: ${id}`);
    return exec;
  }
}

function attach(io: ProcessIo, spec: ExecSpec): Attached {
  const stdin = spec.attachStdin ? io.stdin(true) : undefined;
  const stdout = spec.attachStdout ? io.attach("stdout") : undefined;
  const stderr = spec.attachStderr ? io.attach("stderr") : undefined;
  return {
    stdin,
    stdout,
    stderr,
    tty: spec.tty,
    close() {
      stdin?.destroy();
      stdout?.destroy();
      stderr?.destroy();
    },
  };
}

function ignoreNotFound(error: unknown): void {
  if (!isNotFound(error)) throw new EngineError("unavailable", `cannot close the input: ${messageOf(error)}`);
}
