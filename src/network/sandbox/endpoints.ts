import { EngineError, messageOf } from "../../base/errors.ts";
import { newHexId } from "../../base/ids.ts";
import { type Cidr, familyOf } from "../../base/ip.ts";
import { assignAddresses, type EndpointAddresses, noAddresses } from "../addresses.ts";
import { checkEndpoint } from "../check-endpoint.ts";
import type { Driver } from "../drivers/driver.ts";
import { tryFindNetwork } from "../lookup.ts";
import type { Endpoint, EndpointRequest, Network } from "../model.ts";
import { type Attached, gatewayEndpointName, isGatewayBridge, needsGatewayBridge } from "./gateway.ts";
import { macFor } from "./identity.ts";
import type { Live, SandboxesDeps } from "./live.ts";
import { gatewayRequest, namesOf, nextInterface } from "./plan.ts";

/** What a request came to: the network, and what the manager gave when it is the swarm's. */
export interface Resolved {
  readonly request: EndpointRequest;
  readonly network: Network;
  readonly kept: Endpoint | undefined;
  readonly attachment: { readonly id: string; readonly addresses: readonly Cidr[] } | undefined;
}

/** Which endpoints a sandbox is to have: from what was asked to networks, attachments and addresses. The kernel is not touched. */
export class SandboxEndpoints {
  readonly #deps: SandboxesDeps;

  constructor(deps: SandboxesDeps) {
    this.#deps = deps;
  }

  async resolveAll(
    live: Live,
    requests: readonly EndpointRequest[],
    signal: AbortSignal,
  ): Promise<readonly Resolved[]> {
    const resolved: Resolved[] = [];
    for (const request of requests) resolved.push(await this.resolve(live, request, signal));
    return resolved;
  }

  /** The network of a request: one of ours, or one that the manager lets this container attach to. */
  async resolve(live: Live, request: EndpointRequest, signal: AbortSignal): Promise<Resolved> {
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
      await this.detach(live, given.attachmentId);
      throw new EngineError("internal", `network ${request.network} was not installed on this node`);
    }
    const kept = catalogue
      .endpointsOf(live.id)
      .find((e) => e.networkId === network.id && given.addresses.some((cidr) => cidr.address === e.ipv4?.address));
    return { request, network, kept, attachment: { id: given.attachmentId, addresses: given.addresses } };
  }

  /** The endpoints a sandbox is to have: kept ones as they are, new ones with addresses, and the way out where needed. */
  async plan(live: Live, resolved: readonly Resolved[], signal: AbortSignal): Promise<readonly Attached[]> {
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

  /** Once each; of an attachment from an earlier life only the endpoint's record knows. */
  async detach(live: Live | undefined, attachmentId: string | undefined): Promise<void> {
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
}

export function keep({ endpoint, network }: Attached): Resolved {
  return { request: endpoint.request, network, kept: endpoint, attachment: undefined };
}

/** compat: names of endpoints that belong to no container (reference: network-data-plane 8.1, 8.7). */
function nameOf(live: Live, network: Network): string {
  const isAsked = live.request.endpoints.some(({ network: term }) => term === network.spec.name || term === network.id);
  if (isGatewayBridge(network) && !isAsked) return gatewayEndpointName(live.id);
  return live.kind === "balancer" ? `${network.spec.name}-endpoint` : live.request.containerName;
}
