import { KeyedMutex } from "../base/async.ts";
import { crashPoint } from "../base/crash-point.ts";
import { runAll } from "../base/errors.ts";
import type { Log } from "../base/log.ts";
import type { Catalogue } from "./catalogue.ts";
import type { NameTable } from "./dns/dns.ts";
import type { OverlayDriver } from "./drivers/overlay/mod.ts";
import type { LatePeerTable } from "./late-peer-table.ts";
import type { Network, SwarmNetwork } from "./model.ts";
import type { RemoteName } from "./networks.ts";
import { hasNames } from "./sandbox/plan.ts";
import type { Sandboxes } from "./sandboxes.ts";

export interface SwarmSideDeps {
  readonly catalogue: Catalogue;
  readonly overlay: OverlayDriver;
  readonly names: NameTable;
  readonly peerTable: LatePeerTable;
  readonly sandboxes: Sandboxes;
  readonly log: Log;
  readonly ensureGatewayBridge: (signal: AbortSignal) => Promise<Network>;
}

/**
 * The swarm's networks on this node, as its agent installs and removes them: the record, the gossip, the names that others
 * tell, and the balancer's endpoint with the node's address.
 */
export class SwarmSide {
  readonly #deps: SwarmSideDeps;
  readonly #mutex = new KeyedMutex();
  readonly #watches = new Map<string, Disposable>();
  /** To be forgotten as soon as their last container endpoint is gone. */
  readonly #doomed = new Set<string>();
  /** Asked for in this life. Networks of an earlier one stay for their containers, until the manager asks for them again. */
  readonly #asked = new Set<string>();

  constructor(deps: SwarmSideDeps) {
    this.#deps = deps;
  }

  /** Networks of an earlier life: known at once, so that their containers can be taken over before a manager is heard. */
  async start(signal: AbortSignal): Promise<void> {
    for (const { network } of this.#swarmRecords()) await this.#know(network, signal);
  }

  async reopenBalancers(signal: AbortSignal): Promise<void> {
    for (const { network } of this.#swarmRecords()) {
      await this.#mutex.run(network.id, async () => {
        // The agent is at work already: it may have taken this one away, or given it another address.
        const record = this.#deps.catalogue.record(network.id);
        if (record !== undefined) await this.#open(record.network, record.nodeAddress, signal);
      });
    }
  }

  install(wanted: SwarmNetwork, signal: AbortSignal): Promise<void> {
    const { network, nodeAddress } = wanted;
    this.#asked.add(network.id);
    return this.#mutex.run(network.id, async () => {
      await this.#deps.peerTable.refresh();
      this.#doomed.delete(network.id);
      const record = nodeAddress === undefined ? { network } : { network, nodeAddress };
      if (JSON.stringify(this.#deps.catalogue.record(network.id)) !== JSON.stringify(record)) {
        await this.#deps.catalogue.putNetwork(record);
        crashPoint("network.store");
      }
      await this.#know(network, signal);
      await this.#open(network, nodeAddress, signal);
    });
  }

  remove(networkId: string, signal: AbortSignal): Promise<void> {
    return this.#mutex.run(networkId, async () => {
      const network = this.#deps.catalogue.network(networkId);
      if (network === undefined || network.scope !== "swarm") return;
      this.#asked.delete(networkId);
      this.#doomed.add(networkId);
      await this.#forgetUnused(network, signal);
    });
  }

  /** Forgets the networks that only waited for their last container. */
  async reap(signal: AbortSignal): Promise<void> {
    for (const id of [...this.#doomed]) await this.remove(id, signal);
    for (const { network } of this.#swarmRecords()) {
      // The node is always on ingress, whether or not it can hear its manager say so.
      if (network.spec.ingress) continue;
      await this.#mutex.run(network.id, async () => {
        if (!this.#asked.has(network.id)) await this.#forgetUnused(network, signal);
      });
    }
  }

  async setIngress(ingress: SwarmNetwork | undefined, signal: AbortSignal): Promise<void> {
    for (const { network } of this.#swarmRecords()) {
      if (network.spec.ingress && network.id !== ingress?.network.id) await this.remove(network.id, signal);
    }
    if (ingress === undefined) return;
    await this.#deps.ensureGatewayBridge(signal);
    await this.install(ingress, signal);
  }

  /** Every swarm network goes, with the containers' endpoints on it; docker_gwbridge stays, as it does with the reference engine. */
  async leave(signal: AbortSignal): Promise<void> {
    const { catalogue, sandboxes } = this.#deps;
    await runAll(
      "leave the swarm's networks",
      this.#swarmRecords().map(({ network }) => async () => {
        for (const endpoint of catalogue.endpointsOn(network.id)) {
          if (isBalancer(endpoint.sandboxId)) continue;
          if (sandboxes.has(endpoint.sandboxId)) await sandboxes.disconnect(endpoint.sandboxId, network.id, signal);
          else await sandboxes.close(endpoint.sandboxId, signal);
        }
        await this.remove(network.id, signal);
      }),
    );
    await this.#deps.peerTable.refresh();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const watch of this.#watches.values()) watch[Symbol.dispose]();
    this.#watches.clear();
    await this.#deps.overlay[Symbol.asyncDispose]();
  }

  #swarmRecords() {
    return this.#deps.catalogue.records().filter(({ network }) => network.scope === "swarm");
  }

  async #know(network: Network, signal: AbortSignal): Promise<void> {
    const { overlay, peerTable, names } = this.#deps;
    await overlay.ensureNetwork(network, signal);
    if (this.#watches.has(network.id) || !hasNames(network)) return;
    const watch = peerTable.watchNames(network.id, (endpointId, name) => {
      if (this.#deps.catalogue.endpoint(endpointId) !== undefined) return;
      if (name === undefined || name.disabled) names.delete(network.id, endpointId);
      else names.set(network.id, endpointId, recordOf(name));
    });
    this.#watches.set(network.id, watch);
  }

  async #open(network: Network, nodeAddress: SwarmNetwork["nodeAddress"], signal: AbortSignal): Promise<void> {
    if (nodeAddress === undefined) return;
    await this.#deps.sandboxes.openBalancer({ network, nodeAddress }, signal);
  }

  async #forgetUnused(network: Network, signal: AbortSignal): Promise<void> {
    const { catalogue, sandboxes, overlay, names } = this.#deps;
    const endpoints = catalogue.endpointsOn(network.id);
    if (endpoints.some((endpoint) => !isBalancer(endpoint.sandboxId))) return;
    for (const sandboxId of new Set(endpoints.map((endpoint) => endpoint.sandboxId))) {
      await sandboxes.close(sandboxId, signal);
    }
    this.#watches.get(network.id)?.[Symbol.dispose]();
    this.#watches.delete(network.id);
    names.deleteNetwork(network.id);
    await overlay.removeNetwork(network, signal);
    crashPoint("network.remove");
    await catalogue.deleteNetwork(network.id);
    this.#doomed.delete(network.id);
  }
}

function isBalancer(sandboxId: string): boolean {
  return sandboxId === "ingress-sbox" || sandboxId.startsWith("lb_");
}

function recordOf(name: RemoteName): Parameters<NameTable["set"]>[2] {
  const names = [name.name, ...name.taskAliases];
  if (name.serviceName === "") return { names, addresses: [name.address] };
  return {
    names,
    addresses: [name.address],
    service: {
      names: [name.serviceName, ...name.serviceAliases],
      virtualIp: name.virtualIp,
      disabled: name.disabled,
    },
  };
}
