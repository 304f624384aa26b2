import { PassThrough } from "node:stream";
import { create } from "@bufbuild/protobuf";
import { Hub } from "../base/async.ts";
import { systemClock } from "../base/clock.ts";
import { EngineError } from "../base/errors.ts";
import { parseCidr, parseIp, parseMac } from "../base/ip.ts";
import { silentLog } from "../base/log.ts";
import { Secret } from "../base/secret.ts";
import type { Swarm, SwarmInfo } from "../cluster/mod.ts";
import type {
  Attached,
  ContainerRecord,
  ContainerSpec,
  Containers,
  EngineEvent,
  ExecSpec,
  ExecState,
  ImageDetail,
  Images,
  LogLine,
  Volume,
  Volumes,
} from "../engine/mod.ts";
import type { Network, NetworkEvent, NetworkSpec, Networks, Sandbox } from "../network/mod.ts";
import { ClusterSchema, type Node, NodeSchema } from "../wire/gen/swarm_objects_pb.ts";
import { EventLog } from "./event-log.ts";
import type { ApiSettings, HostFacts, Rooms } from "./rooms.ts";

/** Rooms in memory, for the tests of the API: they remember what they are told and run nothing. */
export interface FakeRooms extends Rooms {
  readonly containers: FakeContainers;
  readonly images: FakeImages;
  readonly networks: FakeNetworks;
  readonly swarm: FakeSwarm;
}

export function fakeRooms(settings: Partial<ApiSettings> = {}): FakeRooms {
  const networks = new FakeNetworks();
  return {
    containers: new FakeContainers(networks),
    images: new FakeImages(),
    volumes: fakeVolumes(),
    networks,
    swarm: new FakeSwarm(),
    events: new EventLog(),
    host: fakeHost,
    settings: () => ({ ...fakeSettings, ...settings }),
    clock: systemClock,
    log: silentLog,
  };
}

export const fakeHost: HostFacts = {
  id: "28b23732-ef05-4711-92bf-a51b97d9b079",
  hostname: "loom",
  weftVersion: "0.1.0",
  gitCommit: "0000000",
  buildTime: "",
  kernelVersion: "6.1.0",
  operatingSystem: "Debian GNU/Linux 12 (bookworm)",
  osVersion: "12",
  architecture: "amd64",
  machine: "x86_64",
  cpus: 2,
  memoryBytes: 1024 ** 3,
  cgroupVersion: "2",
  hasAppArmor: false,
  containerdVersion: "1.6.20",
  containerdCommit: "1.6.20-1",
  containerdAddress: "/run/weft/containerd.sock",
  runcVersion: "1.1.5",
  runcCommit: "1.1.5-1",
  snapshotter: "overlayfs",
  storageStatus: [["driver-type", "io.containerd.snapshotter.v1"]],
};

export const fakeSettings: ApiSettings = {
  debug: false,
  labels: [],
  dataRoot: "/var/lib/docker",
  execRoot: "/run/docker",
  defaultRuntime: "runc",
  loggingDriver: "json-file",
  loggingOptions: {},
  liveRestore: false,
  experimental: false,
  insecureRegistries: [],
  registryMirrors: [],
  httpProxy: "",
  httpsProxy: "",
  noProxy: "",
  defaultShmSizeBytes: 67108864,
  init: false,
  addressPools: [],
  swarmAdvertiseAddress: "",
  warnings: [],
};

const created = "2026-01-02T03:04:05.678901234Z";

function unsupported(): never {
  throw new EngineError("unsupported", "the fake does not do this");
}

interface FakeProcess {
  readonly stdin: PassThrough;
  readonly stdout: PassThrough;
  readonly stderr: PassThrough;
}

/** A started container runs until `exit`; what a test writes to `process(id)` is its output. */
class FakeContainers implements Containers {
  readonly records = new Map<string, ContainerRecord>();
  readonly execs = new Map<string, ExecState>();
  readonly calls: string[] = [];
  readonly lines: LogLine[] = [];
  readonly #processes = new Map<string, FakeProcess>();
  readonly #exits = new Hub<{ readonly id: string; readonly code: number }>();
  readonly #events = new Hub<EngineEvent>();
  readonly #networks: FakeNetworks;
  #next = 1;

  constructor(networks: FakeNetworks) {
    this.#networks = networks;
  }

  list() {
    return [...this.records.values()];
  }

