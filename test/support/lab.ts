// A lab of its own for one test file: brought up before, removed afterwards whatever happens.
import { spawn } from "node:child_process";
import { setTimeout as sleep } from "node:timers/promises";
import { type Lab, type LabHost, labDown, labUp, openLabPaths } from "../../src/lab/mod.ts";

export interface Result {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
  /** Both, in that order. */
  readonly output: string;
}

export interface TestLab {
  readonly lab: Lab;
  readonly hosts: readonly LabHost[];
  /** Runs `docker` against host `number`; never rejects for a failing command. */
  docker(number: number, ...args: readonly string[]): Promise<Result>;
  /** The same, but a failing command fails the test; returns its trimmed standard output. */
  ok(number: number, ...args: readonly string[]): Promise<string>;
  host(number: number): LabHost;
  /** A command inside a host's network namespace. */
  inHost(number: number, ...command: readonly string[]): Promise<Result>;
}

/** Brings up the lab `name` with `count` hosts, runs `body`, and takes it down. */
export async function withLab(name: string, count: number, body: (lab: TestLab) => Promise<void>): Promise<void> {
  const lab = openLabPaths({ ...process.env, WEFT_LAB: name });
  await labDown(lab, () => {});
  try {
    const hosts = await labUp(lab, count, () => {}, new AbortController().signal);
    await body(testLab(lab, hosts));
  } finally {
    await labDown(lab, () => {});
  }
}

function testLab(lab: Lab, hosts: readonly LabHost[]): TestLab {
  const host = (number: number) => {
    const found = hosts[number - 1];
    if (found === undefined) throw new RangeError(`no host ${number} in the lab`);
    return found;
  };
  const docker = (number: number, ...args: readonly string[]) =>
    command(["docker", "-H", `unix://${host(number).socket}`, ...args]);
  return {
    lab,
    hosts,
    host,
    docker,
    inHost: (number, ...words) => command(["nsenter", `--net=/run/netns/${host(number).namespace}`, ...words]),
    async ok(number, ...args) {
      const result = await docker(number, ...args);
      if (result.code !== 0)
        throw new Error(`docker ${args.join(" ")} on host ${number} ended with ${result.code}: ${result.output}`);
      return result.stdout.trim();
    },
  };
}

export function command(
  words: readonly string[],
  options: { readonly input?: string; readonly timeoutMs?: number } = {},
): Promise<Result> {
  return new Promise((resolve, reject) => {
    const [file, ...args] = words;
    const child = spawn(file as string, args, {
      stdio: [options.input === undefined ? "ignore" : "pipe", "pipe", "pipe"],
      timeout: options.timeoutMs ?? 120_000,
    });
    let stdout = "";
    let stderr = "";
    child.stdout?.on("data", (chunk: Buffer) => (stdout += String(chunk)));
    child.stderr?.on("data", (chunk: Buffer) => (stderr += String(chunk)));
    child.on("error", reject);
    child.on("close", (code) => resolve({ code: code ?? 255, stdout, stderr, output: stdout + stderr }));
    child.stdin?.end(options.input);
  });
}

/** Waits until `look` gives something other than undefined or false. @throws with `what` after the time. */
export async function eventually<T>(
  what: string,
  timeoutMs: number,
  look: () => Promise<T | undefined | false>,
): Promise<T> {
  const end = performance.now() + timeoutMs;
  for (;;) {
    const found = await look();
    if (found !== undefined && found !== false) return found;
    if (performance.now() > end) throw new Error(`${what}: not within ${timeoutMs} ms`);
    await sleep(100);
  }
}
