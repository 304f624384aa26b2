import { spawn } from "node:child_process";
import { closeSync, mkdirSync, openSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import type { Clock } from "../../base/clock.ts";
import { EngineError, messageOf } from "../../base/errors.ts";
import type { Log } from "../../base/log.ts";
import { Scope } from "../../base/scope.ts";
import { openContainerd } from "./client.ts";
import { containerdConfig } from "./config.ts";

export interface ContainerdProcessOptions {
  /** `<data root>/containerd`: persistent. */
  readonly root: string;
  /** `<exec root>/containerd`: socket, pid file, shims' state. */
  readonly state: string;
  readonly log: Log;
  readonly clock: Clock;
  /** Default `containerd`, searched in PATH. */
  readonly binary?: string;
}

/** A containerd of our own. It outlives weftd on purpose: only `stop` ends it, disposal merely stops watching. */
export interface ContainerdProcess extends AsyncDisposable {
  readonly socketPath: string;
  readonly pid: number;
  /** Ends containerd; containers that still run go on under their shims. */
  stop(): Promise<void>;
}

const readyTimeoutMs = 20_000;
const watchPeriodMs = 500;

/**
 * Adopts the containerd that an earlier weftd left running, else starts one, detached. While held, a containerd that dies
 * is started again.
 *
 * @throws {EngineError} `unavailable` when it cannot be started; the message says why.
 */
export async function startContainerd(
  options: ContainerdProcessOptions,
  signal: AbortSignal,
): Promise<ContainerdProcess> {
  const supervisor = new Supervisor(options);
  await supervisor.ensure(signal);
  supervisor.watch();
  return supervisor;
}

class Supervisor implements ContainerdProcess {
  readonly socketPath: string;
  readonly #options: ContainerdProcessOptions;
  readonly #scope: Scope;
  readonly #configPath: string;
  readonly #pidPath: string;
  readonly #logPath: string;
  #pid = 0;

  constructor(options: ContainerdProcessOptions) {
    this.#options = options;
    this.#scope = new Scope(options.log);
    this.socketPath = join(options.state, "containerd.sock");
    this.#configPath = join(options.state, "config.toml");
    this.#pidPath = join(options.state, "containerd.pid");
    this.#logPath = join(options.root, "containerd.log");
    if (this.socketPath.length + ".ttrpc".length > 107) {
      throw new EngineError("invalid", `cannot use ${options.state}: the path is too long for a unix socket`);
    }
  }

  get pid(): number {
    return this.#pid;
  }

  /** Leaves a containerd that answers on our socket, ours by its command line. */
  async ensure(signal: AbortSignal): Promise<void> {
    const adopted = this.#runningPid();
    if (adopted === undefined) this.#spawn();
    else this.#pid = adopted;
    await this.#ready(signal);
    this.#options.log.info(adopted === undefined ? "containerd started" : "containerd adopted", { pid: this.#pid });
  }

  watch(): void {
    this.#scope.run("containerd-watch", async (signal) => {
      while (!signal.aborted) {
        await this.#options.clock.sleep(watchPeriodMs, signal);
        if (isAlive(this.#pid)) continue;
        this.#options.log.error("containerd has died; starting it again", { pid: this.#pid });
        try {
          await this.ensure(signal);
        } catch (error) {
          if (signal.aborted) return;
          this.#options.log.error("cannot start containerd; trying again", { error });
        }
      }
    });
  }

  async stop(): Promise<void> {
    await this[Symbol.asyncDispose]();
    if (this.#runningPid() === this.#pid) {
      process.kill(this.#pid, "SIGTERM");
      const never = new AbortController().signal;
      for (let waitedMs = 0; isAlive(this.#pid); waitedMs += 20) {
        if (waitedMs === 10_000) process.kill(this.#pid, "SIGKILL");
        await this.#options.clock.sleep(20, never);
      }
    }
    rmSync(this.#pidPath, { force: true });
    rmSync(this.socketPath, { force: true });
    rmSync(`${this.socketPath}.ttrpc`, { force: true });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#scope[Symbol.asyncDispose]();
  }

  /** The pid of the pid file, if that process is a containerd with our configuration and not a stranger with its number. */
  #runningPid(): number | undefined {
    try {
      const pid = Number(readFileSync(this.#pidPath, "utf8"));
      const args = readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0");
      return args.includes(this.#configPath) && isAlive(pid) ? pid : undefined;
    } catch {
      return undefined;
    }
  }

  #spawn(): void {
    mkdirSync(this.#options.root, { recursive: true, mode: 0o711 });
    mkdirSync(this.#options.state, { recursive: true, mode: 0o711 });
    mkdirSync(dirname(this.socketPath), { recursive: true });
    rmSync(this.socketPath, { force: true });
    rmSync(`${this.socketPath}.ttrpc`, { force: true });
    const oomScore = mayLowerOomScore() ? -999 : undefined;
    const layout = { root: this.#options.root, state: this.#options.state, socketPath: this.socketPath, oomScore };
    writeFileSync(this.#configPath, containerdConfig(layout));
    const log = openSync(this.#logPath, "a", 0o640);
    try {
      // The shell writes the pid file before containerd exists: no moment in which we could die and forget it.
      const child = spawn(
        "/bin/sh",
        [
          "-c",
          'echo $$ > "$1"; exec "$2" --config "$3"',
          "sh",
          this.#pidPath,
          this.#options.binary ?? "containerd",
          this.#configPath,
        ],
        { detached: true, stdio: ["ignore", log, log], cwd: "/" },
      );
      child.unref();
      child.on("error", (error) => this.#options.log.error("cannot run a shell for containerd", { error }));
      this.#pid = child.pid ?? 0;
    } finally {
      closeSync(log);
    }
  }

  async #ready(signal: AbortSignal): Promise<void> {
    const { clock } = this.#options;
    const deadline = clock.now() + readyTimeoutMs;
    let last: unknown;
    while (clock.now() < deadline) {
      signal.throwIfAborted();
      if (!isAlive(this.#pid)) throw new EngineError("unavailable", `containerd ended at once: ${this.#lastLogLine()}`);
      try {
        await using client = openContainerd({ socketPath: this.socketPath, namespace: "weft" });
        await client.version.version({}, { timeoutMs: 2000, signal });
        return;
      } catch (error) {
        last = error;
      }
      await clock.sleep(15, signal);
    }
    throw new EngineError("unavailable", `containerd does not answer on ${this.socketPath}: ${messageOf(last)}`, {
      cause: last,
    });
  }

  #lastLogLine(): string {
    try {
      return readFileSync(this.#logPath, "utf8").trimEnd().split("\n").at(-1) ?? "";
    } catch (error) {
      return messageOf(error);
    }
  }
}

/** A zombie is dead: when an adopted containerd's parent does not reap it, its number lingers. */
function isAlive(pid: number): boolean {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "latin1");
    return !/^[ZX]/.test(stat.slice(stat.lastIndexOf(")") + 2));
  } catch {
    return false;
  }
}

/** Lowering a score needs CAP_SYS_RESOURCE (bit 24), which a weftd inside a virtual machine or container may lack. */
function mayLowerOomScore(): boolean {
  const effective = /^CapEff:\s*([0-9a-f]+)/m.exec(readFileSync("/proc/self/status", "latin1"))?.[1] ?? "0";
  return ((BigInt(`0x${effective}`) >> 24n) & 1n) === 1n;
}
