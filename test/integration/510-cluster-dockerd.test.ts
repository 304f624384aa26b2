import assert from "node:assert/strict";
import { type ChildProcess, execFile, spawn } from "node:child_process";
import { access, mkdir, mkdtemp, open, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { delimiter, dirname, join } from "node:path";
import { createInterface } from "node:readline";
import { after, before, describe, it } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

// Our nodes and a real dockerd in one swarm, both ways. WEFT_TEST_DOCKERD names the dockerd to use, else the one unpacked for the tests.
const run = promisify(execFile);
const dockerd = await findDockerd();
const skip =
  dockerd === undefined ? "no dockerd (set WEFT_TEST_DOCKERD)" : process.getuid?.() === 0 ? false : "not root";
const READY = 2;

async function findDockerd(): Promise<string | undefined> {
  const folders = (process.env["PATH"] ?? "").split(delimiter).map((folder) => join(folder, "dockerd"));
  const unpacked = fileURLToPath(new URL("../../.weft/tools/docker-20/usr/sbin/dockerd", import.meta.url));
  for (const path of [process.env["WEFT_TEST_DOCKERD"], unpacked, ...folders]) {
    if (path === undefined) continue;
    if (
      await access(path).then(
        () => true,
        () => false,
      )
    )
      return path;
  }
  return undefined;
}

/** Two hosts on one bridge: `weft` has .1, `dock` has .2. */
class Lab {
  readonly directory: string;
  readonly prefix = `wclu${process.pid}`;
  readonly weftIp = "10.33.10.1";
  readonly dockIp = "10.33.10.2";
  readonly #processes: ChildProcess[] = [];

  private constructor(directory: string) {
    this.directory = directory;
  }

  static async open(): Promise<Lab> {
    const lab = new Lab(await mkdtemp(join(tmpdir(), "weft-cluster-")));
    const ip = (...args: string[]) => run("ip", args);
    const { prefix } = lab;
    await ip("netns", "add", `${prefix}sw`);
    await ip("-n", `${prefix}sw`, "link", "add", "br0", "type", "bridge");
    await ip("-n", `${prefix}sw`, "link", "set", "br0", "up");
    for (const [name, address] of [
      ["weft", lab.weftIp],
      ["dock", lab.dockIp],
    ] as const) {
      const ns = `${prefix}${name}`;
      await ip("netns", "add", ns);
      await ip("-n", ns, "link", "set", "lo", "up");
      await ip("link", "add", name, "netns", `${prefix}sw`, "type", "veth", "peer", "name", "eth0", "netns", ns);
      await ip("-n", `${prefix}sw`, "link", "set", name, "master", "br0", "up");
      await ip("-n", ns, "addr", "add", `${address}/24`, "dev", "eth0");
      await ip("-n", ns, "link", "set", "eth0", "up");
      await ip("-n", ns, "route", "add", "default", "via", "10.33.10.254");
    }
    return lab;
  }

  /** A process inside one of the hosts. */
  async spawn(
    host: "weft" | "dock",
    command: readonly string[],
    env: Record<string, string> = {},
  ): Promise<ChildProcess> {
    const log = await open(join(this.directory, `${host}.log`), "a");
    const child = spawn("nsenter", [`--net=/run/netns/${this.prefix}${host}`, ...command], {
      stdio: ["pipe", "pipe", log.fd],
      env: { ...process.env, ...env },
    });
    await log.close();
    this.#processes.push(child);
    return child;
  }

  async close(): Promise<void> {
    for (const child of this.#processes.reverse()) {
      if (child.exitCode !== null) continue;
      child.kill("SIGTERM");
      await Promise.race([new Promise((resolve) => child.once("exit", resolve)), pause(15_000)]);
      if (child.exitCode === null) child.kill("SIGKILL");
    }
    const mounts = (await readFile("/proc/mounts", "utf8")).split("\n").map((line) => line.split(" ")[1] ?? "");
    for (const path of mounts.filter((one) => one.startsWith(this.directory)).reverse()) {
      await run("umount", ["-l", path]).catch(() => {});
    }
    for (const name of ["weft", "dock", "sw"])
      await run("ip", ["netns", "del", `${this.prefix}${name}`]).catch(() => {});
    await rm(this.directory, { recursive: true, force: true });
  }
}

type Ask = (name: string, argument?: string) => Promise<never>;

async function startWeft(lab: Lab): Promise<Ask> {
  const script = fileURLToPath(new URL("cluster/swarm-process.ts", import.meta.url));
  await mkdir(join(lab.directory, "weft"), { recursive: true });
  const child = await lab.spawn("weft", [process.execPath, script, join(lab.directory, "weft"), lab.weftIp]);
  const lines = createInterface({ input: child.stdout as NodeJS.ReadableStream })[Symbol.asyncIterator]();
  await lines.next();
  let last: Promise<unknown> = Promise.resolve();
  return async (name, argument = "") => {
    await last;
    child.stdin?.write(`${JSON.stringify({ name, argument })}\n`);
    const answering = lines.next();
    last = answering;
    const { error, result } = JSON.parse((await answering).value as string) as { error?: string; result?: unknown };
    if (error !== undefined) throw new Error(error);
    return result as never;
  };
}

async function startDockerd(lab: Lab): Promise<(...args: string[]) => Promise<string>> {
  const folder = join(lab.directory, "docker");
  const path = dirname(dockerd as string);
  const socket = `unix://${folder}/sock`;
  const options = [
    "--data-root",
    `${folder}/data`,
    "--exec-root",
    `${folder}/exec`,
    "-p",
    `${folder}/pid`,
    "-H",
    socket,
  ];
  await mkdir(folder);
  await lab.spawn("dock", [dockerd as string, ...options], { PATH: `${path}:${process.env["PATH"]}` });
  const docker = async (...args: string[]) => (await run("docker", ["-H", socket, ...args])).stdout.trim();
  await eventually("dockerd answers", () => docker("version"), 30_000);
  return docker;
}

const pause = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms));

