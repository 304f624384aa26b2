import { create } from "@bufbuild/protobuf";
import { newHexId } from "../../src/base/ids.ts";
import { type IpAddress, parseIp } from "../../src/base/ip.ts";
import { type Log, silentLog } from "../../src/base/log.ts";
import { type Random, seededRandom } from "../../src/base/random.ts";
import { Scope } from "../../src/base/scope.ts";
import { Agent } from "../../src/cluster/agent/agent.ts";
import { Remotes } from "../../src/cluster/agent/remotes.ts";
import { Worker } from "../../src/cluster/agent/worker.ts";
import { gossipSubsystem } from "../../src/cluster/manager/network-keys.ts";
import type { ActiveNode } from "../../src/cluster/node/active-node.ts";
import { ClusterNetworks } from "../../src/cluster/node/swarm-networks.ts";
import { openPeerTable } from "../../src/cluster/peers/peer-table.ts";
import { type FakeKernel, openFakeKernel } from "../../src/kernel/mod.ts";
import type { NameView } from "../../src/network/dns/dns.ts";
import {
  defaultNetworksConfig,
  type EndpointRequest,
  type Networks,
  openNetworks,
  type Sandbox,
  type SandboxRequest,
} from "../../src/network/mod.ts";
import { aesSeal, type MemoryStore } from "../../src/store/mod.ts";
import type { SessionMessage } from "../../src/wire/gen/swarm_dispatcher_pb.ts";
import { NodeDescriptionSchema } from "../../src/wire/gen/swarm_types_pb.ts";
import { dial, managerPort, openManager, type SimulatedManager } from "./control-plane.ts";
import type { World } from "./gossip-world.ts";
import { SimulatedGossip } from "./simulated-gossip.ts";
import { WeftProcess } from "./weft-process.ts";

const seal = aesSeal(new Uint8Array(32).fill(9));
const tunnelPort = 4789;
const never = new AbortController().signal;

export interface HostOptions {
  readonly world: World;
  readonly name: string;
  readonly address: string;
  readonly nodeId: string;
  readonly seed: number;
  /** The manager's host; its address is all that the others are told. */
  readonly manager: () => SimulatedHost;
  readonly isManager: boolean;
  readonly execRoot: string;
  /** Where the manager's objects are from the start. */
  readonly store: MemoryStore;
  readonly log?: Log;
}

/** What runs while weftd does. */
interface Life {
  readonly process: WeftProcess;
  readonly networks: Networks;
  readonly swarm: ClusterNetworks;
  readonly manager: SimulatedManager | undefined;
  gossip: SimulatedGossip | undefined;
}

/**
 * One machine of the cluster: a disk, a kernel in memory, containers, and a weftd made of the real rooms. The disk outlives
 * everything, kernel and containers outlive the daemon, and no name or address is known to two hosts but by message.
 */
export class SimulatedHost {
  readonly name: string;
  readonly address: IpAddress;
  readonly nodeId: string;
  readonly store: MemoryStore;
  /** Containers that run, as the container runtime would say. */
  readonly containers = new Map<string, SandboxRequest>();
  /** What a process inside a container's namespace is answered. */
  readonly resolvers = new Map<string, NameView>();
  readonly execRoot: string;
  kernel: FakeKernel = openFakeKernel();
  readonly #options: HostOptions;
  readonly #random: Random;
  #life: Life | undefined;
  #starting: WeftProcess | undefined;

  constructor(options: HostOptions) {
    this.#options = options;
    this.name = options.name;
    this.address = parseIp(options.address);
    this.nodeId = options.nodeId;
    this.store = options.store;
    this.execRoot = `${options.execRoot}/${options.name}`;
    this.#random = seededRandom(options.seed);
  }

  get isRunning(): boolean {
    return this.#life !== undefined;
  }

  /** Neither running nor starting. */
  get isDown(): boolean {
    return this.#life === undefined && this.#starting === undefined;
  }

  get networks(): Networks {
    return this.#alive().networks;
  }

  get manager(): SimulatedManager | undefined {
    return this.#life?.manager;
  }

