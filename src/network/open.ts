import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { Hub, KeyedMutex } from "../base/async.ts";
import { crashPoint } from "../base/crash-point.ts";
import { EngineError } from "../base/errors.ts";
import type { KernelObject } from "../kernel/mod.ts";
import { Catalogue } from "./catalogue.ts";
import { checkEndpoint } from "./check-endpoint.ts";
import { checkSpec, predefinedNames } from "./check-spec.ts";
import { openDnsServer, openNameTable } from "./dns/mod.ts";
import { bridgeDriver } from "./drivers/bridge/bridge.ts";
import type { BridgeDefaults } from "./drivers/bridge/desired.ts";
import type { Driver } from "./drivers/driver.ts";
import { hostDriver } from "./drivers/host/host.ts";
import { noneDriver } from "./drivers/none/none.ts";
import { openOverlayDriver } from "./drivers/overlay/mod.ts";
import { ForwardRuleKeeper } from "./firewall/forward-rule-keeper.ts";
import { hostTable } from "./firewall/host-table.ts";
import { ephemeralPorts, filtersBridgedFrames, hostHasIpv6 } from "./host-facts.ts";
import { LatePeerTable } from "./late-peer-table.ts";
import { LocalNetworks } from "./local-networks.ts";
import { findNetwork, tryFindNetwork } from "./lookup.ts";
import type {
  Endpoint,
  EndpointRequest,
  Network,
  NetworkSpec,
  Sandbox,
  SandboxRequest,
  SwarmNetwork,
} from "./model.ts";
import type { NetworkEvent, NetworkMember, Networks } from "./networks.ts";
import type { NetworksOptions } from "./options.ts";
import { HostPorts } from "./portmapping/host-ports.ts";
import { hostSpec, noneSpec } from "./predefined.ts";
import { Sandboxes } from "./sandboxes.ts";
import { notManager, refuseOutsideManager } from "./swarm-role.ts";
import { SwarmSide } from "./swarm-side.ts";

/**
 * Takes over what the store says this host has, and makes the predefined networks. Containers' sandboxes are taken over by
 * `openSandbox` for each living one and then `recovered`. Disposing leaves the kernel as it is: containers go on.
 */
export async function openNetworks(options: NetworksOptions, signal: AbortSignal): Promise<Networks> {
  await mkdir(join(options.execRoot, "netns"), { recursive: true, mode: 0o755 });
  const catalogue = await Catalogue.load(options.store, options.seal);
  const networks = new HostNetworks(options, catalogue);
  await networks.start(signal);
  return networks;
}

class HostNetworks implements Networks {
  readonly #options: NetworksOptions;
  readonly #catalogue: Catalogue;
  readonly #sandboxes: Sandboxes;
  readonly #swarmSide: SwarmSide;
  readonly #local: LocalNetworks;
  readonly #forwardRule: ForwardRuleKeeper;
  readonly #hostPorts: HostPorts;
  readonly #peerTable: LatePeerTable;
  readonly #drivers: ReadonlyMap<string, Driver>;
  readonly #events = new Hub<NetworkEvent>();
  readonly #mutex = new KeyedMutex();
  readonly #hasIpv6: boolean;
  #recovered = false;

