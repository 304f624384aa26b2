import { join } from "node:path";
import { KeyedMutex } from "../base/async.ts";
import { crashPoint } from "../base/crash-point.ts";
import { EngineError, messageOf, runAll } from "../base/errors.ts";
import { newHexId, shortId } from "../base/ids.ts";
import { type Cidr, familyOf, type IpAddress } from "../base/ip.ts";
import type { Log } from "../base/log.ts";
import type { Random } from "../base/random.ts";
import type { Kernel, KernelObject } from "../kernel/mod.ts";
import { assignAddresses, type EndpointAddresses, noAddresses } from "./addresses.ts";
import type { Catalogue } from "./catalogue.ts";
import { checkEndpoint } from "./check-endpoint.ts";
import type { NetworksConfig } from "./config.ts";
import type { DnsServer, DnsServerOptions, NameTable, Upstream } from "./dns/dns.ts";
import { parseBridgeOptions } from "./drivers/bridge/options.ts";
import type { Driver } from "./drivers/driver.ts";
import { tryFindNetwork } from "./lookup.ts";
import type { Endpoint, EndpointRequest, Network, PortBinding, Sandbox, SandboxRequest } from "./model.ts";
import type { NetworkEvent, PeerTable, SwarmNetworks } from "./networks.ts";
import type { HostPorts } from "./portmapping/host-ports.ts";
import { type ContainerFiles, containerFiles, hostModeFiles, writeContainerFiles } from "./sandbox/container-files.ts";
import { namespaceObjects, sandboxObjects } from "./sandbox/desired.ts";
import {
  type Attached,
  gatewayEndpoint,
  gatewayEndpoint6,
  gatewayEndpointName,
  gatewayOrder,
  isGatewayBridge,
  needsGatewayBridge,
} from "./sandbox/gateway.ts";
import { balancerRequest, macFor } from "./sandbox/identity.ts";
import { gatewayRequest, hasNames, linksOf, nameOrder, namesOf, nextInterface } from "./sandbox/plan.ts";

export interface SandboxesDeps {
  readonly kernel: Kernel;
  readonly catalogue: Catalogue;
  readonly driverOf: (network: Network) => Driver;
  readonly hostPorts: HostPorts;
  readonly names: NameTable;
  readonly openDns: (options: DnsServerOptions, signal: AbortSignal) => Promise<DnsServer>;
  readonly peerTable: PeerTable;
  readonly swarm: () => SwarmNetworks;
  readonly config: NetworksConfig;
  readonly log: Log;
  readonly random: Random;
  readonly netnsDirectory: string;
  readonly hasIpv6: boolean;
  readonly allNetworks: () => readonly Network[];
  readonly isBeingRemoved: (networkId: string) => boolean;
  readonly ensureGatewayBridge: (signal: AbortSignal) => Promise<Network>;
  readonly emit: (event: NetworkEvent) => void;
}

/** A sandbox of this process: a container's, or one of a swarm network's load balancers. */
interface Live {
  readonly id: string;
  readonly kind: "container" | "balancer";
  readonly path: string;
  request: SandboxRequest;
  dns: DnsServer | undefined;
  upstreams: readonly Upstream[];
  /** Endpoints as the kernel has them. */
  readonly applied: Map<string, Endpoint>;
  /** Attachments that the manager gave and that are not given back yet. */
  readonly attachments: Set<string>;
  /** Endpoints not yet told of. */
  readonly fresh: Set<string>;
  /** The sandbox's own objects as last given to the kernel. */
  objects: readonly KernelObject[] | undefined;
}

/** What a request came to: the network, and what the manager gave when it is the swarm's. */
interface Resolved {
  readonly request: EndpointRequest;
  readonly network: Network;
  readonly kept: Endpoint | undefined;
  readonly attachment: { readonly id: string; readonly addresses: readonly Cidr[] } | undefined;
}

/**
 * Sandboxes: which endpoints each has, in which order they come up and go. Opening, connecting, disconnecting and taking
 * over after a restart all end in `#settle`, which makes the world equal to a list of endpoints.
 */