  get process(): WeftProcess {
    const process = this.#life?.process ?? this.#starting;
    if (process === undefined) throw new Error(`${this.name} is down`);
    return process;
  }

  get gossipName(): string | undefined {
    return this.#life?.gossip?.nodeName;
  }

  /** Starts weftd and takes over what runs; resolves when it serves requests. */
  async start(): Promise<void> {
    const { world } = this.#options;
    const process = new WeftProcess(world, this.#random);
    this.#starting = process;
    const life = await this.#open(process);
    this.#life = life;
    this.#starting = undefined;
    await this.#recover(life);
  }

  /** kill -9: containers and what is in the kernel stay. */
  kill(): void {
    const process = this.#life?.process ?? this.#starting;
    process?.kill();
    this.#life = undefined;
    this.#starting = undefined;
    this.kernel = this.kernel.restart();
    this.resolvers.clear();
  }

  /** The machine loses its power: only the disk stays. */
  powerOff(): void {
    this.kill();
    this.kernel = openFakeKernel();
    this.containers.clear();
  }

  /** `docker run --network …` */
  async run(name: string, networks: readonly (string | Partial<EndpointRequest>)[]): Promise<Sandbox> {
    const request = this.#request(name, networks);
    const sandbox = await this.networks.openSandbox(request, never);
    this.containers.set(name, request);
    return sandbox;
  }

  /** `docker rm -f` */
  async remove(name: string): Promise<void> {
    const request = this.#container(name);
    this.containers.delete(name);
    await this.networks.closeSandbox(request.sandboxId, never);
  }

  async connect(name: string, network: string): Promise<void> {
    const container = this.#container(name);
    const endpoint = endpointRequest({ network });
    await this.networks.connect(container.sandboxId, endpoint, never);
    this.containers.set(name, { ...container, endpoints: [...container.endpoints, endpoint] });
  }

  async disconnect(name: string, network: string): Promise<void> {
    const container = this.#container(name);
    const endpoints = container.endpoints.filter((endpoint) => endpoint.network !== network);
    this.containers.set(name, { ...container, endpoints });
    await this.networks.disconnect(container.sandboxId, network, never);
  }

  /** Leaves the swarm in order. */
  async leaveSwarm(): Promise<void> {
    const { networks, gossip } = this.#alive();
    await networks.leaveSwarm(never);
    await gossip?.leave();
  }

  address4(name: string, network: string): IpAddress {
    const sandbox = this.networks.sandbox(this.#container(name).sandboxId);
    const endpoint = sandbox?.endpoints.find(({ networkName }) => networkName === network);
    if (endpoint?.ipv4 === undefined) throw new Error(`${name} has no address on ${network}`);
    return endpoint.ipv4.address;
  }

  sandboxPath(name: string): string {
    return `${this.execRoot}/netns/${this.#container(name).sandboxId.slice(0, 12)}`;
  }

  #container(name: string): SandboxRequest {
    const found = this.containers.get(name);
    if (found === undefined) throw new Error(`${this.name} runs no container "${name}"`);
    return found;
  }

  #alive(): Life {
    if (this.#life === undefined) throw new Error(`${this.name} is not running`);
    return this.#life;
  }

  async #open(process: WeftProcess): Promise<Life> {
    const { world, nodeId, isManager, log = silentLog } = this.#options;
    const { clock } = process;
    const random = this.#random;
    const store = process.store(this.store);
    const manager = isManager
      ? await openManager({ store, process, random, nodeId, address: this.address })
      : undefined;
    const life: { gossip: SimulatedGossip | undefined } = { gossip: undefined };
    const gossipReady = Promise.withResolvers<void>();
    const table = openPeerTable({ gossip: () => life.gossip, log });
    const scope = new Scope(log);
    const peer = { nodeId: "", address: `${this.#options.manager().address}:${managerPort}` };
    const swarm = new ClusterNetworks({
      role: () => (isManager ? "manager" : "worker"),
      node: () => node as unknown as ActiveNode,
      control: () => manager?.control,
      clock,
      log,
    });
    const networks = await openNetworks(
      {
        kernel: process.kernel(this.kernel),
        store,
        seal,
        clock,
        random,
        log,
        execRoot: this.execRoot,
        config: defaultNetworksConfig,
        swarm: () => swarm,
        peerTable: () => table,
        forwardRule: async () => {},
        openDns: async ({ namespace, names }) => this.#openResolver(namespace as { readonly path: string }, names),
      },
      never,
    );
    const worker = new Worker({
      networks: () => networks,
      report: (taskId, status) => agent.report(taskId, status),
      gossipReady: gossipReady.promise,
      clock,
      log,
    });
    const onSession = (message: SessionMessage) => {
      if (message.node !== undefined) worker.setNode(message.node);
      const keys = message.networkBootstrapKeys
        .filter(({ subsystem }) => subsystem === gossipSubsystem)
        .map(({ key, lamportTime }) => ({ key, lamportTime }));
      if (life.gossip !== undefined || !process.isRunning) return;
      const gossip = new SimulatedGossip(world, this.address, keys);
      life.gossip = gossip;
      process.ended.addEventListener("abort", () => world.crash(gossip.host));
      table.reopened();
      gossipReady.resolve();
      // Only feeds the machine: cannot fail.
      if (!isManager) void gossip.join([this.#options.manager().address]);
    };
    const agent = new Agent({
      remotes: new Remotes([peer]),
      connect: () =>
        dial({
          world,
          from: { address: this.address, nodeId, process },
          manager: () => this.#options.manager().manager ?? (isManager ? manager : undefined),
        }),
      describe: () => create(NodeDescriptionSchema, { hostname: this.name }),
      listener: { onSession, onAssignments: (message) => worker.assign(message) },
      clock,
      random,
      log,
    });
    const node = {
      agent,
      worker,
      signal: scope.signal,
      dataPathAddress: this.address,
      dataPathPort: tunnelPort,
    };
    scope.run("agent", (until) => agent.run(until));
    scope.run("tasks", (until) => worker.runTasks(until));
    scope.run("ingress", (until) => worker.runIngress(until));
    scope.failed.addEventListener("abort", () => {
      if (process.isRunning) queueMicrotask(() => Promise.reject(scope.failed.reason));
    });
    return Object.assign(life, { process, networks, swarm, manager });
  }

  /** As the engine does: living containers are taken over, then what belongs to nobody goes. */
  async #recover({ networks, swarm }: Life): Promise<void> {
    for (const request of this.containers.values()) await networks.openSandbox(request, never);
    const living = [...this.containers.values()].map(({ sandboxId }) => sandboxId);
    await networks.recovered(new Set(living), never);
    const endpoints = living.flatMap((id) => networks.sandbox(id)?.endpoints ?? []);
    await swarm.keepOnly(new Set(endpoints.flatMap(({ attachmentId }) => attachmentId ?? [])));
  }

  #openResolver({ path }: { readonly path: string }, names: NameView) {
    this.resolvers.set(path, names);
    return Promise.resolve({
      udpPort: 40000,
      tcpPort: 40000,
      [Symbol.asyncDispose]: async () => {
        if (this.resolvers.get(path) === names) this.resolvers.delete(path);
      },
    });
  }

  #request(name: string, networks: readonly (string | Partial<EndpointRequest>)[]): SandboxRequest {
    const endpoints = networks.map((network) => endpointRequest(typeof network === "string" ? { network } : network));
    return {
      sandboxId: newHexId(this.#random),
      containerId: newHexId(this.#random),
      containerName: name,
      hostname: name,
      domainname: "",
      mode: "private",
      endpoints,
      dns: { servers: [], search: [], options: [] },
      extraHosts: [],
      linkedHosts: [],
      publish: [],
      sysctls: {},
      filesDirectory: "",
    };
  }
}

function endpointRequest(change: Partial<EndpointRequest>): EndpointRequest {
  return {
    network: "",
    ipv4: undefined,
    ipv6: undefined,
    mac: undefined,
    aliases: [],
    links: [],
    driverOptions: {},
    gatewayPriority: 0,
    ...change,
  };
}