async function eventually<T>(what: string, look: () => Promise<T>, withinMs = 15_000): Promise<Exclude<T, false>> {
  let failure: unknown;
  for (const end = Date.now() + withinMs; Date.now() < end; await pause(100)) {
    try {
      const found = await look();
      if (found !== false && found !== null && found !== undefined) return found as Exclude<T, false>;
    } catch (error) {
      failure = error;
    }
  }
  throw new Error(`not so in time: ${what}`, { cause: failure });
}

interface NodeLine {
  readonly id: string;
  readonly hostname: string;
  readonly engine: string;
  readonly state: number;
  readonly address: string;
}

describe("a swarm of ours and a real dockerd", { skip }, () => {
  let lab: Lab;
  let weft: Ask;
  let docker: (...args: string[]) => Promise<string>;

  before(async () => {
    lab = await Lab.open();
    try {
      weft = await startWeft(lab);
      docker = await startDockerd(lab);
      const image = join(lab.directory, "image.tar");
      await run("tar", ["-cf", image, "-C", dirname((await run("which", ["busybox"])).stdout.trim()), "busybox"]);
      await docker("import", image, "bb");
    } catch (error) {
      await lab.close();
      throw error;
    }
  });
  after(() => lab.close());

  const dockerNode = async () =>
    (await (weft("nodes") as Promise<readonly NodeLine[]>)).find(({ hostname }) => hostname !== "weft-node");

  it("dockerd joins our manager, is Ready with its version, and stays", async () => {
    const token: string = await weft("init");
    assert.match(await docker("swarm", "join", "--token", token, `${lab.weftIp}:2377`), /joined a swarm as a worker/);
    const node = await eventually("ready", async () => (await dockerNode())?.state === READY && dockerNode());
    assert.equal(node?.address, lab.dockIp);
    assert.equal(node?.engine, await docker("version", "--format", "{{.Server.Version}}"));
    assert.equal(await docker("info", "--format", "{{.Swarm.LocalNodeState}} {{.Swarm.NodeID}}"), `active ${node?.id}`);
    await eventually("ingress", async () =>
      (await docker("network", "ls", "--format", "{{.Name}}")).includes("ingress"),
    );
    // Longer than three heartbeat periods.
    await pause(17_000);
    assert.equal((await dockerNode())?.state, READY);
  });

  it("they see each other in the gossip", async () => {
    await eventually("alive", async () => {
      const members: readonly { address: string; state: string }[] = await weft("members");
      return members.some(({ address, state }) => address === lab.dockIp && state === "alive");
    });
    const peers = await eventually("peers of ingress", async () => {
      const text = await docker("network", "inspect", "ingress", "--format", "{{range .Peers}}{{.IP}} {{end}}");
      return text.includes(lab.dockIp) && text;
    });
    assert.ok(peers.length > 0);
  });

  it("dockerd takes a container on our attachable overlay, and gives its address back", async () => {
    const id: string = await weft("createNetwork", "ov");
    await docker("run", "-d", "--name", "c1", "--network", "ov", "bb", "/busybox", "sleep", "600");
    const address = await docker("inspect", "c1", "--format", '{{(index .NetworkSettings.Networks "ov").IPAddress}}');
    assert.equal(address, "10.0.1.2");
    await assert.rejects(weft("removeNetwork", id), /is in use by task/);
    await docker("rm", "-f", "c1");
    await eventually("removed", () => (weft("removeNetwork", id) as Promise<unknown>).then(() => true));
    await assert.rejects(docker("run", "--rm", "--network", "nowhere", "bb", "/busybox", "true"), /not found/);
  });

  it("a removed node is locked out", async () => {
    const node = await dockerNode();
    await weft("removeNode", node?.id);
    assert.equal(await dockerNode(), undefined);
    await docker("swarm", "leave", "--force");
    await weft("leave");
  });

  it("we join dockerd's manager: Ready with our version, and attach on its overlay", async () => {
    await docker("swarm", "init", "--advertise-addr", lab.dockIp);
    const token = await docker("swarm", "join-token", "-q", "worker");
    await weft("join", `${lab.dockIp}:2377 ${token}`);
    const line = () => docker("node", "ls", "--format", "{{.Hostname}} {{.Status}} {{.EngineVersion}}");
    await eventually("ready", async () => (await line()).includes("weft-node Ready 0.1.0"));
    const ingress: { network: { spec: { name: string } } } = await eventually("ingress", () => weft("ingress"));
    assert.equal(ingress.network.spec.name, "ingress");
    const id = await docker("network", "create", "-d", "overlay", "--attachable", "theirs");
    const given: { attachmentId: string; networkId: string; addresses: { address: string }[] } = await weft(
      "attach",
      "theirs",
    );
    assert.equal(given.networkId, id);
    assert.match(given.addresses[0]?.address ?? "", /^10\.0\.1\./);
    await assert.rejects(docker("network", "rm", "theirs"), /in use/);
    await weft("detach", given.attachmentId);
    await eventually("removed", () => docker("network", "rm", "theirs"));
    await assert.rejects(weft("attach", "nowhere"), /Could not attach to network nowhere: rpc error: code = NotFound/);
    await pause(17_000);
    assert.match(await line(), /weft-node Ready/);
    await weft("leave");
    await eventually("down", async () => (await line()).includes("weft-node Down"), 25_000);
    await docker("swarm", "leave", "--force");
  });
});
