import { existsSync } from "node:fs";
import { readdir, readFile, readlink } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { EngineError } from "../base/errors.ts";
import { silentLog } from "../base/log.ts";
import { openKernel } from "../kernel/mod.ts";
import type { Say } from "./lab.ts";
import { allProcesses, isAnswering, livePid, run, startDetached, stopProcess, waitUntilReady } from "./process.ts";

const home = fileURLToPath(new URL("../..", import.meta.url)).replace(/\/$/, "");

/** weftd on this host itself. Docker's own paths are left alone, so that both can be installed side by side. */
export const host = {
  socket: "/run/weft/docker.sock",
  pidFile: "/run/weft/weftd.pid",
  execRoot: "/run/weft/exec",
  dataRoot: "/var/lib/weft",
  logFile: "/var/log/weft/weftd.log",
  bridge: "docker0",
} as const;

/** Starts weftd in the background and makes the docker context `weft`. @throws `conflict` naming what is in the way. */
export async function hostUp(extraArguments: readonly string[], say: Say, signal: AbortSignal): Promise<void> {
  if (await isAnswering(host.socket)) {
    say(`weftd is up already: ${host.socket}`);
    return;
  }
  await refuseOtherEngines(signal);
  const process = startDetached(
    [
      `${home}/weftd`,
      ...["--data-root", host.dataRoot, "--exec-root", host.execRoot, "--pidfile", host.pidFile],
      ...["-H", `unix://${host.socket}`],
      ...extraArguments,
    ],
    host.logFile,
  );
  await waitUntilReady({ ...host, timeoutMs: 60_000, process });
  await makeContext();
  say(`weftd is up. Socket ${host.socket}, log ${host.logFile}`);
  say("Use it with:  docker --context weft ps    or    docker context use weft");
}

export async function hostDown(say: Say): Promise<void> {
  const pid = await livePid(host.pidFile);
  if (pid === undefined) {
    say("weftd is not running on this host");
    return;
  }
  await stopProcess(pid, 60_000);
  await run(["docker", "context", "rm", "-f", "weft"]).catch(() => "");
  say("weftd has stopped; images, volumes and networks are kept in /var/lib/weft");
}

export async function hostStatus(say: Say): Promise<void> {
  const pid = await livePid(host.pidFile);
  const answering = await isAnswering(host.socket);
  if (pid === undefined) say("weftd is not running on this host; start it with: ./weft up");
  else
    say(
      `weftd runs as process ${pid}, ${answering ? "answers" : "does not answer"} on ${host.socket}, log ${host.logFile}`,
    );
}

async function makeContext(): Promise<void> {
  const found = await run(["docker", "context", "ls", "--format", "{{.Name}}"]);
  if (found.split("\n").includes("weft")) return;
  const description = "Weft on this host";
  await run([
    "docker",
    "context",
    "create",
    "weft",
    "--description",
    description,
    "--docker",
    `host=unix://${host.socket}`,
  ]);
}

/** 2377/tcp, 4789/udp and the bridge's name belong to one engine at a time. */
async function refuseOtherEngines(signal: AbortSignal): Promise<void> {
  const manager = await tcpListener(2377);
  if (manager !== undefined) throw inTheWay("port 2377/tcp", manager);
  const vxlan = (await udpSocketExists(4789)) ? await engineName() : undefined;
  if (vxlan !== undefined) throw inTheWay("port 4789/udp", vxlan);
  await using kernel = await openKernel({ log: silentLog }, signal);
  const bridge = kernel.links("host").find((link) => link.name === host.bridge);
  if (bridge !== undefined && bridge.unit === undefined)
    throw inTheWay(`the bridge ${host.bridge}`, await engineName());
}

function inTheWay(what: string, owner: string): EngineError {
  return new EngineError(
    "conflict",
    `cannot start weftd: ${what} is held by ${owner}; stop that first, or try Weft in a lab with './weft demo'`,
  );
}

/** The process that listens on a TCP port, as a person would name it. */
async function tcpListener(port: number): Promise<string | undefined> {
  for (const table of ["/proc/net/tcp", "/proc/net/tcp6"]) {
    for (const row of await socketRows(table)) {
      if (row.port === port && row.state === "0A") return (await ownerOfSocket(row.inode)) ?? "another process";
    }
  }
  return undefined;
}

/** VXLAN's socket belongs to the kernel: it has no process, only a port. */
async function udpSocketExists(port: number): Promise<boolean> {
  const rows = [...(await socketRows("/proc/net/udp")), ...(await socketRows("/proc/net/udp6"))];
  return rows.some((row) => row.port === port);
}

async function socketRows(table: string): Promise<readonly { port: number; state: string; inode: string }[]> {
  if (!existsSync(table)) return [];
  const lines = (await readFile(table, "utf8")).trim().split("\n").slice(1);
  return lines.map((line) => {
    const fields = line.trim().split(/\s+/);
    const port = Number.parseInt((fields[1] ?? "").split(":")[1] ?? "0", 16);
    return { port, state: fields[3] ?? "", inode: fields[9] ?? "" };
  });
}

async function ownerOfSocket(inode: string): Promise<string | undefined> {
  for (const { pid, command } of await allProcesses()) {
    for (const fd of await readdir(`/proc/${pid}/fd`).catch(() => [])) {
      const target = await readlink(`/proc/${pid}/fd/${fd}`).catch(() => "");
      if (target === `socket:[${inode}]`) return `${command[0]} (process ${pid})`;
    }
  }
  return undefined;
}

async function engineName(): Promise<string> {
  const engine = (await allProcesses()).find(({ command }) =>
    command.some((word) => /(^|\/)(dockerd|weftd|daemon\/main\.ts)$/.test(word)),
  );
  if (engine === undefined) return "something else on this host";
  const name = engine.command.some((word) => word.endsWith("daemon/main.ts")) ? "weftd" : engine.command[0];
  return `${name} (process ${engine.pid})`;
}
