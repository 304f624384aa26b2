import assert from "node:assert/strict";
import { type ChildProcess, execFile, spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { promisify } from "node:util";

// weftd itself, as a process in a network namespace of its own: start, refusal of a second one, reload, kill -9, stop.

const run = promisify(execFile);
const weftd = new URL("../../weftd", import.meta.url).pathname;
const missing = ["containerd", "docker", "nsenter", "ip"].find(
  (tool) => !(process.env["PATH"] ?? "").split(":").some((directory) => existsSync(join(directory, tool))),
);
const reason = process.getuid?.() !== 0 ? "needs root" : missing === undefined ? false : `no ${missing} here`;

class Host implements AsyncDisposable {
  readonly directory: string;
  readonly namespace: string;
  #process: ChildProcess | undefined;
  log = "";

  private constructor(directory: string, namespace: string) {
    this.directory = directory;
    this.namespace = namespace;
  }

  static async open(): Promise<Host> {
    const directory = await mkdtemp(join(tmpdir(), "weft-daemon-"));
    const namespace = `wapi-${process.pid}`;
    await run("ip", ["netns", "add", namespace]);
    await run("ip", ["-n", namespace, "link", "set", "lo", "up"]);
    return new Host(directory, namespace);
  }

  #arguments(extra: readonly string[]): readonly string[] {
    const at = (name: string) => join(this.directory, name);
    return [
      ...["--data-root", at("data"), "--exec-root", at("exec"), "-p", at("pid"), "-H", `unix://${at("sock")}`],
      ...["--config-file", at("daemon.json"), ...extra],
    ];
  }

  async start(...extra: readonly string[]): Promise<void> {
    const inside = [`--net=/run/netns/${this.namespace}`, weftd, ...this.#arguments(extra)];
    const child = spawn("nsenter", inside, { stdio: ["ignore", "ignore", "pipe"] });
    this.log = "";
    child.stderr.on("data", (chunk: Buffer) => {
      this.log += String(chunk);
    });
    this.#process = child;
    await this.until(/"msg":"ready"/);
  }

  /** A second weftd with the same directories; resolves with what it says on its way out. */
  async second(...extra: readonly string[]): Promise<{ readonly code: number | null; readonly said: string }> {
    const inside = [`--net=/run/netns/${this.namespace}`, weftd, ...this.#arguments(extra)];
    return await new Promise((resolve) => {
      execFile("nsenter", inside, { timeout: 20_000 }, (error, stdout, stderr) => {
        resolve({ code: error === null ? 0 : Number(error.code), said: stdout + stderr });
      });
    });
  }

  async until(pattern: RegExp): Promise<void> {
    for (let i = 0; i < 400 && !pattern.test(this.log); i++) await new Promise((done) => setTimeout(done, 50));
    assert.match(this.log, pattern);
  }

  /** Resolves with the exit code, or the signal's name. */
  async signal(name: NodeJS.Signals): Promise<number | string | null> {
    const child = this.#process;
    if (child === undefined) return null;
    const exit = new Promise<number | string | null>((resolve) =>
      child.once("exit", (code, by) => resolve(code ?? by)),
    );
    child.kill(name);
    this.#process = undefined;
    return exit;
  }

  hangUp(): void {
    this.#process?.kill("SIGHUP");
  }

  async docker(...args: readonly string[]): Promise<string> {
    return (await run("docker", ["-H", `unix://${join(this.directory, "sock")}`, ...args])).stdout;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#process !== undefined) await this.signal("SIGTERM");
    // What a weftd that was killed, or keeps containers alive, left running: its containerd, by the pid file it wrote.
    const pid = Number(await readFile(join(this.directory, "exec/containerd/containerd.pid"), "utf8").catch(() => ""));
    if (pid > 1) await run("kill", [String(pid)]).catch(() => {});
    const mounts = await readFile("/proc/mounts", "utf8");
    const below = mounts.split("\n").flatMap((line) => line.split(" ")[1] ?? []);
    for (const mount of below.filter((path) => path.startsWith(`${this.directory}/`)).reverse()) {
      await run("umount", ["-l", mount]).catch(() => {});
    }
    await run("ip", ["netns", "del", this.namespace]);
    await rm(this.directory, { recursive: true, force: true });
  }
}

test("weftd: start, a second one, reload, kill -9, stop", { skip: reason, timeout: 90_000 }, async () => {
  await using host = await Host.open();
  await writeFile(join(host.directory, "daemon.json"), '{"labels":["rack=1"]}');
  await host.start();
  assert.match(await host.docker("version", "-f", "{{.Server.Version}}"), /^\d+\.\d+\.\d+\n$/);
  assert.equal(
    await host.docker("network", "ls", "--format", "{{.Name}} {{.Driver}} {{.Scope}}"),
    "bridge bridge local\nhost host local\nnone null local\n",
  );
  const id = await host.docker("info", "-f", "{{.ID}} {{.Labels}}");
  assert.match(id, / \[rack=1\]\n$/);

  const samePidFile = await host.second();
  assert.equal(samePidFile.code, 1);
  assert.match(samePidFile.said, /weftd is already running as process \d+: it holds the pid file/);
  const sameData = await host.second("-p", join(host.directory, "pid2"));
  assert.equal(sameData.code, 1);
  assert.match(sameData.said, /it holds the data root's lock/);

  await writeFile(join(host.directory, "daemon.json"), '{"labels":["rack=2"],"mtu":1400}');
  host.hangUp();
  await host.until(/configuration reloaded/);
  assert.match(await host.docker("info", "-f", "{{.Labels}}"), /\[rack=2\]/);
  await writeFile(join(host.directory, "daemon.json"), '{"labels":');
  host.hangUp();
  await host.until(/configuration not reloaded, the running one stays/);

  await host.docker("network", "create", "--subnet", "172.30.9.0/24", "kept");
  await writeFile(join(host.directory, "daemon.json"), "{}");
  assert.equal(await host.signal("SIGKILL"), "SIGKILL");
  await host.start();
  assert.match(await host.docker("network", "ls", "-q", "-f", "name=kept"), /^[0-9a-f]{12}\n$/);
  assert.equal((await host.docker("info", "-f", "{{.ID}}")).trim(), id.split(" ")[0]);

  assert.equal(await host.signal("SIGTERM"), 0);
  assert.match(host.log, /"msg":"stopped"/);
  for (const left of ["pid", "data/weft/weftd.pid"]) assert.equal(existsSync(join(host.directory, left)), false, left);
});

test("weftd: what can't start says why in one line", { skip: reason, timeout: 60_000 }, async () => {
  await using host = await Host.open();
  await writeFile(join(host.directory, "daemon.json"), '{"nope":1}');
  const unknownKey = await host.second();
  assert.equal(unknownKey.code, 1);
  assert.match(
    unknownKey.said,
    /^weftd: unable to configure the Docker daemon with file .*: the following directives don't match any configuration option: nope\nSee 'weftd --help'\.\n$/,
  );
  await writeFile(join(host.directory, "daemon.json"), "{}");
  assert.match((await host.second("--userns-remap", "default")).said, /--userns-remap is not supported/);
  assert.equal((await host.second("--validate")).said, "configuration OK\n");
  assert.match((await host.second("--help")).said, /Usage: {2}weftd \[OPTIONS\]/);
  const nowhere = await host.second("--containerd", "/nowhere.sock");
  assert.equal(nowhere.code, 1);
  assert.match(nowhere.said, /containerd/);
});
