import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { cgroupParentOf, removeUnusedCgroups } from "../../src/base/cgroup.ts";
import { systemClock } from "../../src/base/clock.ts";
import { EngineError } from "../../src/base/errors.ts";
import { silentLog } from "../../src/base/log.ts";
import { systemRandom } from "../../src/base/random.ts";
import {
  type Containerd,
  type ContainerdProcess,
  type ContainerSpec,
  type EngineEvent,
  type HostContainers,
  type HostSpec,
  type HostVolumes,
  type ImageDetail,
  openContainerd,
  openContainers,
  openVolumes,
  startContainerd,
} from "../../src/engine/mod.ts";
import type { Networks, Sandbox, SandboxRequest } from "../../src/network/mod.ts";
import { aesSeal, openSqliteStore, type Store } from "../../src/store/mod.ts";

export const never = new AbortController().signal;

/** An engine of its own under /tmp/we-*, with one image of busybox and namespaces without networks. */
export interface EngineWorld extends AsyncDisposable {
  readonly root: string;
  readonly containers: HostContainers;
  readonly volumes: HostVolumes;
  readonly containerd: Containerd;
  readonly process: ContainerdProcess;
  readonly networks: BareNetworks;
  readonly events: EngineEvent[];
  /** Lets go of the engine and opens it again, as a restart of the daemon does. */
  reopen(): Promise<void>;
}

/** Namespaces by `ip netns`, without a network in them. */
export class BareNetworks {
  readonly opened: string[] = [];
  readonly closed: string[] = [];
  readonly recoveredWith: string[] = [];
  failOpen: Error | undefined;
  readonly #live = new Map<string, SandboxRequest>();