  find(term: string): ContainerRecord {
    const name = term.replace(/^\//, "");
    const found = this.list().find((record) => record.name === name || (term !== "" && record.id.startsWith(term)));
    if (found === undefined) throw new EngineError("not-found", `No such container: ${term}`);
    return found;
  }

  async create(spec: ContainerSpec, name: string | undefined) {
    const id = this.#id();
    const [path = "sh", ...args] = [...(spec.entrypoint ?? []), ...(spec.command ?? [])];
    this.records.set(id, {
      id,
      name: name ?? `fake_${this.#next}`,
      createdAt: created,
      spec,
      imageId: `sha256:${"1".repeat(64)}`,
      process: { path, args, env: spec.env, workingDirectory: "/", user: "" },
      hostname: spec.hostname || id.slice(0, 12),
      mounts: [],
      state: { kind: "created" },
      sandboxId: undefined,
      sandboxOwner: undefined,
      restartCount: 0,
    });
    return { id, warnings: [] };
  }

  async start(id: string) {
    const record = this.find(id);
    if (record.state.kind === "running") throw new EngineError("not-modified", "already running");
    this.process(id);
    const sandboxId = this.#networks.open(record);
    this.#update(id, { state: { kind: "running", pid: 4711, startedAt: new Date().toISOString() }, sandboxId });
  }

  exit(id: string, code: number) {
    const record = this.find(id);
    const startedAt = record.state.kind === "running" ? record.state.startedAt : created;
    const finishedAt = new Date().toISOString();
    this.#update(id, {
      state: { kind: "exited", exitCode: code, startedAt, finishedAt, oomKilled: false, error: "" },
    });
    const { stdout, stderr } = this.process(id);
    stdout.end();
    stderr.end();
    this.#exits.emit({ id, code });
  }

  process(id: string): FakeProcess {
    const found = this.#processes.get(id);
    if (found !== undefined) return found;
    const made = { stdin: new PassThrough(), stdout: new PassThrough(), stderr: new PassThrough() };
    this.#processes.set(id, made);
    return made;
  }

  async stop(id: string) {
    this.exit(id, 0);
  }
  async restart(id: string) {
    this.calls.push(`restart ${id}`);
  }
  async kill(id: string, signalName: string) {
    this.calls.push(`kill ${signalName}`);
    if (signalName !== "WINCH") this.exit(id, 137);
  }
  async remove(id: string) {
    this.records.delete(id);
  }
  async rename(id: string, name: string) {
    this.#update(id, { name });
  }
  async resize(_id: string, size: { readonly rows: number; readonly columns: number }) {
    this.calls.push(`resize ${size.rows}x${size.columns}`);
  }

  wait(id: string, condition: string, signal: AbortSignal): Promise<number> {
    this.calls.push(`wait ${condition}`);
    const { state } = this.find(id);
    if (condition === "not-running" && state.kind === "exited") return Promise.resolve(state.exitCode);
    return new Promise((resolve, reject) => {
      const listener = this.#exits.listen((exit) => {
        if (exit.id === id) resolve(exit.code);
      });
      signal.addEventListener("abort", () => {
        listener[Symbol.dispose]();
        reject(signal.reason);
      });
    });
  }

  async attach(id: string, options: { readonly stdin: boolean; readonly stdout: boolean; readonly stderr: boolean }) {
    const { stdin, stdout, stderr } = this.process(id);
    const { tty } = this.find(id).spec;
    this.calls.push("attach");
    return {
      stdin: options.stdin ? stdin : undefined,
      stdout: options.stdout ? stdout : undefined,
      stderr: options.stderr && !tty ? stderr : undefined,
      tty,
      close: () => {
        this.calls.push("detach");
      },
    };
  }

  async *logs(): AsyncIterable<LogLine> {
    yield* this.lines;
  }

  async createExec(containerId: string, spec: ExecSpec) {
    const id = this.#id();
    this.execs.set(id, { id, containerId, spec, running: false, exitCode: undefined, pid: 0 });
    return id;
  }

  findExec(execId: string) {
    const found = this.execs.get(execId);
    if (found === undefined) throw new EngineError("not-found", `No such exec instance: ${execId}`);
    return found;
  }

  async startExec(execId: string, options: { readonly detach: boolean }): Promise<Attached | undefined> {
    const { spec } = this.findExec(execId);
    this.calls.push(options.detach ? "exec detached" : "exec");
    if (options.detach) return undefined;
    const { stdin, stdout, stderr } = this.process(execId);
    return {
      stdin: spec.attachStdin ? stdin : undefined,
      stdout: spec.attachStdout ? stdout : undefined,
      stderr: spec.attachStderr && !spec.tty ? stderr : undefined,
      tty: spec.tty,
      close: () => {},
    };
  }

  /** Ends an exec's process. */
  exitExec(execId: string, exitCode: number) {
    this.execs.set(execId, { ...this.findExec(execId), exitCode });
    const { stdout, stderr } = this.process(execId);
    stdout.end();
    stderr.end();
  }

  async resizeExec() {}
  async connect(_id: string, request: { readonly network: string }) {
    this.calls.push(`connect ${request.network}`);
  }
  async disconnect(_id: string, network: string) {
    this.calls.push(`disconnect ${network}`);
  }
  async pids() {
    return [process.pid];
  }
  events(listener: (event: EngineEvent) => void) {
    return this.#events.listen(listener);
  }
  async [Symbol.asyncDispose]() {}

  #id() {
    return (this.#next++).toString(16).padStart(4, "0").padEnd(64, "0");
  }

  #update(id: string, change: Partial<ContainerRecord>) {
    const record = this.find(id);
    this.records.set(record.id, { ...record, ...change });
  }
}

