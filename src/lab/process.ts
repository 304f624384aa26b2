import { spawn } from "node:child_process";
import { closeSync, mkdirSync, openSync } from "node:fs";
import { readdir, readFile, readlink } from "node:fs/promises";
import { request } from "node:http";
import { dirname } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { EngineError, messageOf } from "../base/errors.ts";

/** A command started to outlive us; `ended` aborts when it ends while we still look. */
export interface Detached {
  readonly ended: AbortSignal;
}

/** Starts a command that outlives us, its output appended to `logFile`. */
export function startDetached(
  command: readonly string[],
  logFile: string,
  environment: Readonly<Record<string, string>> = {},
): Detached {
  mkdirSync(dirname(logFile), { recursive: true });
  const log = openSync(logFile, "a");
  const [file, ...args] = command;
  const child = spawn(file as string, args, {
    detached: true,
    stdio: ["ignore", log, log],
    env: { ...process.env, ...environment },
  });
  child.unref();
  closeSync(log);
  const ended = new AbortController();
  child.on("error", (error) => ended.abort(error));
  child.on("exit", (code, signal) => ended.abort(new Error(`ended with ${signal ?? code}`)));
  return { ended: ended.signal };
}

/** What a command printed; rejects with its last lines when it fails. */
export function run(command: readonly string[], options?: { readonly input?: string }): Promise<string> {
  return new Promise((resolve, reject) => {
    const [file, ...args] = command;
    const child = spawn(file as string, args, {
      stdio: [options?.input === undefined ? "ignore" : "pipe", "pipe", "pipe"],
    });
    let output = "";
    let errors = "";
    child.stdout?.on("data", (chunk: Buffer) => (output += String(chunk)));
    child.stderr?.on("data", (chunk: Buffer) => (errors += String(chunk)));
    child.on("error", reject);
    child.on("close", (code) => {
      if (code === 0) resolve(output);
      else
        reject(new EngineError("internal", `'${command.join(" ")}' ended with ${code}: ${(errors || output).trim()}`));
    });
    child.stdin?.end(options?.input);
  });
}

/** Whether something answers `GET /_ping` on a unix socket. */
export function isAnswering(socketPath: string): Promise<boolean> {
  return new Promise((resolve) => {
    const ping = request({ socketPath, path: "/_ping", timeout: 2000 }, (response) => {
      response.resume();
      resolve(response.statusCode === 200);
    });
    ping.on("error", () => resolve(false));
    ping.on("timeout", () => ping.destroy());
    ping.end();
  });
}

/** Waits for a daemon's socket. @throws with the end of its log when the daemon has ended or is too slow. */
export async function waitUntilReady(options: {
  readonly socket: string;
  readonly pidFile: string;
  readonly logFile: string;
  readonly timeoutMs: number;
  readonly process: Detached;
}): Promise<void> {
  const end = Date.now() + options.timeoutMs;
  while (!(await isAnswering(options.socket))) {
    if (Date.now() > end || options.process.ended.aborted) {
      const log = await readFile(options.logFile, "utf8").catch(() => "");
      const tail = log.trimEnd().split("\n").slice(-5).join("\n");
      throw new EngineError(
        "unavailable",
        `weftd ${options.process.ended.aborted ? messageOf(options.process.ended.reason) : `does not answer on ${options.socket}`}; the end of ${options.logFile}:\n${tail}`,
      );
    }
    await sleep(50);
  }
}

/** Process id in a pid file, when that process lives. */
export async function livePid(pidFile: string): Promise<number | undefined> {
  const text = await readFile(pidFile, "utf8").catch(() => "");
  const pid = Number(text.trim());
  return Number.isInteger(pid) && pid > 0 && isAlive(pid) ? pid : undefined;
}

export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

/** SIGTERM, and SIGKILL when that is not enough. */
export async function stopProcess(pid: number, graceMs: number): Promise<void> {
  signalQuietly(pid, "SIGTERM");
  const end = Date.now() + graceMs;
  while (isAlive(pid) && Date.now() < end) await sleep(20);
  signalQuietly(pid, "SIGKILL");
  while (isAlive(pid) && Date.now() < end + 2000) await sleep(20);
}

export function signalQuietly(pid: number, name: NodeJS.Signals): void {
  try {
    process.kill(pid, name);
  } catch {
    // It has ended already.
  }
}

export interface ProcessInfo {
  readonly pid: number;
  readonly command: readonly string[];
}

/** Every process whose command line mentions `text`. */
export async function processesMentioning(text: string): Promise<readonly ProcessInfo[]> {
  return (await allProcesses()).filter(
    (info) => info.pid !== process.pid && info.command.some((word) => word.includes(text)),
  );
}

export async function allProcesses(): Promise<readonly ProcessInfo[]> {
  const pids = (await readdir("/proc")).filter((name) => /^\d+$/.test(name));
  const infos = await Promise.all(
    pids.map(async (pid) => {
      const line = await readFile(`/proc/${pid}/cmdline`, "utf8").catch(() => "");
      return { pid: Number(pid), command: line.split("\0").filter((word) => word !== "") };
    }),
  );
  return infos.filter((info) => info.command.length > 0);
}

/** Processes that live in the network namespace bound to `path`. */
export async function processesInNamespace(path: string): Promise<readonly number[]> {
  const { statSync } = await import("node:fs");
  let wanted: number;
  try {
    wanted = statSync(path).ino;
  } catch {
    return [];
  }
  const found = await Promise.all(
    (await allProcesses()).map(async ({ pid }) => {
      const link = await readlink(`/proc/${pid}/ns/net`).catch(() => "");
      return link === `net:[${wanted}]` ? pid : undefined;
    }),
  );
  return found.filter((pid) => pid !== undefined);
}

/** Mount points at or below a directory, deepest first. */
export async function mountsBelow(directory: string): Promise<readonly string[]> {
  const table = await readFile("/proc/self/mounts", "utf8");
  return table
    .split("\n")
    .map((line) => (line.split(" ")[1] ?? "").replaceAll("\\040", " "))
    .filter((point) => point === directory || point.startsWith(`${directory}/`))
    .sort((a, b) => b.length - a.length);
}