  asNetworks(): Networks {
    return {
      check: async () => {},
      prepareSandbox: async (id: string, mode: string) => this.#prepare(id, mode),
      openSandbox: async (request: SandboxRequest) => {
        if (this.failOpen !== undefined) {
          this.#remove(request.sandboxId);
          throw this.failOpen;
        }
        this.#prepare(request.sandboxId, request.mode);
        this.opened.push(request.sandboxId);
        this.#live.set(request.sandboxId, request);
        writeFileSync(join(request.filesDirectory, "hosts"), `127.0.0.1 localhost\n10.9.9.9 ${request.hostname}\n`);
        writeFileSync(join(request.filesDirectory, "resolv.conf"), "nameserver 127.0.0.11\n");
        return this.#sandbox(request.sandboxId);
      },
      closeSandbox: async (id: string) => {
        this.closed.push(id);
        this.#live.delete(id);
        this.#remove(id);
      },
      sandbox: (id: string) => (this.#live.has(id) ? this.#sandbox(id) : undefined),
      recovered: async (live: ReadonlySet<string>) => {
        this.recoveredWith.push(...live);
      },
      rename: async () => {},
    } as unknown as Networks;
  }

  get live(): readonly string[] {
    return [...this.#live.keys()];
  }

  removeAll(): void {
    for (const id of new Set([...this.opened, ...this.#live.keys()])) this.#remove(id);
  }

  /** As the real one does with what no living container claims. */
  static namespaces(): readonly string[] {
    return existsSync("/run/netns") ? readdirSync("/run/netns").filter((name) => name.startsWith("we-")) : [];
  }

  #sandbox(id: string): Sandbox {
    return { id, netnsPath: this.#path(id, this.#live.get(id)?.mode ?? "private"), endpoints: [] };
  }

  #path(id: string, mode: string): string {
    return mode === "host" ? "/proc/self/ns/net" : `/run/netns/we-${id.slice(0, 12)}`;
  }

  #prepare(id: string, mode: string): string {
    const path = this.#path(id, mode);
    if (mode !== "host" && !existsSync(path)) {
      execFileSync("ip", ["netns", "add", `we-${id.slice(0, 12)}`]);
      execFileSync("ip", ["-n", `we-${id.slice(0, 12)}`, "link", "set", "lo", "up"]);
    }
    return path;
  }

  #remove(id: string): void {
    if (existsSync(this.#path(id, "private"))) execFileSync("ip", ["netns", "del", `we-${id.slice(0, 12)}`]);
  }
}

export async function openEngineWorld(): Promise<EngineWorld> {
  const root = mkdtempSync("/tmp/we-");
  const stack = new AsyncDisposableStack();
  stack.defer(() => cleanUp(root));
  try {
    const process = await startContainerd(
      { root: join(root, "containerd"), state: join(root, "run"), log: silentLog, clock: systemClock },
      never,
    );
    stack.defer(() => process.stop());
    const containerd = stack.use(openContainerd({ socketPath: process.socketPath, namespace: "weft" }));
    const image = await makeImage(root, containerd);
    const store = stack.use(await openSqliteStore({ path: join(root, "store.db"), log: silentLog }, never));
    const networks = new BareNetworks();
    stack.defer(() => networks.removeAll());
    const world = new World({ root, process, containerd, image, store, networks });
    stack.defer(() => world.shutDown());
    await world.reopen();
    world.stack = stack;
    return world;
  } catch (error) {
    await stack.disposeAsync();
    throw error;
  }
}

class World implements EngineWorld {
  readonly root: string;
  readonly process: ContainerdProcess;
  readonly containerd: Containerd;
  readonly networks: BareNetworks;
  readonly events: EngineEvent[] = [];
  stack: AsyncDisposableStack | undefined;
  readonly #image: ImageDetail;
  readonly #store: Store;
  #containers: HostContainers | undefined;
  #volumes: HostVolumes | undefined;

  constructor(parts: {
    readonly root: string;
    readonly process: ContainerdProcess;
    readonly containerd: Containerd;
    readonly image: ImageDetail;
    readonly store: Store;
    readonly networks: BareNetworks;
  }) {
    this.root = parts.root;
    this.process = parts.process;
    this.containerd = parts.containerd;
    this.networks = parts.networks;
    this.#image = parts.image;
    this.#store = parts.store;
  }

  get containers(): HostContainers {
    if (this.#containers === undefined) throw new Error("the engine is closed");
    return this.#containers;
  }

  get volumes(): HostVolumes {
    if (this.#volumes === undefined) throw new Error("the engine is closed");
    return this.#volumes;
  }

  async reopen(): Promise<void> {
    await this.#containers?.[Symbol.asyncDispose]();
    const parts = { root: this.root, containerd: this.containerd, store: this.#store, networks: this.networks };
    const engine = await openEngine({ ...parts, image: this.#image });
    this.#volumes = engine.volumes;
    this.#containers = engine.containers;
    this.#containers.events((event) => this.events.push(event));
  }

  async shutDown(): Promise<void> {
    if (this.#containers === undefined) return;
    for (const { id } of this.#containers.list()) {
      await this.#containers.remove(id, { force: true, volumes: true }, never).catch(() => {});
    }
    await this.#containers[Symbol.asyncDispose]();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stack?.disposeAsync();
  }
}

/** The rooms under test, over parts that may be shared with another process. */
export async function openEngine(parts: {
  readonly root: string;
  readonly containerd: Containerd;
  readonly image: ImageDetail;
  readonly store: Store;
  readonly networks: BareNetworks;
}): Promise<{ readonly containers: HostContainers; readonly volumes: HostVolumes }> {
  const { containerd, image, networks } = parts;
  const shared = {
    dataRoot: join(parts.root, "data"),
    store: parts.store,
    seal: aesSeal(new Uint8Array(32)),
    clock: systemClock,
    random: systemRandom,
    log: silentLog,
  };
  const volumes = await openVolumes(shared, never);
  const images = {
    find: async (term: string) => {
      if (term === "toolbox") return image;
      throw new EngineError("not-found", `No such image: ${term}:latest`);
    },
  };
  const execRoot = join(parts.root, "exec");
  const options = { ...shared, execRoot, containerd, volumes, images, networks: networks.asNetworks() };
  return { volumes, containers: await openContainers(options, never) };
}

/** A root file system of busybox as one committed snapshot. */
export async function makeImage(root: string, containerd: Containerd): Promise<ImageDetail> {
  const rootfs = join(root, "rootfs");
  for (const directory of ["bin", "etc", "proc", "sys", "dev", "tmp", "root", "usr/local/share"]) {
    mkdirSync(join(rootfs, directory), { recursive: true });
  }
  const busybox = execFileSync("sh", ["-c", "command -v busybox"], { encoding: "utf8" }).trim();
  cpSync(busybox, join(rootfs, "bin/busybox"));
  execFileSync("chroot", [rootfs, "/bin/busybox", "--install", "-s", "/bin"]);
  writeFileSync(join(rootfs, "etc/passwd"), "root:x:0:0:root:/root:/bin/sh\nweaver:x:1000:1000::/tmp:/bin/sh\n");
  writeFileSync(join(rootfs, "etc/group"), "root:x:0:\nweaver:x:1000:\nloom:x:2000:weaver\n");
  writeFileSync(join(rootfs, "usr/local/share/pattern"), "twill\n", { mode: 0o640 });
  const chainId = `sha256:${createHash("sha256").update(readFileSync(busybox)).digest("hex")}`;
  const snapshotter = "overlayfs";
  const labels = { "containerd.io/gc.root": new Date().toISOString() };
  const { mounts } = await containerd.snapshots.prepare({ snapshotter, key: "image", parent: "", labels });
  execFileSync("cp", ["-a", `${rootfs}/.`, mounts[0]?.source ?? ""]);
  await containerd.snapshots.commit({ snapshotter, key: "image", name: chainId, labels });
  return {
    id: chainId,
    repoTags: ["toolbox:latest"],
    repoDigests: [],
    createdAt: new Date().toISOString(),
    sizeBytes: 0,
    labels: {},
    architecture: "amd64",
    os: "linux",
    author: "",
    comment: "",
    config: {
      env: ["LOOM=jacquard"],
      entrypoint: undefined,
      command: ["sh"],
      workingDirectory: "",
      user: "",
      exposedPorts: [],
      volumes: [],
      labels: { origin: "image" },
      stopSignal: "",
    },
    diffIds: [],
    chainId,
    rawConfig: {},
  };
}

export function cleanUp(root: string): void {
  for (const line of readFileSync("/proc/self/mounts", "utf8").split("\n").reverse()) {
    const target = line.split(" ")[1];
    if (target?.startsWith(`${root}/`)) execFileSync("umount", ["-l", target]);
  }
  rmSync(root, { recursive: true, force: true });
  removeUnusedCgroups(cgroupParentOf(join(root, "exec")));
}

export function specOf(
  command: readonly string[],
  changes: Partial<ContainerSpec> = {},
  host: Partial<HostSpec> = {},
): ContainerSpec {
  return {
    image: "toolbox",
    hostname: "",
    domainname: "",
    user: "",
    tty: false,
    openStdin: false,
    stdinOnce: false,
    attachStdin: false,
    attachStdout: true,
    attachStderr: true,
    env: [],
    entrypoint: undefined,
    command,
    workingDirectory: "",
    labels: {},
    stopSignal: "",
    stopTimeoutSeconds: undefined,
    exposedPorts: [],
    anonymousVolumes: [],
    host: {
      autoRemove: false,
      mounts: [],
      publish: [],
      publishAll: false,
      dns: { servers: [], search: [], options: [] },
      extraHosts: [],
      links: [],
      privileged: false,
      readonlyRootfs: false,
      capAdd: [],
      capDrop: [],
      securityOptions: [],
      sysctls: {},
      restartPolicy: { name: "no", maximumRetryCount: 0 },
      memoryBytes: 0,
      nanoCpus: 0,
      pidsLimit: undefined,
      shmSizeBytes: 0,
      init: false,
      groupAdd: [],
      tmpfs: {},
      pidMode: "",
      ipcMode: "",
      utsMode: "",
      logDriver: "",
      logOptions: {},
      ...host,
    },
    networkMode: "none",
    endpoints: [],
    rawConfig: {},
    rawHostConfig: {},
    ...changes,
  };
}

/** Creates and starts; the id. */
export async function run(world: EngineWorld, spec: ContainerSpec, name?: string): Promise<string> {
  const { id } = await world.containers.create(spec, name, never);
  await world.containers.start(id, never);
  return id;
}

/** Runs to the end; what it printed and how it ended. */
export async function runToEnd(
  world: EngineWorld,
  spec: ContainerSpec,
): Promise<{ readonly id: string; readonly exitCode: number; readonly stdout: string; readonly stderr: string }> {
  const { id } = await world.containers.create(spec, undefined, never);
  const exited = world.containers.wait(id, "next-exit", never);
  await world.containers.start(id, never);
  const exitCode = await exited;
  return { id, exitCode, ...(await logText(world, id)) };
}

export async function logText(
  world: EngineWorld,
  id: string,
  tail?: number,
): Promise<{ readonly stdout: string; readonly stderr: string }> {
  const text = { stdout: "", stderr: "" };
  const options = { stdout: true, stderr: true, follow: false, tail, since: undefined, until: undefined };
  for await (const line of world.containers.logs(id, options, never)) {
    text[line.stream] += new TextDecoder().decode(line.data);
  }
  return text;
}