class FakeImages implements Images {
  readonly images: ImageDetail[] = [
    {
      id: `sha256:${"1".repeat(64)}`,
      repoTags: ["toolbox:latest"],
      repoDigests: [],
      createdAt: created,
      sizeBytes: 21105382,
      labels: {},
      architecture: "amd64",
      os: "linux",
      author: "",
      comment: "Imported from -",
      config: {
        env: ["PATH=/bin"],
        entrypoint: undefined,
        command: ["sh"],
        workingDirectory: "",
        user: "",
        exposedPorts: [],
        volumes: [],
        labels: {},
        stopSignal: "",
      },
      diffIds: [`sha256:${"2".repeat(64)}`],
      chainId: "",
      rawConfig: {},
    },
  ];

  async list() {
    return this.images;
  }
  async find(term: string) {
    const found = this.images.find(
      (image) => image.id === term || image.repoTags.includes(`${term.replace(/:latest$/, "")}:latest`),
    );
    if (found === undefined)
      throw new EngineError("not-found", `No such image: ${term.includes(":") ? term : `${term}:latest`}`);
    return found;
  }
  async pull(reference: string, options: Parameters<Images["pull"]>[1]) {
    if (reference.includes("early")) throw new EngineError("not-found", `manifest for ${reference} not found`);
    options.progress({ id: "layer", status: "Downloading", currentBytes: 1, totalBytes: 2 });
    if (reference.includes("late")) throw new EngineError("internal", "the registry went away");
    options.progress({ status: `Status: Downloaded newer image for ${reference}` });
  }
  async load(archive: NodeJS.ReadableStream, progress: Parameters<Images["load"]>[1]) {
    let size = 0;
    for await (const chunk of archive) size += (chunk as Buffer).length;
    progress({ stream: `Loaded ${size} bytes\n` });
  }
  async import(archive: NodeJS.ReadableStream) {
    for await (const _chunk of archive);
    return `sha256:${"3".repeat(64)}`;
  }
  async tag() {}
  async remove(term: string) {
    const image = await this.find(term);
    return [{ untagged: image.repoTags[0] ?? "" }, { deleted: image.id }];
  }
  events() {
    return { [Symbol.dispose]: () => {} };
  }
}

function fakeVolumes(): Volumes {
  const volumes = new Map<string, Volume>();
  const find = async (name: string) => {
    const found = volumes.get(name);
    if (found === undefined) throw new EngineError("not-found", `get ${name}: no such volume`);
    return found;
  };
  return {
    list: async () => [...volumes.values()],
    find,
    create: async ({ name = "anonymous", driver, labels, options }) => {
      const volume = { name, driver, labels, options, mountpoint: `/v/${name}`, createdAt: created, anonymous: false };
      volumes.set(name, volume);
      return volume;
    },
    remove: async (name) => {
      await find(name);
      volumes.delete(name);
    },
    prune: unsupported,
  };
}

class FakeNetworks implements Networks {
  readonly networks: Network[];
  readonly #sandboxes = new Map<string, Sandbox>();

  constructor() {
    const make = (name: string, driver: string, digit: string): Network => ({
      id: digit.repeat(64),
      createdAt: created,
      spec: fakeNetworkSpec(name, driver),
      scope: "local",
      pools:
        driver === "bridge"
          ? [{ subnet: parseCidr("172.17.0.0/16"), gateway: parseIp("172.17.0.1"), auxiliary: {} }]
          : [],
      vnis: [],
    });
    this.networks = [make("bridge", "bridge", "a"), make("host", "host", "b"), make("none", "null", "c")];
  }

  async list() {
    return this.networks;
  }
  async find(term: string) {
    const found = this.networks.find((network) => network.spec.name === term || network.id.startsWith(term));
    if (found === undefined) throw new EngineError("not-found", `network ${term} not found`);
    return found;
  }
  async create(spec: NetworkSpec) {
    const network: Network = {
      id: "d".repeat(64),
      createdAt: created,
      spec,
      scope: spec.scope ?? "local",
      pools: [{ subnet: parseCidr("172.18.0.0/16"), gateway: parseIp("172.18.0.1"), auxiliary: {} }],
      vnis: [],
    };
    this.networks.push(network);
    return { network, warning: "" };
  }
  async remove(term: string) {
    const network = await this.find(term);
    this.networks.splice(this.networks.indexOf(network), 1);
  }
  async prune(accepts: (network: Network) => boolean) {
    return this.networks.filter((n) => n.id.startsWith("d") && accepts(n)).map((n) => n.spec.name);
  }
  endpoints() {
    return [];
  }
  peers() {
    return undefined;
  }

