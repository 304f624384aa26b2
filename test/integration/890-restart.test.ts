// weftd is killed and comes back under running containers: no packet between hosts is lost, and a connection through a
// published port stays.
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { startHost } from "../../src/lab/mod.ts";
import { command, eventually, type TestLab, withLab } from "../support/lab.ts";

const manager = 1;
const worker = 2;
const publishedPort = 8081;
const intervalMs = 100;
/** Until what waits for the gossip after a start is done as well: the sweep of peers that nobody told of. */
const aftermathMs = 20_000;

async function kill(lab: TestLab, number: number): Promise<void> {
  const pid = (await readFile(lab.host(number).pidFile, "utf8")).trim();
  await command(["kill", "-9", pid]);
  await eventually("weftd is gone", 5000, async () => (await command(["kill", "-0", pid])).code !== 0);
}

const start = (lab: TestLab, number: number) => startHost(lab.host(number), () => {});

/** `ping -i 0.1` inside a container, held by nobody but this test. */
class Pinging implements AsyncDisposable {
  readonly #child: ChildProcess;
  #output = "";

  private constructor(pid: string, address: string) {
    const words = ["-t", pid, "--net", "--mount", "ping", "-i", String(intervalMs / 1000), address];
    this.#child = spawn("nsenter", words, { stdio: ["ignore", "pipe", "inherit"] });
    this.#child.stdout?.on("data", (chunk: Buffer) => (this.#output += String(chunk)));
  }

  static async open(lab: TestLab, from: number, container: string, address: string): Promise<Pinging> {
    const pinging = new Pinging(await lab.ok(from, "inspect", "-f", "{{.State.Pid}}", container), address);
    await eventually(`${container} is answered`, 5000, async () => pinging.#answered().size > 0);
    return pinging;
  }

  /** Numbers of the pings so far that were not answered, nor overtaken by a pause of ping itself. */
  async lost(): Promise<{ readonly sent: number; readonly lost: readonly number[] }> {
    await sleep(3 * intervalMs);
    const answered = this.#answered();
    const sent = Math.max(...answered) + 1;
    return { sent, lost: Array.from({ length: sent }, (_, i) => i).filter((i) => !answered.has(i)) };
  }

  #answered(): ReadonlySet<number> {
    return new Set([...this.#output.matchAll(/ seq=(\d+) ttl/g)].map(([, seq]) => Number(seq)));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#child.kill("SIGKILL");
    if (this.#child.exitCode === null && this.#child.signalCode === null) await once(this.#child, "exit");
  }
}

/** One TCP connection to something that says everything back. */
class Conversation implements AsyncDisposable {
  readonly #child: ChildProcess;
  #output = "";

  constructor(lab: TestLab, from: number, address: string, port: number) {
    const words = [`--net=/run/netns/${lab.host(from).namespace}`, "busybox", "nc", address, String(port)];
    this.#child = spawn("nsenter", words, { stdio: ["pipe", "pipe", "inherit"] });
    this.#child.stdout?.on("data", (chunk: Buffer) => (this.#output += String(chunk)));
  }

  async say(text: string): Promise<void> {
    this.#child.stdin?.write(`${text}\n`);
    await eventually(`"${text}" comes back`, 5000, async () => this.#output.includes(`${text}\n`));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#child.kill("SIGKILL");
    if (this.#child.exitCode === null && this.#child.signalCode === null) await once(this.#child, "exit");
  }
}

test("weftd restarts under running containers", { timeout: 240_000 }, async (t) => {
  await withLab("wrestart", 2, async (lab) => {
    const address = lab.host(manager).address;
    // Not the usual port: after a restart it must be known before the manager can tell it.
    await lab.ok(manager, "swarm", "init", "--advertise-addr", address, "--data-path-port", "5789");
    const token = await lab.ok(manager, "swarm", "join-token", "-q", "worker");
    await lab.ok(worker, "swarm", "join", "--token", token, `${address}:2377`);
    await lab.ok(manager, "network", "create", "-d", "overlay", "--attachable", "cloth");
    const run = (number: number, name: string) =>
      lab.ok(number, "run", "-d", "--name", name, "--network", "cloth", "toolbox", "sleep", "100000");
    await run(manager, "mm");
    await run(worker, "ww");
    const addressOf = (number: number, name: string) =>
      lab.ok(number, "inspect", "-f", "{{.NetworkSettings.Networks.cloth.IPAddress}}", name);
    const echo = ["toolbox", "nc", "-ll", "-p", "80", "-e", "cat"];
    for (const number of [manager, worker]) {
      await lab.ok(number, "run", "-d", "--name", "echo", "-p", `${publishedPort}:80`, ...echo);
    }

    const scenario = (name: string, body: () => Promise<void>) =>
      t.test(name, async () => {
        await using fromWorker = await Pinging.open(lab, worker, "ww", await addressOf(manager, "mm"));
        await using fromManager = await Pinging.open(lab, manager, "mm", await addressOf(worker, "ww"));
        await using toWorker = new Conversation(lab, manager, lab.host(worker).address, publishedPort);
        await using toManager = new Conversation(lab, worker, lab.host(manager).address, publishedPort);
        for (const conversation of [toWorker, toManager]) await conversation.say("before");
        await body();
        for (const conversation of [toWorker, toManager]) await conversation.say("after");
        for (const pinging of [fromWorker, fromManager]) {
          const { sent, lost } = await pinging.lost();
          assert.deepEqual(lost, [], `of ${sent}`);
        }
      });

    await scenario("the worker's", async () => {
      await kill(lab, worker);
      await sleep(1000);
      await start(lab, worker);
      await sleep(aftermathMs);
    });
    await scenario("the manager's", async () => {
      await kill(lab, manager);
      await sleep(1000);
      await start(lab, manager);
      await sleep(aftermathMs);
    });
    await scenario("the worker's while the manager's is down, then the manager's", async () => {
      await kill(lab, manager);
      await kill(lab, worker);
      await start(lab, worker);
      await sleep(5000);
      await start(lab, manager);
      await sleep(aftermathMs);
    });
  });
});
