import { KeyedMutex } from "../base/async.ts";
import type { Clock } from "../base/clock.ts";
import { crashPoint } from "../base/crash-point.ts";
import { EngineError } from "../base/errors.ts";
import { newHexId, shortId } from "../base/ids.ts";
import { familyOf } from "../base/ip.ts";
import type { Log } from "../base/log.ts";
import type { Random } from "../base/random.ts";
import type { Kernel } from "../kernel/mod.ts";
import { assignPools, hostCidr } from "./addresses.ts";
import type { Catalogue } from "./catalogue.ts";
import type { NetworksConfig } from "./config.ts";
import { withConfigFrom } from "./config-from.ts";
import { checkBridgeConflicts } from "./drivers/bridge/bridge.ts";
import type { BridgeDefaults } from "./drivers/bridge/desired.ts";
import type { Driver } from "./drivers/driver.ts";
import type { DefaultPool } from "./ipam/ipam.ts";
import { localDefaultPools, ulaPool } from "./ipam/mod.ts";
import type { IpamPool, Network, NetworkSpec } from "./model.ts";
import { defaultBridgeSpec, gatewayBridgeSpec } from "./predefined.ts";
import { hostNameServers } from "./sandbox/container-files.ts";
import { gatewayBridgeName } from "./sandbox/gateway.ts";

export interface LocalNetworksDeps {
  readonly kernel: Pick<Kernel, "routes">;
  readonly catalogue: Catalogue;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly config: NetworksConfig;
  readonly engineId: string | undefined;
  readonly bridgeDefaults: BridgeDefaults;
  /** All networks known here, the swarm's too: names are shared. */
  readonly all: () => readonly Network[];
  /** @throws {EngineError} when there is none of that name. */
  readonly driver: (name: string) => Driver;
  /** Lets go what containers that are gone still hold. */
  readonly releaseDead: () => Promise<void>;
}

/** Networks of this host alone: their addresses, records and devices come and go together. */
export class LocalNetworks {
  readonly #deps: LocalNetworksDeps;
  readonly #mutex = new KeyedMutex();
  readonly #removing = new Set<string>();

  constructor(deps: LocalNetworksDeps) {
    this.#deps = deps;
  }

  /** While it is, nobody joins it. */
  isBeingRemoved(networkId: string): boolean {
    return this.#removing.has(networkId);
  }

  async create(spec: NetworkSpec, signal: AbortSignal): Promise<Network> {
    this.refuseSameName(spec.name);
    if (!spec.configOnly) this.#deps.driver(spec.driver);
    if (spec.scope === "swarm" || spec.ingress) {
      throw new EngineError("forbidden", "cannot create a swarm scoped network when swarm is not active"); // compat:
    }
    const merged = withConfigFrom(spec, this.#deps.all());
    if (merged.configOnly) return this.#store(merged, []);
    const driver = this.#deps.driver(merged.driver);
    driver.check(merged, this.#deps.all());
    return this.#make(merged, driver, signal);
  }

  /** A local network, whatever it is called: addresses, record, device. */
  async #make(spec: NetworkSpec, driver: Driver, signal: AbortSignal): Promise<Network> {
    const pools = driver.addresses ? this.#assignPools(spec) : [];
    const network = await this.#store(spec, pools, (candidate) => {
      if (spec.driver === "bridge")
        checkBridgeConflicts(candidate, this.#deps.catalogue.networks(), this.#deps.bridgeDefaults);
    });
    try {
      await driver.ensureNetwork(network, signal);
      crashPoint("network.ensure");
      return network;
    } catch (error) {
      await driver.removeNetwork(network, new AbortController().signal);
      await this.#deps.catalogue.deleteNetwork(network.id);
      throw error;
    }
  }