export class Sandboxes {
  readonly #deps: SandboxesDeps;
  readonly #live = new Map<string, Live>();
  readonly #mutex = new KeyedMutex();

  constructor(deps: SandboxesDeps) {
    this.#deps = deps;
  }

  has(sandboxId: string): boolean {
    return this.#live.has(sandboxId);
  }

  sandbox(sandboxId: string): Sandbox | undefined {
    const live = this.#live.get(sandboxId);
    return live === undefined ? undefined : this.#show(live);
  }

  /** `lb_…` and `ingress-sbox` are whole names; a container's sandbox id is cut, as in `SandboxKey`. */
  pathOf(sandboxId: string): string {
    return join(this.#deps.netnsDirectory, shortId(sandboxId).replace("-", "_"));
  }

  async prepare(sandboxId: string, mode: SandboxRequest["mode"], signal: AbortSignal): Promise<string> {
    if (mode === "host") return hostPath();
    const path = this.pathOf(sandboxId);
    if (!this.#live.has(sandboxId)) {
      await this.#deps.kernel.reconcile(`sandbox/${sandboxId}`, namespaceObjects(path), signal);
      crashPoint("sandbox.prepare");
    }
    return path;
  }

  open(request: SandboxRequest, signal: AbortSignal): Promise<Sandbox> {
    return this.#mutex.run(request.sandboxId, async () => {
      const live = this.#enter(request, "container");
      live.request = request;
      try {
        const resolved = await this.#resolveAll(live, request.endpoints, signal);
        await this.#settle(live, await this.#plan(live, resolved, signal), signal);
        return this.#show(live);
      } catch (error) {
        await this.#undo(live);
        throw error;
      }
    });
  }

  /** A swarm network's presence on this node: one endpoint with the node's address, and for ingress the way out. */
  openBalancer(options: { readonly network: Network; readonly nodeAddress: Cidr }, signal: AbortSignal): Promise<void> {
    const { network, nodeAddress } = options;
    const request = balancerRequest(network, nodeAddress);
    return this.#mutex.run(request.sandboxId, async () => {
      const live = this.#enter(request, "balancer");
      try {
        const kept = this.#deps.catalogue.endpointsOf(live.id).find((endpoint) => endpoint.networkId === network.id);
        const [endpointRequest] = request.endpoints;
        if (endpointRequest === undefined) return;
        const same = kept?.ipv4?.address === nodeAddress.address ? kept : undefined;
        const resolved: Resolved = {
          request: endpointRequest,
          network,
          kept: same,
          attachment: { id: "", addresses: [nodeAddress] },
        };
        await this.#settle(live, await this.#plan(live, [resolved], signal), signal);
      } catch (error) {
        await this.#undo(live);
        throw error;
      }
    });
  }

  close(sandboxId: string, signal: AbortSignal): Promise<void> {
    return this.#mutex.run(sandboxId, () => this.#close(sandboxId, signal));
  }

  connect(sandboxId: string, request: EndpointRequest, signal: AbortSignal): Promise<Endpoint> {
    return this.#mutex.run(sandboxId, async () => {
      const live = this.#find(sandboxId);
      if (live.request.mode === "host") throw hostModeRefusal();
      const before = this.#attached(live);
      const target = tryFindNetwork(this.#deps.allNetworks(), request.network);
      if (target?.spec.driver === "host") throw hostModeRefusal();
      if (target?.spec.driver === "null" || before.some(({ network }) => network.spec.driver === "null")) {
        // compat:
        const text =
          "container cannot be connected to multiple networks with one of the networks in private (none) mode";
        throw new EngineError("invalid", text);
      }
      if (target !== undefined && before.some(({ network }) => network.id === target.id)) {
        const text = `endpoint with name ${live.request.containerName} already exists in network ${target.spec.name}`;
        throw new EngineError("forbidden", text); // compat:
      }
      const kept = before.filter((a) => !isWayOut(a)).map(keep);
      const resolved = await this.#resolve(live, request, signal);
      try {
        await this.#settle(live, await this.#plan(live, [...kept, resolved], signal), signal);
      } catch (error) {
        await this.#restore(live, before, signal);
        // Unless the endpoint got as far as being made, and took it along when it was undone.
        const attachment = resolved.attachment?.id;
        if (attachment !== undefined && live.attachments.has(attachment)) await this.#detach(live, attachment);
        throw error;
      }
      live.request = { ...live.request, endpoints: [...live.request.endpoints, request] };
      const made = this.#attached(live).find(({ network }) => network.id === resolved.network.id);
      if (made === undefined) throw new EngineError("internal", `endpoint on ${request.network} is gone`);
      return made.endpoint;
    });
  }

  disconnect(sandboxId: string, term: string, signal: AbortSignal): Promise<void> {
    return this.#mutex.run(sandboxId, async () => {
      const live = this.#find(sandboxId);
      const before = this.#attached(live);
      const target = tryFindNetwork(
        before.map(({ network }) => network),
        term,
      );
      if (target?.spec.driver === "host") throw hostModeRefusal();
      if (target === undefined) {
        const text = `container ${live.request.containerId} is not connected to network ${term}`;
        throw new EngineError("internal", text); // compat:
      }
      const kept = before.filter((a) => a.network.id !== target.id && !isWayOut(a)).map(keep);
      await this.#settle(live, await this.#plan(live, kept, signal), signal);
      const left = kept.map(({ request }) => request);
      live.request = { ...live.request, endpoints: left };
    });
  }

  rename(sandboxId: string, containerName: string): Promise<void> {
    return this.#mutex.run(sandboxId, async () => {
      const live = this.#live.get(sandboxId);
      if (live === undefined) return;
      live.request = { ...live.request, containerName };
      const attached = this.#attached(live).map((a): Attached => {
        if (isWayOut(a)) return a;
        const dnsNames = namesOf(a.network, a.endpoint.request, live.request);
        return { ...a, endpoint: { ...a.endpoint, containerName, dnsNames } };
      });
      await this.#deps.catalogue.saveEndpoints(attached.map(({ endpoint }) => endpoint));
      for (const a of attached) {
        live.applied.set(a.endpoint.id, a.endpoint);
        this.#announceNames(a);
      }
    });
  }

  /** Releases endpoint records whose sandbox is nobody's any more; the kernel's sweep takes what they had. */
  async releaseDead(isAlive: (sandboxId: string) => boolean): Promise<void> {
    const dead = this.#deps.catalogue.endpoints().filter((endpoint) => !isAlive(endpoint.sandboxId));
    if (dead.length === 0) return;
    this.#deps.log.info("releasing endpoints of dead containers", { count: dead.length });
    for (const endpoint of dead) {
      this.#deps.hostPorts.release(endpoint.id);
      this.#withdrawNames(endpoint);
      await this.#detach(undefined, endpoint.attachmentId);
    }
    await this.#deps.catalogue.deleteEndpoints(dead);
  }

  /** Closes the resolvers. The kernel keeps what it has: containers go on without us. */
  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all([...this.#live.values()].map((live) => live.dns?.[Symbol.asyncDispose]()));
    this.#live.clear();
  }

  #enter(request: SandboxRequest, kind: Live["kind"]): Live {
    const found = this.#live.get(request.sandboxId);
    if (found !== undefined) return found;
    const path = request.mode === "host" ? hostPath() : this.pathOf(request.sandboxId);
    const live: Live = {
      id: request.sandboxId,
      kind,
      path,
      request,
      dns: undefined,
      upstreams: [],
      applied: new Map(),
      attachments: new Set(),
      fresh: new Set(),
      objects: undefined,
    };
    this.#live.set(live.id, live);
    return live;
  }

  #find(sandboxId: string): Live {
    const live = this.#live.get(sandboxId);
    if (live === undefined) throw new EngineError("not-found", `sandbox ${sandboxId} not found`);
    return live;
  }

  #attached(live: Live): readonly Attached[] {
    const attached = this.#deps.catalogue.endpointsOf(live.id).flatMap((endpoint): readonly Attached[] => {
      const network = this.#deps.catalogue.network(endpoint.networkId);
      return network === undefined ? [] : [{ endpoint, network }];
    });
    return attached.sort((a, b) => interfaceNumber(a.endpoint) - interfaceNumber(b.endpoint));
  }

  #show(live: Live): Sandbox {
    return { id: live.id, netnsPath: live.path, endpoints: this.#attached(live).map(({ endpoint }) => endpoint) };
  }

  async #resolveAll(
    live: Live,
    requests: readonly EndpointRequest[],
    signal: AbortSignal,
  ): Promise<readonly Resolved[]> {
    const resolved: Resolved[] = [];
    for (const request of requests) resolved.push(await this.#resolve(live, request, signal));
    return resolved;
  }

  /** The network of a request: one of ours, or one that the manager lets this container attach to. */
  async #resolve(live: Live, request: EndpointRequest, signal: AbortSignal): Promise<Resolved> {
    const { catalogue, swarm } = this.#deps;
    const known = tryFindNetwork(this.#deps.allNetworks(), request.network);
    if (known !== undefined) {
      checkEndpoint(known, request);
      const kept = catalogue.endpointsOf(live.id).find((endpoint) => endpoint.networkId === known.id);
      const isInstalled = catalogue.network(known.id) !== undefined;
      if (isInstalled && (kept !== undefined || known.scope !== "swarm")) {
        return { request, network: known, kept, attachment: undefined };
      }
    }
    if (swarm().role === "none") throw new EngineError("not-found", `network ${request.network} not found`); // compat:
    const addresses = [request.ipv4, request.ipv6].filter((address) => address !== undefined);
    const target = known?.id ?? request.network;
    const containerId = live.request.containerId;
    const given = await swarm().attach({ target, addresses, containerId }, signal);
    live.attachments.add(given.attachmentId);
    const network = catalogue.network(given.networkId);
    if (network === undefined) {
      await this.#detach(live, given.attachmentId);
      throw new EngineError("internal", `network ${request.network} was not installed on this node`);
    }
    const kept = catalogue
      .endpointsOf(live.id)
      .find((e) => e.networkId === network.id && given.addresses.some((cidr) => cidr.address === e.ipv4?.address));
    return { request, network, kept, attachment: { id: given.attachmentId, addresses: given.addresses } };
  }

  /** The endpoints a sandbox is to have: kept ones as they are, new ones with addresses, and the way out where needed. */
  async #plan(live: Live, resolved: readonly Resolved[], signal: AbortSignal): Promise<readonly Attached[]> {
    const networks = resolved.map(({ network }) => network);
    const wantsWayOut = live.kind === "container" ? needsGatewayBridge(networks) : networks.some((n) => n.spec.ingress);
    const items = [...resolved];
    if (wantsWayOut) {
      const bridge = await this.#deps.ensureGatewayBridge(signal);
      const kept = this.#deps.catalogue.endpointsOf(live.id).find((endpoint) => endpoint.networkId === bridge.id);
      if (!networks.some((network) => network.id === bridge.id)) {
        items.push({ request: gatewayRequest(), network: bridge, kept, attachment: undefined });
      }
    }
    const planned: Attached[] = [];
    const taken = items.flatMap(({ kept }) => (kept === undefined ? [] : [kept]));
    const fresh: Endpoint[] = [];
    try {
      for (const item of items) {
        const endpoint =
          item.kept === undefined ? this.#newEndpoint(live, item, taken) : this.#refresh(live, item, item.kept);
        if (item.kept === undefined) {
          taken.push(endpoint);
          fresh.push(endpoint);
        }
        planned.push({ endpoint, network: item.network });
      }
    } catch (error) {
      for (const endpoint of fresh) this.#deps.catalogue.forget(endpoint);
      throw error;
    }
    for (const endpoint of fresh) live.fresh.add(endpoint.id);
    return planned;
  }

  /** The engine's request may have changed while the endpoint lived on: names follow it, addresses stay. */
  #refresh(live: Live, item: Resolved, endpoint: Endpoint): Endpoint {
    return {
      ...endpoint,
      request: item.request,
      containerName: nameOf(live, item.network),
      dnsNames: this.#dnsNames(live, item),
      attachmentId: item.attachment?.id ?? endpoint.attachmentId,
    };
  }

  #dnsNames(live: Live, item: Resolved): readonly string[] {
    return live.kind === "container" ? namesOf(item.network, item.request, live.request) : [];
  }

  /** Addresses are taken at once, in memory: two sandboxes that come up together never choose the same. */
  #newEndpoint(live: Live, item: Resolved, taken: readonly Endpoint[]): Endpoint {
    const { network, request, attachment } = item;
    const { catalogue, random } = this.#deps;
    if (this.#deps.isBeingRemoved(network.id)) {
      throw new EngineError("not-found", `network ${network.spec.name} not found`); // compat:
    }
    const driver = this.#deps.driverOf(network);
    const addresses = this.#addressesFor(item, driver);
    const endpoint: Endpoint = {
      id: newHexId(random),
      networkId: network.id,
      networkName: network.spec.name,
      sandboxId: live.id,
      containerId: live.request.containerId,
      containerName: nameOf(live, network),
      request,
      mac: driver.addresses ? (request.mac ?? macFor(network, addresses, random)) : undefined,
      ...addresses,
      dnsNames: this.#dnsNames(live, item),
      interfaceName: nextInterface(network, taken),
      attachmentId: attachment === undefined || attachment.id === "" ? undefined : attachment.id,
      ports: [],
    };
    catalogue.reserve(endpoint);
    catalogue.noteGiven(endpoint);
    return endpoint;
  }

  #addressesFor({ network, request, attachment }: Resolved, driver: Driver): EndpointAddresses {
    const { catalogue } = this.#deps;
    if (!driver.addresses) return noAddresses;
    if (attachment === undefined) {
      const others = catalogue.endpointsOn(network.id);
      return assignAddresses(network, request, others, (family) => catalogue.lastGiven(network.id, family));
    }
    // An overlay has no gateway of its own: the way out is another endpoint (reference: network-data-plane 2.5).
    const of = (family: 4 | 6) => attachment.addresses.find((cidr) => familyOf(cidr.address) === family);
    return { ...noAddresses, ipv4: of(4), ipv6: of(6) };
  }

  /**
   * Makes the sandbox have exactly `wanted`: intent to disk, what is not wanted out, what is missing in, then routes, names and
   * files. Every step may be repeated; after a crash the same call finishes the work.
   */
  async #settle(live: Live, wanted: readonly Attached[], signal: AbortSignal): Promise<void> {
    const { catalogue } = this.#deps;
    const stored = catalogue.endpointsOf(live.id);
    const removed = stored.filter((endpoint) => !wanted.some((a) => a.endpoint.id === endpoint.id));
    const next = this.#publish(live, wanted, stored);
    const changed = next.filter(({ endpoint }) => !isSame(live.applied.get(endpoint.id), endpoint));
    await catalogue.saveEndpoints(changed.map(({ endpoint }) => endpoint));
    crashPoint("endpoint.store");
    const files = this.#files(live, next);
    await this.#leave({ live, endpoints: removed }, signal);
    if (live.request.mode === "private") {
      if (live.objects === undefined) await this.#reconcile(live, namespaceObjects(live.path), signal);
      const [plain, publishing] = [
        changed.filter(({ endpoint }) => endpoint.ports.length === 0),
        changed.filter(({ endpoint }) => endpoint.ports.length > 0),
      ];
      // The loser of a published port gives it up before the winner takes it: both name the same map elements.
      const joining = this.#join(live, plain, signal).then(() => this.#join(live, publishing, signal));
      live.upstreams = files.upstreams(live.path);
      await Promise.all([joining, this.#settleDns(live, next, files, signal)]);
      await this.#reconcile(live, this.#objects(live, next), signal);
      crashPoint("sandbox.settle");
    } else for (const { endpoint } of next) live.applied.set(endpoint.id, endpoint);
    if (live.kind === "container") writeContainerFiles(live.request.filesDirectory, files);
    for (const a of next) {
      this.#deps.hostPorts.startRelays(a.endpoint.id, a.endpoint.ipv4?.address, a.endpoint.ipv6?.address);
      this.#announceNames(a);
      if (live.fresh.delete(a.endpoint.id)) this.#greet(live, a);
    }
  }

  #reconcile(live: Live, objects: readonly KernelObject[], signal: AbortSignal): Promise<void> {
    live.objects = objects;
    return this.#deps.kernel.reconcile(`sandbox/${live.id}`, objects, signal);
  }

  /** Ports follow the gateway endpoint; they keep their numbers when it changes. */
  #publish(live: Live, wanted: readonly Attached[], stored: readonly Endpoint[]): readonly Attached[] {
    const { hostPorts, config } = this.#deps;
    const { publish } = live.request;
    if (publish.length === 0 || live.request.mode === "host") return wanted;
    const gateway = gatewayEndpoint(wanted);
    const earlier = stored.flatMap((endpoint) => endpoint.ports);
    for (const endpoint of stored) {
      if (endpoint.id === gateway?.endpoint.id) continue;
      if (gateway === undefined) hostPorts.release(endpoint.id);
      else hostPorts.move(endpoint.id, gateway.endpoint.id);
    }
    let ports: readonly PortBinding[] = [];
    if (gateway !== undefined && gateway.network.spec.driver === "bridge") {
      const { publishAddress } = parseBridgeOptions(gateway.network.spec.options);
      const defaultAddress = publishAddress ?? config.defaultPublishAddress;
      try {
        ports = hostPorts.reserve({ holder: gateway.endpoint.id, publish, earlier, defaultAddress });
      } catch (error) {
        if (!(error instanceof EngineError)) throw error;
        const { containerName, id } = gateway.endpoint;
        const text = `driver failed programming external connectivity on endpoint ${containerName} (${id}): ${error.message}`;
        throw new EngineError("internal", text, { cause: error }); // compat:
      }
    }
    return wanted.map((a) => ({
      ...a,
      endpoint: { ...a.endpoint, ports: a.endpoint.id === gateway?.endpoint.id ? ports : [] },
    }));
  }

  #objects(live: Live, attached: readonly Attached[]): readonly KernelObject[] {
    const routes: { address: IpAddress; link: string }[] = [];
    const v4 = gatewayEndpoint(attached);
    if (v4?.endpoint.gateway !== undefined) {
      routes.push({ address: v4.endpoint.gateway, link: v4.endpoint.interfaceName });
    }
    const v6 = gatewayEndpoint6(attached);
    if (v6?.endpoint.gateway6 !== undefined) {
      routes.push({ address: v6.endpoint.gateway6, link: v6.endpoint.interfaceName });
    }
    return sandboxObjects({ path: live.path, sysctls: live.request.sysctls, gateways: routes, dns: live.dns });
  }

  async #join(live: Live, attached: readonly Attached[], signal: AbortSignal): Promise<void> {
    await Promise.all(
      attached.map(async ({ endpoint, network }) => {
        const before = live.applied.get(endpoint.id);
        await this.#deps.driverOf(network).join(network, endpoint, live.path, signal);
        crashPoint("endpoint.join");
        live.applied.set(endpoint.id, endpoint);
        this.#forgetFlows(endpoint, before);
      }),
    );
  }

  /** UDP flows that began before a port was published, or that led to an earlier owner of the address, would stay there. */
  #forgetFlows(endpoint: Endpoint, before: Endpoint | undefined): void {
    for (const port of endpoint.ports) {
      if (port.protocol !== "udp" || before?.ports.some((other) => other.hostPort === port.hostPort)) continue;
      this.#bestEffort("flush connection tracking", () =>
        this.#deps.kernel.flushConntrack("host", { protocol: "udp", originalDestinationPort: port.hostPort }),
      );
    }
  }

  /** Neighbours may know the address under the MAC of whoever had it before. Overlays tell theirs themselves, more than once. */
  #greet(live: Live, { endpoint, network }: Attached): void {
    if (network.spec.driver === "bridge" && endpoint.mac !== undefined) {
      const { mac, interfaceName } = endpoint;
      for (const address of [endpoint.ipv4?.address, endpoint.ipv6?.address]) {
        if (address !== undefined) this.#deps.kernel.announce({ path: live.path }, interfaceName, address, mac);
      }
    }
    if (live.kind === "container" && !isWayOut({ endpoint, network })) {
      this.#deps.emit({ action: "connect", network, containerId: live.request.containerId });
    }
  }

  /** Out of the network: names first, so that nobody is sent there any more, the record last. */
  async #leave(
    { live, endpoints }: { readonly live: Live | undefined; readonly endpoints: readonly Endpoint[] },
    signal: AbortSignal,
  ): Promise<void> {
    if (endpoints.length === 0) return;
    const steps = endpoints.map((endpoint) => async () => {
      const network = this.#deps.catalogue.network(endpoint.networkId);
      this.#withdrawNames(endpoint);
      if (network !== undefined && live?.request.mode !== "host") {
        await this.#deps.driverOf(network).leave(network, endpoint, signal);
        crashPoint("endpoint.leave");
      }
      live?.applied.delete(endpoint.id);
      live?.fresh.delete(endpoint.id);
      this.#deps.hostPorts.release(endpoint.id);
      const flowsOf = endpoint.ipv4?.address;
      if (flowsOf !== undefined && endpoint.ports.some((port) => port.protocol === "udp")) {
        this.#bestEffort("flush connection tracking", () =>
          this.#deps.kernel.flushConntrack("host", { protocol: "udp", replySource: flowsOf }),
        );
      }
      await this.#detach(live, endpoint.attachmentId);
      if (network !== undefined && live?.kind !== "balancer" && !isWayOut({ endpoint, network })) {
        this.#deps.emit({ action: "disconnect", network, containerId: endpoint.containerId });
      }
    });
    await runAll("leave networks", [...steps, () => this.#deps.catalogue.deleteEndpoints(endpoints)]);
    crashPoint("endpoint.delete");
  }

  async #close(sandboxId: string, signal: AbortSignal): Promise<void> {
    const { kernel, catalogue } = this.#deps;
    const endpoints = catalogue.endpointsOf(sandboxId);
    const live = this.#live.get(sandboxId);
    const isHost = live?.request.mode === "host";
    await runAll(`close sandbox ${shortId(sandboxId)}`, [
      async () => {
        await live?.dns?.[Symbol.asyncDispose]();
      },
      () => this.#leave({ live, endpoints }, signal),
      () => (isHost ? undefined : kernel.reconcile(`sandbox/${sandboxId}`, [], signal)),
      async () => {
        for (const id of live?.attachments ?? []) await this.#detach(live, id);
      },
      () => void this.#live.delete(sandboxId),
    ]);
    crashPoint("sandbox.close");
  }

  async #undo(live: Live): Promise<void> {
    try {
      await this.#close(live.id, new AbortController().signal);
    } catch (error) {
      this.#deps.log.error("could not undo a failed sandbox", { sandbox: live.id, error });
    }
  }

  /** Back to what it was before a connect that failed. */
  async #restore(live: Live, before: readonly Attached[], signal: AbortSignal): Promise<void> {
    try {
      await this.#settle(live, before, signal);
    } catch (error) {
      this.#deps.log.error("could not undo a failed connect", { sandbox: live.id, error });
    }
  }

  /** Once each; of an attachment from an earlier life only the endpoint's record knows. */
  async #detach(live: Live | undefined, attachmentId: string | undefined): Promise<void> {
    if (attachmentId === undefined || attachmentId === "") return;
    live?.attachments.delete(attachmentId);
    try {
      await this.#deps.swarm().detach(attachmentId);
    } catch (error) {
      // The manager finds an attachment whose container is gone by itself: no reason to keep the container's network.
      this.#deps.log.warn("could not detach from a swarm network", {
        attachment: attachmentId,
        error: messageOf(error),
      });
    }
  }

  async #settleDns(
    live: Live,
    attached: readonly Attached[],
    files: ContainerFiles,
    signal: AbortSignal,
  ): Promise<void> {
    const isNeeded = live.kind === "container" && attached.some(({ network }) => hasNames(network));
    if (!isNeeded) {
      await live.dns?.[Symbol.asyncDispose]();
      live.dns = undefined;
      return;
    }
    live.dns ??= await this.#deps.openDns(
      {
        namespace: { path: live.path },
        names: this.#deps.names.view(() =>
          nameOrder(gatewayOrder(this.#attached(live))).map(({ endpoint, network }) => ({
            id: network.id,
            name: network.spec.name,
            links: linksOf(endpoint.request),
          })),
        ),
        upstreams: () => live.upstreams,
        ndotsConfigured: files.ndotsConfigured,
      },
      signal,
    );
  }

  #files(live: Live, attached: readonly Attached[]): ContainerFiles {
    const { config, hasIpv6, catalogue } = this.#deps;
    if (live.request.mode === "host") return hostModeFiles(live.request);
    const defaultBridge = catalogue.networks().find((network) => network.spec.name === "bridge");
    const hostGateway = defaultBridge?.pools[0]?.gateway;
    return containerFiles({ request: live.request, attached, daemonDns: config.dns, hostGateway, hasIpv6 });
  }

  /** Names of an endpoint, here and, on a swarm network, everywhere. */
  #announceNames({ endpoint, network }: Attached): void {
    const [name, ...others] = endpoint.dnsNames;
    const addresses = [endpoint.ipv4?.address, endpoint.ipv6?.address].filter((address) => address !== undefined);
    if (name === undefined || addresses.length === 0) return;
    this.#deps.names.set(network.id, endpoint.id, { names: endpoint.dnsNames, addresses });
    const address = endpoint.ipv4?.address;
    if (network.scope !== "swarm" || address === undefined) return;
    this.#deps.peerTable.publishName(network.id, {
      endpointId: endpoint.id,
      name,
      serviceName: "",
      serviceId: "",
      virtualIp: undefined,
      address,
      serviceAliases: [],
      taskAliases: others,
      disabled: false,
    });
  }

  #withdrawNames(endpoint: Endpoint): void {
    this.#deps.names.delete(endpoint.networkId, endpoint.id);
    this.#deps.peerTable.withdrawName(endpoint.networkId, endpoint.id);
  }

  #bestEffort(act: string, work: () => unknown): void {
    try {
      work();
    } catch (error) {
      this.#deps.log.debug(`could not ${act}`, { error: messageOf(error) });
    }
  }
}

