import { crashPoint } from "../../base/crash-point.ts";
import { messageOf, runAll } from "../../base/errors.ts";
import type { IpAddress } from "../../base/ip.ts";
import type { KernelObject } from "../../kernel/mod.ts";
import type { Endpoint } from "../model.ts";
import { publishPorts } from "../portmapping/publish.ts";
import { type ContainerFiles, containerFiles, hostModeFiles, writeContainerFiles } from "./container-files.ts";
import { namespaceObjects, sandboxObjects } from "./desired.ts";
import type { EndpointNames } from "./endpoint-names.ts";
import type { SandboxEndpoints } from "./endpoints.ts";
import { type Attached, gatewayEndpoint, gatewayEndpoint6, gatewayOrder } from "./gateway.ts";
import { attachedOf, isWayOut, type Live, type SandboxesDeps } from "./live.ts";
import { hasNames, linksOf, nameOrder } from "./plan.ts";

/** Makes the world equal to a list of endpoints, in an order in which nobody is sent where nothing is. */
export class Settling {
  readonly #deps: SandboxesDeps;
  readonly #endpoints: SandboxEndpoints;
  readonly #names: EndpointNames;

  constructor(deps: SandboxesDeps, parts: { readonly endpoints: SandboxEndpoints; readonly names: EndpointNames }) {
    this.#deps = deps;
    this.#endpoints = parts.endpoints;
    this.#names = parts.names;
  }

  /**
   * Makes the sandbox have exactly `wanted`: intent to disk, what is not wanted out, what is missing in, then routes, names and
   * files. Every step may be repeated; after a crash the same call finishes the work.
   */
  async settle(live: Live, wanted: readonly Attached[], signal: AbortSignal): Promise<void> {
    const { catalogue } = this.#deps;
    const stored = catalogue.endpointsOf(live.id);
    const removed = stored.filter((endpoint) => !wanted.some((a) => a.endpoint.id === endpoint.id));
    const next = publishPorts(this.#deps, live, { wanted, stored });
    const changed = next.filter(({ endpoint }) => !isSame(live.applied.get(endpoint.id), endpoint));
    await catalogue.saveEndpoints(changed.map(({ endpoint }) => endpoint));
    crashPoint("endpoint.store");
    const files = this.#files(live, next);
    await this.leave({ live, endpoints: removed }, signal);
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
      await this.#reconcile(live, ownObjects(live, next), signal);
      crashPoint("sandbox.settle");
    } else for (const { endpoint } of next) live.applied.set(endpoint.id, endpoint);
    if (live.kind === "container") writeContainerFiles(live.request.filesDirectory, files);
    for (const a of next) {
      this.#deps.hostPorts.startRelays(a.endpoint.id, a.endpoint.ipv4?.address, a.endpoint.ipv6?.address);
      this.#names.announce(a);
      if (live.fresh.delete(a.endpoint.id)) this.#greet(live, a);
    }
  }

  #reconcile(live: Live, objects: readonly KernelObject[], signal: AbortSignal): Promise<void> {
    live.objects = objects;
    return this.#deps.kernel.reconcile(`sandbox/${live.id}`, objects, signal);
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

  #forgetFlowsTo(endpoint: Endpoint): void {
    for (const address of [endpoint.ipv4?.address, endpoint.ipv6?.address]) {
      if (address === undefined) continue;
      this.#bestEffort("flush connection tracking", () =>
        this.#deps.kernel.flushConntrack("host", { protocol: "udp", replySource: address }),
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
  async leave(
    { live, endpoints }: { readonly live: Live | undefined; readonly endpoints: readonly Endpoint[] },
    signal: AbortSignal,
  ): Promise<void> {
    if (endpoints.length === 0) return;
    const steps = endpoints.map((endpoint) => async () => {
      const network = this.#deps.catalogue.network(endpoint.networkId);
      this.#names.withdraw(endpoint);
      if (network !== undefined && live?.request.mode !== "host") {
        await this.#deps.driverOf(network).leave(network, endpoint, signal);
        crashPoint("endpoint.leave");
      }
      live?.applied.delete(endpoint.id);
      live?.fresh.delete(endpoint.id);
      this.#deps.hostPorts.release(endpoint.id);
      if (endpoint.ports.some((port) => port.protocol === "udp")) this.#forgetFlowsTo(endpoint);
      await this.#endpoints.detach(live, endpoint.attachmentId);
      if (network !== undefined && live?.kind !== "balancer" && !isWayOut({ endpoint, network })) {
        this.#deps.emit({ action: "disconnect", network, containerId: endpoint.containerId });
      }
    });
    await runAll("leave networks", [...steps, () => this.#deps.catalogue.deleteEndpoints(endpoints)]);
    crashPoint("endpoint.delete");
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
          nameOrder(gatewayOrder(attachedOf(live, this.#deps.catalogue))).map(({ endpoint, network }) => ({
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

  #bestEffort(act: string, work: () => unknown): void {
    try {
      work();
    } catch (error) {
      this.#deps.log.debug(`could not ${act}`, { error: messageOf(error) });
    }
  }
}

/** What the sandbox itself has: default routes, kernel settings, the redirection to its resolver. */
function ownObjects(live: Live, attached: readonly Attached[]): readonly KernelObject[] {
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

function isSame(a: Endpoint | undefined, b: Endpoint): boolean {
  return a !== undefined && JSON.stringify(a) === JSON.stringify(b);
}
