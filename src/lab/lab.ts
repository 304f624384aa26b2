import { existsSync } from "node:fs";
import { mkdir, readdir, rm } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { cgroupParentOf, processesInCgroups, removeUnusedCgroups } from "../base/cgroup.ts";
import { EngineError, runAll } from "../base/errors.ts";
import { silentLog } from "../base/log.ts";
import { openKernel } from "../kernel/mod.ts";
import {
  environmentLines,
  hostState,
  type Lab,
  type LabHost,
  labHost,
  maxHosts,
  namespacePath,
  switchState,
} from "./model.ts";
import {
  isAnswering,
  livePid,
  mountsBelow,
  processesInNamespace,
  processesMentioning,
  run,
  signalQuietly,
  startDetached,
  stopProcess,
  waitUntilReady,
} from "./process.ts";

/** Says on one line what is being done; the CLI prints it. */
export type Say = (line: string) => void;

const home = fileURLToPath(new URL("../..", import.meta.url)).replace(/\/$/, "");
const toolbox = `${home}/.weft/toolbox.tar`;

/** Brings a lab of at least `count` hosts up; hosts that are up already are left as they are. */
export async function labUp(lab: Lab, count: number, say: Say, signal: AbortSignal): Promise<readonly LabHost[]> {
  if (!Number.isInteger(count) || count < 1 || count > maxHosts) {
    throw new EngineError("invalid", `cannot bring up ${count} hosts: expected a whole number from 1 to ${maxHosts}`);
  }
  const hosts = Array.from({ length: count }, (_, i) => labHost(lab, i + 1));
  await using kernel = await openKernel({ log: silentLog }, signal);
  await mkdir("/run/netns", { recursive: true });
  await kernel.reconcile("lab/switch", switchState(lab), signal);
  for (const host of hosts) await kernel.reconcile(`lab/${host.number}`, hostState(lab, host), signal);
  await Promise.all(hosts.map((host) => startHost(host, say)));
  await loadToolbox(hosts, say);
  return hosts;
}

/** Starts a host's weftd unless it answers already. */
export async function startHost(
  host: LabHost,
  say: Say,
  extra: { readonly arguments?: readonly string[]; readonly environment?: Readonly<Record<string, string>> } = {},
): Promise<void> {
  if (await isAnswering(host.socket)) return;
  say(`${host.hostname}: starting weftd at ${host.address}, socket ${host.socket}`);
  await mkdir(host.dataRoot, { recursive: true });
  const daemon = [
    `${home}/weftd`,
    ...["--data-root", host.dataRoot, "--exec-root", host.execRoot, "--pidfile", host.pidFile],
    ...["-H", `unix://${host.socket}`],
    ...(extra.arguments ?? []),
  ];
  // The namespace and the host name are the host; everything else of this machine is shared.
  const script = `hostname ${host.hostname} && exec "$@"`;
  const process = startDetached(
    ["nsenter", `--net=${namespacePath(host.namespace)}`, "unshare", "--uts", "sh", "-c", script, "sh", ...daemon],
    host.logFile,
    extra.environment,
  );
  await waitUntilReady({ ...host, timeoutMs: 60_000, process });
}

/** Hosts of this lab of which anything exists, a directory or a namespace, by number. */
export async function labHosts(lab: Lab): Promise<readonly LabHost[]> {
  const directories = await readdir(lab.runDirectory).catch(() => []);
  const namespaces = await readdir("/run/netns").catch(() => []);
  const numbers = [
    ...directories,
    ...namespaces.filter((name) => name.startsWith(lab.name)).map((name) => name.slice(lab.name.length)),
  ];
  return [...new Set(numbers.filter((text) => /^\d+$/.test(text)).map(Number))]
    .sort((a, b) => a - b)
    .map((number) => labHost(lab, number));
}