  open(record: ContainerRecord): string {
    const id = `f${record.id.slice(1)}`;
    this.#sandboxes.set(id, {
      id,
      netnsPath: `/run/docker/netns/${id.slice(0, 12)}`,
      endpoints: record.spec.endpoints.map((request) => ({
        id: `e${record.id.slice(1)}`,
        networkId: this.networks.find((n) => n.spec.name === request.network)?.id ?? "",
        networkName: request.network,
        sandboxId: id,
        containerId: record.id,
        containerName: record.name,
        request,
        mac: parseMac("02:42:ac:11:00:02"),
        ipv4: parseCidr("172.17.0.2/16"),
        ipv6: undefined,
        gateway: parseIp("172.17.0.1"),
        gateway6: undefined,
        dnsNames: [record.name, record.id.slice(0, 12)],
        interfaceName: "eth0",
        attachmentId: undefined,
        ports: record.spec.host.publish.map((publish) => ({
          protocol: publish.protocol,
          containerPort: publish.containerPort,
          hostAddress: parseIp("0.0.0.0"),
          hostPort: publish.hostPortFirst,
        })),
      })),
    });
    return id;
  }

  sandbox(id: string) {
    return this.#sandboxes.get(id);
  }
  async check() {}
  prepareSandbox = unsupported;
  openSandbox = unsupported;
  async closeSandbox() {}
  connect = unsupported;
  async disconnect() {}
  async rename() {}
  async recovered() {}
  async installSwarmNetwork() {}
  async removeSwarmNetwork() {}
  async setIngress() {}
  async leaveSwarm() {}
  events(_listener: (event: NetworkEvent) => void) {
    return { [Symbol.dispose]: () => {} };
  }
  async [Symbol.asyncDispose]() {}
}

export function fakeNetworkSpec(name: string, driver: string): NetworkSpec {
  return {
    name,
    driver,
    scope: undefined,
    ipam: { driver: "default", options: {}, pools: [] },
    enableIpv4: true,
    enableIpv6: false,
    internal: false,
    attachable: false,
    ingress: false,
    configOnly: false,
    configFrom: undefined,
    options: {},
    labels: {},
  };
}

const notManager =
  'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node to swarm and try again.';

class FakeSwarm implements Swarm {
  readonly calls: string[] = [];
  node: Node | undefined;

  info(): SwarmInfo {
    return {
      state: this.node === undefined ? "inactive" : "active",
      nodeId: this.node?.id ?? "",
      nodeAddress: this.node === undefined ? "" : "192.0.2.1",
      controlAvailable: this.node !== undefined,
      error: "",
      remoteManagers: this.node === undefined ? [] : [{ nodeId: this.node.id, address: "192.0.2.1:2377" }],
      nodes: 1,
      managers: 1,
      cluster: undefined,
    };
  }
  async init() {
    this.node = create(NodeSchema, {
      id: "m".repeat(25),
      meta: { version: { index: 9n }, createdAt: { seconds: 1767323045n, nanos: 500_000_000 } },
      spec: { desiredRole: 1 },
      description: { hostname: "loom", engine: { engineVersion: "0.1.0" }, tlsInfo: { trustRoot: Buffer.from("PEM") } },
      status: { state: 2, addr: "192.0.2.1" },
      managerStatus: { leader: true, reachability: 2, addr: "192.0.2.1:2377" },
      role: 1,
    });
    return this.node.id;
  }
  async join() {
    throw new EngineError("invalid", "invalid join token");
  }
  async leave() {
    this.node = undefined;
  }
  async inspect() {
    this.#manager();
    const cluster = create(ClusterSchema, { id: "c".repeat(25), spec: { annotations: { name: "default" } } });
    return { cluster, tokens: { worker: new Secret("SWMTKN-1-worker"), manager: new Secret("SWMTKN-1-manager") } };
  }
  async update(_spec: unknown, version: bigint, rotate: { readonly worker: boolean; readonly manager: boolean }) {
    this.calls.push(`update ${version} ${rotate.worker} ${rotate.manager}`);
  }
  async nodes() {
    return [this.#manager()];
  }
  async findNode(term: string) {
    const node = this.#manager();
    if (!node.id.startsWith(term) && node.description?.hostname !== term) {
      throw new EngineError("not-found", `node ${term} not found`);
    }
    return node;
  }
  async updateNode() {}
  async removeNode() {}
  async [Symbol.asyncDispose]() {}

  #manager(): Node {
    if (this.node === undefined) throw new EngineError("unavailable", notManager);
    return this.node;
  }
}