  constructor(options: NetworksOptions, catalogue: Catalogue) {
    const { kernel, log, config, swarm, clock, random } = options;
    this.#options = options;
    this.#catalogue = catalogue;
    this.#hasIpv6 = options.hasIpv6 ?? hostHasIpv6();
    const bridgeDefaults: BridgeDefaults = {
      mtuBytes: config.mtuBytes,
      defaultName: config.bridgeName ?? "docker0",
      filtersBridged: filtersBridgedFrames(),
    };
    this.#peerTable = new LatePeerTable(options.peerTable);
    const netnsDirectory = join(options.execRoot, "netns");
    const overlay = openOverlayDriver({ kernel, peers: this.#peerTable, swarm, netnsDirectory, clock, log });
    const drivers: readonly Driver[] = [
      bridgeDriver({ kernel, defaults: bridgeDefaults }),
      hostDriver,
      noneDriver,
      overlay,
    ];
    this.#drivers = new Map(drivers.map((driver) => [driver.name, driver]));
    this.#hostPorts = new HostPorts({ kernel, log, hasIpv6: this.#hasIpv6, ephemeral: ephemeralPorts() });
    this.#local = new LocalNetworks({
      kernel,
      catalogue,
      clock,
      random,
      log,
      config,
      engineId: options.engineId,
      bridgeDefaults,
      all: () => this.#all(),
      driver: (name) => this.#driver(name),
      releaseDead: async () => {
        if (this.#recovered) await this.#sandboxes.releaseDead((id) => this.#sandboxes.has(id));
      },
    });
    this.#forwardRule = new ForwardRuleKeeper({ chains: kernel.foreignChains, clock, log });
    const names = openNameTable();
    const dnsDeps = { kernel, clock, random, log };
    this.#sandboxes = new Sandboxes({
      kernel,
      catalogue,
      driverOf: (network) => this.#driver(network.spec.driver),
      hostPorts: this.#hostPorts,
      names,
      openDns: options.openDns ?? ((dnsOptions, signal) => openDnsServer(dnsDeps, dnsOptions, signal)),
      peerTable: this.#peerTable,
      swarm,
      config,
      log,
      random,
      netnsDirectory,
      hasIpv6: this.#hasIpv6,
      allNetworks: () => this.#all(),
      isBeingRemoved: (id) => this.#local.isBeingRemoved(id),
      ensureGatewayBridge: (signal) => this.#local.ensureGatewayBridge(signal),
      emit: (event) => this.#events.emit(event),
    });
    this.#swarmSide = new SwarmSide({
      catalogue,
      overlay,
      names,
      peerTable: this.#peerTable,
      sandboxes: this.#sandboxes,
      log,
      ensureGatewayBridge: (signal) => this.#local.ensureGatewayBridge(signal),
    });
  }

  /** Tables and forwarding first, then the networks that the store knows, then the predefined ones that are missing. */
  async start(signal: AbortSignal): Promise<void> {
    await this.#options.kernel.reconcile("host", this.#hostObjects(), signal);
    crashPoint("host.reconcile");
    await (this.#options.forwardRule?.(signal) ?? this.#forwardRule.ensure(signal));
    await this.#local.ensurePredefined(hostSpec, signal);
    await this.#local.ensurePredefined(noneSpec, signal);
    await this.#local.ensureDefaultBridge(signal);
    for (const network of this.#catalogue.networks()) {
      if (network.scope !== "local" || network.spec.configOnly) continue;
      try {
        await this.#driver(network.spec.driver).ensureNetwork(network, signal);
      } catch (error) {
        // One broken network must not keep the others, or the daemon, from coming up.
        this.#options.log.error("could not bring up a network", { network: network.spec.name, error });
      }
    }
    await this.#swarmSide.start(signal);
  }

  async list(): Promise<readonly Network[]> {
    return this.#all();
  }

  async find(term: string): Promise<Network> {
    return findNetwork(this.#all(), term);
  }

  async create(
    spec: NetworkSpec,
    signal: AbortSignal,
  ): Promise<{ readonly network: Network; readonly warning: string }> {
    checkSpec(spec);
    return this.#mutex.run("networks", async () => {
      const driver = spec.driver === "" || spec.driver === "default" ? "bridge" : spec.driver;
      const asked = { ...spec, driver };
      const network =
        driver === "overlay" ? await this.#createInSwarm(asked, signal) : await this.#local.create(asked, signal);
      this.#events.emit({ action: "create", network });
      return { network, warning: "" };
    });
  }

  async remove(term: string, signal: AbortSignal): Promise<void> {
    await this.#mutex.run("networks", () => this.#remove(findNetwork(this.#all(), term), signal));
  }

  async prune(accepts: (network: Network) => boolean, signal: AbortSignal): Promise<readonly string[]> {
    return this.#mutex.run("networks", async () => {
      const removed: string[] = [];
      for (const network of this.#all()) {
        if (isPredefined(network) || network.spec.ingress || network.spec.configOnly || !accepts(network)) continue;
        try {
          await this.#remove(network, signal);
          removed.push(network.spec.name);
        } catch (error) {
          // In use, here or elsewhere in the cluster: that is what prune leaves alone.
          if (!(error instanceof EngineError)) throw error;
          this.#options.log.debug("not pruned", { network: network.spec.name, reason: error.message });
        }
      }
      return removed;
    });
  }

  endpoints(networkId: string): readonly NetworkMember[] {
    return this.#catalogue.endpointsOn(networkId).map((endpoint) => ({
      key: endpoint.containerId === "" ? `ep-${endpoint.id}` : endpoint.containerId,
      name: endpoint.containerName,
      endpointId: endpoint.id,
      mac: endpoint.mac,
      ipv4: endpoint.ipv4,
      ipv6: endpoint.ipv6,
    }));
  }

  peers(networkId: string): ReturnType<Networks["peers"]> {
    return this.#catalogue.network(networkId)?.scope === "swarm" ? this.#peerTable.peers(networkId) : undefined;
  }

  async check(request: Pick<SandboxRequest, "mode" | "endpoints" | "publish">): Promise<void> {
    for (const endpoint of request.endpoints) {
      const network = tryFindNetwork(this.#all(), endpoint.network);
      if (network !== undefined) checkEndpoint(network, endpoint);
      // A worker sees only networks in use on it; whether there is one more, the manager says at start.
      else if (this.#options.swarm().role !== "worker") findNetwork(this.#all(), endpoint.network);
    }
  }

  prepareSandbox(sandboxId: string, mode: SandboxRequest["mode"]): Promise<string> {
    return this.#sandboxes.prepare(sandboxId, mode, new AbortController().signal);
  }

  async openSandbox(request: SandboxRequest, signal: AbortSignal): Promise<Sandbox> {
    await this.#peerTable.refresh();
    return this.#sandboxes.open(request, signal);
  }

  async closeSandbox(sandboxId: string, signal: AbortSignal): Promise<void> {
    try {
      await this.#sandboxes.close(sandboxId, signal);
    } finally {
      await this.#swarmSide.reap(signal);
    }
  }

  sandbox(sandboxId: string): Sandbox | undefined {
    return this.#sandboxes.sandbox(sandboxId);
  }

  async connect(sandboxId: string, request: EndpointRequest, signal: AbortSignal): Promise<Endpoint> {
    await this.#peerTable.refresh();
    return this.#sandboxes.connect(sandboxId, request, signal);
  }

  async disconnect(sandboxId: string, networkTerm: string, signal: AbortSignal): Promise<void> {
    await this.#sandboxes.disconnect(sandboxId, networkTerm, signal);
    await this.#swarmSide.reap(signal);
  }

  rename(sandboxId: string, containerName: string): Promise<void> {
    return this.#sandboxes.rename(sandboxId, containerName);
  }

  async recovered(liveSandboxes: ReadonlySet<string>, signal: AbortSignal): Promise<void> {
    await this.#peerTable.refresh();
    const isAlive = (id: string) => liveSandboxes.has(id) || this.#sandboxes.has(id);
    if (this.#options.swarm().role === "none") await this.#swarmSide.leave(signal);
    else await this.#swarmSide.reopenBalancers(signal);
    await this.#sandboxes.releaseDead(isAlive);
    await this.#swarmSide.reap(signal);
    const swept = await this.#options.kernel.sweep(join(this.#options.execRoot, "netns"), signal);
    if (swept.length > 0) this.#options.log.info("swept what dead processes left", { objects: swept.length });
    crashPoint("networks.recovered");
    this.#recovered = true;
  }

  installSwarmNetwork(network: SwarmNetwork, signal: AbortSignal): Promise<void> {
    return this.#swarmSide.install(network, signal);
  }

  removeSwarmNetwork(networkId: string, signal: AbortSignal): Promise<void> {
    return this.#swarmSide.remove(networkId, signal);
  }

  setIngress(ingress: SwarmNetwork | undefined, signal: AbortSignal): Promise<void> {
    return this.#swarmSide.setIngress(ingress, signal);
  }

  leaveSwarm(signal: AbortSignal): Promise<void> {
    return this.#swarmSide.leave(signal);
  }

  events(listener: (event: NetworkEvent) => void): Disposable {
    return this.#events.listen(listener);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#forwardRule[Symbol.asyncDispose]();
    await this.#sandboxes[Symbol.asyncDispose]();
    await this.#swarmSide[Symbol.asyncDispose]();
    this.#hostPorts[Symbol.dispose]();
  }

  /** Local ones and what is installed here; on a manager the rest of the cluster's as well. */
  #all(): readonly Network[] {
    const here = this.#catalogue.networks();
    const elsewhere = this.#options
      .swarm()
      .list()
      .filter((network) => this.#catalogue.network(network.id) === undefined);
    return [...here, ...elsewhere];
  }

  #driver(name: string): Driver {
    const driver = this.#drivers.get(name);
    // compat:
    const text = `could not find plugin ${name} in v1 plugin registry: plugin not found`;
    const more = notYet.has(name) ? ` (this version of Weft has no ${name} driver)` : "";
    if (driver === undefined) throw new EngineError("not-found", `${text}${more}`);
    return driver;
  }

  #createInSwarm(spec: NetworkSpec, signal: AbortSignal): Promise<Network> {
    const swarm = this.#options.swarm();
    refuseOutsideManager(spec, swarm.role);
    this.#local.refuseSameName(spec.name);
    this.#driver("overlay").check(spec, this.#all());
    return swarm.create(spec, signal);
  }

  async #remove(network: Network, signal: AbortSignal): Promise<void> {
    const { name } = network.spec;
    if (isPredefined(network)) {
      throw new EngineError("forbidden", `${name} is a pre-defined network and cannot be removed`); // compat:
    }
    if (network.scope === "swarm") {
      const swarm = this.#options.swarm();
      if (swarm.role !== "manager") throw notManager();
      await swarm.remove(network.id, signal);
    } else await this.#local.remove(network, signal);
    this.#events.emit({ action: network.scope === "swarm" ? "remove" : "destroy", network });
  }

  #hostObjects(): readonly KernelObject[] {
    const objects: KernelObject[] = [hostTable(4)];
    if (this.#hasIpv6) objects.push(hostTable(6));
    if (this.#options.config.ipForward) {
      objects.push({ kind: "sysctl", ns: "host", key: "net.ipv4.ip_forward", value: "1" });
    }
    return objects;
  }
}

/** Built into the reference engine: who asks for them has not mistyped a plugin's name. */
const notYet: ReadonlySet<string> = new Set(["macvlan", "ipvlan"]);

function isPredefined(network: Network): boolean {
  return network.scope === "local" && predefinedNames.has(network.spec.name);
}
