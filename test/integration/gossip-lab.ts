import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";

/** Why these tests cannot run here, or `false`. */
export const skipReason =
  process.getuid?.() !== 0
    ? "needs root"
    : existsSync("/usr/sbin/ip") || existsSync("/sbin/ip")
      ? false
      : "needs iproute2";

export interface Change {
  readonly change: "put" | "delete";
  readonly key: string;
  readonly value: string;
  readonly owner: string;
  readonly at: number;
}

/** Hosts in namespaces of their own on one bridge, and what runs in them; disposing removes all of it. */
export class Lab implements AsyncDisposable {
  readonly #prefix: string;
  readonly #children = new Set<ChildProcess>();
  readonly #namespaces: string[] = [];

  constructor(prefix: string) {
    this.#prefix = prefix;
    this.#namespace("sw");
    this.#ip("-n", this.#name("sw"), "link", "add", "br0", "type", "bridge");
    this.#ip("-n", this.#name("sw"), "link", "set", "br0", "up");
  }

  /** A host `10.77.0.I`; returns the address. */
  host(i: number): string {
    const name = this.#namespace(`h${i}`);
    const [sw, address] = [this.#name("sw"), `10.77.0.${i}`];
    this.#ip("link", "add", `p${i}`, "netns", sw, "type", "veth", "peer", "name", "eth0", "netns", name);
    this.#ip("-n", sw, "link", "set", `p${i}`, "master", "br0", "up");
    this.#ip("-n", name, "addr", "add", `${address}/24`, "dev", "eth0");
    this.#ip("-n", name, "link", "set", "eth0", "up");
    return address;
  }

  spawn(i: number, command: string, args: readonly string[]): ChildProcess {
    const child = spawn("ip", ["netns", "exec", this.#name(`h${i}`), command, ...args], {
      stdio: ["pipe", "pipe", "pipe"],
    });
    this.#children.add(child);
    child.on("exit", () => this.#children.delete(child));
    return child;
  }

  /** Output of a command that ends by itself. */
  run(i: number, command: string, args: readonly string[]): string {
    return execFileSync("ip", ["netns", "exec", this.#name(`h${i}`), command, ...args], {
      encoding: "utf8",
      stdio: ["ignore", "pipe", "pipe"],
    });
  }

  async agent(
    i: number,
    options: { readonly keys: readonly string[]; readonly delegateVersions?: readonly number[] },
  ): Promise<Agent> {
    const script = new URL("./gossip-agent.ts", import.meta.url).pathname;
    const child = this.spawn(i, process.execPath, [
      script,
      JSON.stringify({ delegateVersions: [0, 0, 0], ...options, address: `10.77.0.${i}` }),
    ]);
    const agent = new Agent(child);
    await agent.ready;
    return agent;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const child of this.#children) child.kill("SIGKILL");
    for (let i = 0; i < 50 && this.#children.size > 0; i++) await sleep(20);
    for (const name of this.#namespaces) {
      try {
        this.#ip("netns", "del", name);
      } catch {
        // Gone already: then there is nothing to clean up.
      }
    }
  }

  #namespace(suffix: string): string {
    const name = this.#name(suffix);
    this.#ip("netns", "add", name);
    this.#namespaces.push(name);
    this.#ip("-n", name, "link", "set", "lo", "up");
    return name;
  }

  #name(suffix: string): string {
    return `${this.#prefix}-${suffix}`;
  }

  #ip(...args: string[]): void {
    execFileSync("ip", args, { stdio: ["ignore", "ignore", "pipe"] });
  }
}

/** A `gossip-agent.ts` process. */
export class Agent {
  readonly ready: Promise<string>;
  readonly changes: Change[] = [];
  readonly child: ChildProcess;
  stderr = "";
  name = "";
  readonly #answers = new Map<number, { resolve(value: unknown): void; reject(error: Error): void }>();
  #next = 1;

  constructor(child: ChildProcess) {
    this.child = child;
    const { promise, resolve, reject } = Promise.withResolvers<string>();
    this.ready = promise;
    child.stderr?.on("data", (text) => {
      this.stderr += String(text);
    });
    child.on("exit", (code) => {
      const error = new Error(`the gossip agent ended (${code}): ${this.stderr}`);
      reject(error);
      for (const answer of this.#answers.values()) answer.reject(error);
    });
    if (child.stdout === null) throw new TypeError("the agent needs its output piped");
    createInterface({ input: child.stdout }).on("line", (line) => {
      const said = JSON.parse(line) as Partial<Change> & {
        ready?: string;
        id?: number;
        result?: unknown;
        error?: string;
      };
      if (said.ready !== undefined) {
        this.name = said.ready;
        resolve(said.ready);
      } else if (said.change !== undefined) this.changes.push(said as Change);
      else if (said.id !== undefined) {
        const answer = this.#answers.get(said.id);
        this.#answers.delete(said.id);
        if (said.error === undefined) answer?.resolve(said.result);
        else answer?.reject(new Error(said.error));
      }
    });
  }

  ask<T = unknown>(command: string, ...args: readonly string[]): Promise<T> {
    const id = this.#next++;
    const { promise, resolve, reject } = Promise.withResolvers<unknown>();
    this.#answers.set(id, { resolve, reject });
    this.child.stdin?.write(`${JSON.stringify([id, command, ...args])}\n`);
    return promise as Promise<T>;
  }

  /** Names and states of the others. */
  async others(): Promise<Record<string, string>> {
    const members = await this.ask<{ name: string; state: string }[]>("members");
    return Object.fromEntries(members.filter(({ name }) => name !== this.name).map(({ name, state }) => [name, state]));
  }
}

export async function until(what: string, holds: () => Promise<boolean> | boolean, limitMs: number): Promise<number> {
  const start = Date.now();
  while (!(await holds())) {
    if (Date.now() - start > limitMs) throw new Error(`not within ${limitMs} ms: ${what}`);
    await sleep(25);
  }
  return Date.now() - start;
}
