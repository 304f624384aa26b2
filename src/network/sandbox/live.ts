import type { Log } from "../../base/log.ts";
import type { Random } from "../../base/random.ts";
import type { Kernel, KernelObject } from "../../kernel/mod.ts";
import type { Catalogue } from "../catalogue.ts";
import type { NetworksConfig } from "../config.ts";
import type { DnsServer, DnsServerOptions, NameTable, Upstream } from "../dns/dns.ts";
import type { Driver } from "../drivers/driver.ts";
import type { Endpoint, Network, SandboxRequest } from "../model.ts";
import type { NetworkEvent, PeerTable, SwarmNetworks } from "../networks.ts";
import type { HostPorts } from "../portmapping/host-ports.ts";
import { type Attached, gatewayEndpointName, isGatewayBridge } from "./gateway.ts";

/** What everything that deals with sandboxes is made from. */
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
export interface Live {
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

export function newLive({ request, kind, path }: Pick<Live, "request" | "kind" | "path">): Live {
  return {
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
}

/** The endpoints of a sandbox whose networks are known, in the order of their interfaces. */
export function attachedOf(live: Live, catalogue: Catalogue): readonly Attached[] {
  const attached = catalogue.endpointsOf(live.id).flatMap((endpoint): readonly Attached[] => {
    const network = catalogue.network(endpoint.networkId);
    return network === undefined ? [] : [{ endpoint, network }];
  });
  return attached.sort((a, b) => interfaceNumber(a.endpoint) - interfaceNumber(b.endpoint));
}

function interfaceNumber(endpoint: Endpoint): number {
  return Number(/\d+$/.exec(endpoint.interfaceName)?.[0] ?? 0);
}

/** The endpoint on docker_gwbridge that nobody asked for. */
export function isWayOut({ endpoint, network }: Attached): boolean {
  return isGatewayBridge(network) && endpoint.containerName === gatewayEndpointName(endpoint.sandboxId);
}