/** Our own namespace as others (the runtime) can name it: weftd need not live in the machine's first one. */
function hostPath(): string {
  return `/proc/${process.pid}/ns/net`;
}

function hostModeRefusal(): EngineError {
  // compat:
  return new EngineError("invalid", "container cannot be disconnected from host network or connected to host network");
}

function isWayOut({ endpoint, network }: Attached): boolean {
  return isGatewayBridge(network) && endpoint.containerName === gatewayEndpointName(endpoint.sandboxId);
}

function keep({ endpoint, network }: Attached): Resolved {
  return { request: endpoint.request, network, kept: endpoint, attachment: undefined };
}

/** compat: names of endpoints that belong to no container (reference: network-data-plane 8.1, 8.7). */
function nameOf(live: Live, network: Network): string {
  const isAsked = live.request.endpoints.some(({ network: term }) => term === network.spec.name || term === network.id);
  if (isGatewayBridge(network) && !isAsked) return gatewayEndpointName(live.id);
  return live.kind === "balancer" ? `${network.spec.name}-endpoint` : live.request.containerName;
}

function isSame(a: Endpoint | undefined, b: Endpoint): boolean {
  return a !== undefined && JSON.stringify(a) === JSON.stringify(b);
}

function interfaceNumber(endpoint: Endpoint): number {
  return Number(/\d+$/.exec(endpoint.interfaceName)?.[0] ?? 0);
}