/** Removes every process, mount, namespace and file of the lab, also what a killed weftd left. Fine when there is none. */
export async function labDown(lab: Lab, say: Say): Promise<void> {
  const hosts = await labHosts(lab);
  for (const host of hosts) say(`${host.hostname}: stopping`);
  await runAll("cannot take the lab down", [
    () => Promise.all(hosts.map((host) => stopHost(host))).then(() => {}),
    () => killAll(`${lab.runDirectory}/`),
    () => killAll(`${lab.dataDirectory}/`),
    () => Promise.all(hosts.map((host) => killContainers(host))).then(() => {}),
    () => unmountBelow(lab.runDirectory),
    () => unmountBelow(lab.dataDirectory),
    () => removeNamespaces(lab, hosts),
    async () => {
      for (const host of hosts) removeUnusedCgroups(cgroupParentOf(host.execRoot));
    },
    () => rm(lab.runDirectory, { recursive: true, force: true }),
    () => rm(lab.dataDirectory, { recursive: true, force: true }),
  ]);
}

async function stopHost(host: LabHost): Promise<void> {
  const pid = await livePid(host.pidFile);
  if (pid !== undefined) await stopProcess(pid, 30_000);
}

async function killAll(mention: string): Promise<void> {
  for (let round = 0; round < 50; round++) {
    const found = await processesMentioning(mention);
    if (found.length === 0) return;
    for (const { pid } of found) signalQuietly(pid, "SIGKILL");
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

/** Containers whose weftd and shim are gone: nothing but their cgroup says whose they are. */
async function killContainers(host: LabHost): Promise<void> {
  const parent = cgroupParentOf(host.execRoot);
  for (let round = 0; round < 50; round++) {
    const pids = processesInCgroups(parent);
    if (pids.length === 0) return;
    for (const pid of pids) signalQuietly(pid, "SIGKILL");
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

async function unmountBelow(directory: string): Promise<void> {
  for (const point of await mountsBelow(directory)) await run(["umount", "-l", point]);
}

async function removeNamespaces(lab: Lab, hosts: readonly LabHost[]): Promise<void> {
  for (const name of [...hosts.map((host) => host.namespace), lab.switchNamespace]) {
    const path = namespacePath(name);
    if (!existsSync(path)) continue;
    for (const pid of await processesInNamespace(path)) signalQuietly(pid, "SIGKILL");
    await unmountBelow(path);
    await rm(path, { force: true });
  }
}

export interface HostStatus {
  readonly host: LabHost;
  readonly pid: number | undefined;
  readonly answering: boolean;
}

export async function labStatus(lab: Lab): Promise<readonly HostStatus[]> {
  const hosts = await labHosts(lab);
  return Promise.all(
    hosts.map(async (host) => ({ host, pid: await livePid(host.pidFile), answering: await isAnswering(host.socket) })),
  );
}

/** Export lines for a shell; `chosen` adds DOCKER_HOST. @throws when the lab, or that host of it, is not up. */
export async function labEnv(lab: Lab, chosen: number | undefined): Promise<readonly string[]> {
  const hosts = await labHosts(lab);
  if (hosts.length === 0) throw new EngineError("not-found", "no lab is up: run './weft lab up 3' first");
  const host = hosts.find((candidate) => candidate.number === chosen);
  if (chosen !== undefined && host === undefined) {
    throw new EngineError("not-found", `no host ${chosen} in this lab: found ${hosts.map((h) => h.number).join(", ")}`);
  }
  return environmentLines(lab, hosts, host);
}

async function loadToolbox(hosts: readonly LabHost[], say: Say): Promise<void> {
  if (!existsSync(toolbox)) {
    say("building the image toolbox (busybox, curl, iperf3)");
    await mkdir(`${home}/.weft`, { recursive: true });
    await run([`${home}/tools/rootfs`, `${toolbox}.new`, "curl", "iperf3"]);
    await run(["mv", `${toolbox}.new`, toolbox]);
  }
  await Promise.all(
    hosts.map(async (host) => {
      const docker = ["docker", "-H", `unix://${host.socket}`];
      const found = await run([...docker, "images", "-q", "toolbox:latest"]);
      if (found.trim() !== "") return;
      say(`${host.hostname}: loading toolbox:latest`);
      await run([...docker, "import", "--change", 'CMD ["sh"]', toolbox, "toolbox:latest"]);
    }),
  );
}
