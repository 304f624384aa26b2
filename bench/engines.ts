// The two engines under comparison, each as two hosts on a bridge of its own, in a swarm with an overlay named "bench".
import { existsSync } from "node:fs";
import { rm } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { labDown, labUp, openLabPaths } from "../src/lab/mod.ts";
import { command } from "../test/support/lab.ts";

export const home = fileURLToPath(new URL("..", import.meta.url)).replace(/\/$/, "");

export interface Engine {
  readonly name: "weft" | "docker";
  readonly hosts: readonly { readonly socket: string; readonly namespace: string; readonly address: string }[];
  /** Process ids of the daemon (not of containerd or the shims) on host `index`. */
  daemonPid(index: number): Promise<number>;
}

export async function must(words: readonly string[], options: { readonly input?: string } = {}): Promise<string> {
  const result = await command(words, { ...options, timeoutMs: 300_000 });
  if (result.code !== 0) throw new Error(`${words.join(" ")} ended with ${result.code}: ${result.output}`);
  return result.stdout.trim();
}

export const docker = (engine: Engine, host: number, ...args: readonly string[]) =>
  must(["docker", "-H", `unix://${engine.hosts[host]?.socket}`, ...args]);

export async function openWeft(): Promise<Engine & AsyncDisposable> {
  const lab = openLabPaths({ ...process.env, WEFT_LAB: "wbench" });
  await labDown(lab, () => {});
  const hosts = await labUp(lab, 2, () => {}, new AbortController().signal);
  const engine: Engine = {
    name: "weft",
    hosts,
    daemonPid: async (index) => Number(await must(["cat", hosts[index]?.pidFile ?? ""])),
  };
  await makeSwarm(engine);
  return { ...engine, [Symbol.asyncDispose]: () => labDown(lab, () => {}) };
}

/** Docker 28 from Debian sid, unpacked and not installed. */
export async function openDocker(): Promise<Engine & AsyncDisposable> {
  const unpacked = `${home}/.weft/tools/docker-28`;
  if (!existsSync(`${unpacked}/usr/sbin/dockerd`)) {
    await must([`${home}/tools/debian-suite`, "sid", unpacked, "docker.io"]);
  }
  const lab = "/var/lib/weft-lab/bench-dockerd";
  const env = [
    "env",
    `LAB=${lab}`,
    `DOCKERD=${unpacked}/usr/sbin/dockerd`,
    `PATH=${unpacked}/usr/sbin:${unpacked}/usr/bin:${process.env["PATH"]}`,
  ];
  const down = async () => {
    // dockerd leaves its containers to their shims: they are removed first, and what a killed run left is ended by force.
    for (const host of [1, 2]) {
      const socket = `unix://${lab}/${host}/sock`;
      await command(["sh", "-c", `docker -H ${socket} ps -aq | xargs -r docker -H ${socket} rm -f`]);
    }
    await command([...env, `${home}/tools/dockerd-lab`, "down"]);
    await command(["sh", "-c", `for p in $(pgrep -f '${lab}/[0-9]'); do pkill -9 -P $p; kill -9 $p; done`]);
    await command(["ip", "netns", "del", "dksw"]);
    await command(["sh", "-c", `grep '${lab}' /proc/mounts | awk '{print $2}' | sort -r | xargs -r umount -l`]);
    await rm(lab, { recursive: true, force: true });
  };
  await down();
  await must([...env, `${home}/tools/dockerd-lab`, "up", "2"]);
  const engine: Engine = {
    name: "docker",
    hosts: [1, 2].map((i) => ({ socket: `${lab}/${i}/sock`, namespace: `dk${i}`, address: `10.30.10.${110 + i}` })),
    daemonPid: async (index) => Number(await must(["cat", `${lab}/${index + 1}/pid`])),
  };
  for (const host of [0, 1]) {
    await docker(engine, host, "import", "--change", 'CMD ["sh"]', `${home}/.weft/toolbox.tar`, "toolbox:latest");
  }
  await makeSwarm(engine);
  return { ...engine, [Symbol.asyncDispose]: down };
}

async function makeSwarm(engine: Engine): Promise<void> {
  const manager = engine.hosts[0]?.address ?? "";
  await docker(engine, 0, "swarm", "init", "--advertise-addr", manager);
  const token = await docker(engine, 0, "swarm", "join-token", "-q", "worker");
  await docker(engine, 1, "swarm", "join", "--token", token, `${manager}:2377`);
  await docker(engine, 0, "network", "create", "-d", "overlay", "--attachable", "bench");
}