  async #store(spec: NetworkSpec, pools: readonly IpamPool[], accept?: (network: Network) => void): Promise<Network> {
    const network: Network = {
      id: newHexId(this.#deps.random),
      createdAt: this.#deps.clock.wall().toISOString(),
      spec,
      scope: "local",
      pools,
      vnis: [],
    };
    accept?.(network);
    await this.#deps.catalogue.putNetwork({ network });
    crashPoint("network.store");
    return network;
  }

  #assignPools(spec: NetworkSpec): readonly IpamPool[] {
    const routes = this.#deps.kernel.routes("host").map((route) => route.destination);
    const servers = hostNameServers().map(hostCidr);
    return assignPools(spec, {
      used: this.#deps.catalogue
        .networks()
        .flatMap((network) => (network.scope === "local" ? network.pools.map((p) => p.subnet) : [])),
      // The default route overlaps everything and says nothing about where the LAN is.
      avoid: [...routes.filter((cidr) => cidr.prefix > 0), ...servers],
      defaults: this.#defaultPools(),
    });
  }

  #defaultPools(): readonly DefaultPool[] {
    const pools = this.#deps.config.defaultAddressPools ?? localDefaultPools;
    const { engineId } = this.#deps;
    const isComplete = engineId === undefined || pools.some((pool) => familyOf(pool.base.address) === 6);
    return isComplete ? pools : [...pools, ulaPool(engineId)];
  }

  refuseSameName(name: string): void {
    if (this.#deps.all().some((network) => network.spec.name === name)) {
      throw new EngineError("conflict", `network with name ${name} already exists`); // compat:
    }
  }

  async remove(network: Network, signal: AbortSignal): Promise<void> {
    const { name } = network.spec;
    if (network.spec.configOnly && this.#deps.all().some((other) => other.spec.configFrom === name)) {
      throw new EngineError("forbidden", `configuration network "${name}" is in use`); // compat:
    }
    // A record whose container is gone must not hold a network for ever.
    await this.#deps.releaseDead();
    const active = this.#deps.catalogue.endpointsOn(network.id);
    if (active.length > 0) {
      const holders = active.map((e) => `name:"${e.containerName}" id:"${shortId(e.id)}"`).join(", ");
      // compat:
      const text = `error while removing network: network ${name} has active endpoints (${holders})`;
      throw new EngineError("forbidden", text);
    }
    this.#removing.add(network.id);
    try {
      if (!network.spec.configOnly) await this.#deps.driver(network.spec.driver).removeNetwork(network, signal);
      crashPoint("network.remove");
      await this.#deps.catalogue.deleteNetwork(network.id);
    } finally {
      this.#removing.delete(network.id);
    }
  }

  async ensurePredefined(spec: NetworkSpec, signal: AbortSignal): Promise<void> {
    if (this.#deps.catalogue.networks().some((network) => network.spec.name === spec.name)) return;
    await this.#make(spec, this.#deps.driver(spec.driver), signal);
  }

  /** The flags rule: a default bridge that nobody uses is made anew when they have changed. */
  async ensureDefaultBridge(signal: AbortSignal): Promise<void> {
    const spec = defaultBridgeSpec(this.#deps.config);
    const found = this.#deps.catalogue.networks().find((network) => network.spec.name === spec.name);
    if (found === undefined) {
      await this.ensurePredefined(spec, signal);
      return;
    }
    if (JSON.stringify(found.spec) === JSON.stringify(spec)) return;
    if (this.#deps.catalogue.endpointsOn(found.id).length > 0) {
      this.#deps.log.warn("the default bridge is in use: its changed settings wait for a restart without containers");
      return;
    }
    await this.#deps.catalogue.deleteNetwork(found.id);
    await this.#make(spec, this.#deps.driver("bridge"), signal);
  }

  ensureGatewayBridge(signal: AbortSignal): Promise<Network> {
    return this.#mutex.run("gateway-bridge", async () => {
      const found = this.#deps.catalogue
        .networks()
        .find((n) => n.spec.name === gatewayBridgeName && n.scope === "local");
      return found ?? (await this.#make(gatewayBridgeSpec, this.#deps.driver("bridge"), signal));
    });
  }
}
