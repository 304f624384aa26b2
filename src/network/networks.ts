import type { Cidr, IpAddress, MacAddress } from "../base/ip.ts";
import type {
  Endpoint,
  EndpointRequest,
  Network,
  NetworkSpec,
  Sandbox,
  SandboxRequest,
  SwarmNetwork,
} from "./model.ts";

/** This host's networks, endpoints and sandboxes: what the API, the engine and the swarm agent call. */
export interface Networks extends AsyncDisposable {
  /** All that `docker network ls` shows here: local ones, swarm ones in use here, on a manager every swarm network. */
  list(): Promise<readonly Network[]>;
  /** By full id, then exact name, then unique id prefix. @throws {EngineError} `not-found` `network <n> not found`, `invalid` when ambiguous. */
  find(term: string): Promise<Network>;
  /** @throws {EngineError} in Docker's words (reference: network-data-plane 15); nothing is changed then. */
  create(spec: NetworkSpec, signal: AbortSignal): Promise<{ readonly network: Network; readonly warning: string }>;
  remove(term: string, signal: AbortSignal): Promise<void>;
  /** Removes unused user-made networks that `accepts` takes; returns their names. */
  prune(accepts: (network: Network) => boolean, signal: AbortSignal): Promise<readonly string[]>;
  /** Endpoints of a network on this host, including those that belong to no container (`ingress-sbox`, `lb-…`). */
  endpoints(networkId: string): readonly NetworkMember[];
  /** Gossip peers of a swarm network that this node has; undefined for others. */
  peers(networkId: string): readonly { readonly name: string; readonly address: IpAddress }[] | undefined;

  /** Refuses what could not be started, before a container is created: unknown network, bad address, alias on the default bridge … */
  check(request: Pick<SandboxRequest, "mode" | "endpoints" | "publish">): Promise<void>;
  /** Makes the namespace (fast), so that the runtime can be started beside `openSandbox`. Idempotent. Returns its path. */
  prepareSandbox(sandboxId: string, mode: SandboxRequest["mode"]): Promise<string>;
  /**
   * Builds or re-builds all of a container's networking; idempotent, also the path of recovery after a crash.
   * When it rejects, everything it made for this sandbox has been removed again.
   */
  openSandbox(request: SandboxRequest, signal: AbortSignal): Promise<Sandbox>;
  /** Removes endpoints, names, ports, namespace. Idempotent; unknown ids are fine. */
  closeSandbox(sandboxId: string, signal: AbortSignal): Promise<void>;
  sandbox(sandboxId: string): Sandbox | undefined;
  connect(sandboxId: string, request: EndpointRequest, signal: AbortSignal): Promise<Endpoint>;
  disconnect(sandboxId: string, networkTerm: string, signal: AbortSignal): Promise<void>;
  /** `docker rename`: names and hosts files follow. */
  rename(sandboxId: string, containerName: string): Promise<void>;

  /** Start-up, once all `openSandbox` calls for living containers are done: removes what dead processes left behind. */
  recovered(liveSandboxes: ReadonlySet<string>, signal: AbortSignal): Promise<void>;

  // For the swarm agent:
  /** Installs or updates a swarm network on this node (idempotent); kernel objects come with its first endpoint. */
  installSwarmNetwork(network: SwarmNetwork, signal: AbortSignal): Promise<void>;
  /** Forgets it once no endpoint of ours is left. */
  removeSwarmNetwork(networkId: string, signal: AbortSignal): Promise<void>;
  /** Makes `ingress` (with `ingress-sbox`) and `docker_gwbridge` present, or with undefined ingress absent. */
  setIngress(ingress: SwarmNetwork | undefined, signal: AbortSignal): Promise<void>;
  /** On leaving a swarm: every swarm network goes. @throws when containers still use one, unless `force`. */
  leaveSwarm(signal: AbortSignal): Promise<void>;
  events(listener: (event: NetworkEvent) => void): Disposable;
}

export interface NetworkMember {
  /** Key in network inspect's `Containers`: container id, `ep-<endpoint id>`, `lb-<net>` or `ingress-sbox`. */
  readonly key: string;
  readonly name: string;
  readonly endpointId: string;
  readonly mac: MacAddress | undefined;
  readonly ipv4: Cidr | undefined;
  readonly ipv6: Cidr | undefined;
}

export type NetworkEvent = {
  readonly action: "create" | "destroy" | "remove" | "connect" | "disconnect";
  readonly network: Network;
  readonly containerId?: string;
};

/** What this room needs of the swarm; `cluster/` implements it, `daemon/` passes it in. */
export interface SwarmNetworks {
  readonly role: "none" | "worker" | "manager";
  /** The node's data-path address and UDP port; undefined outside a swarm. */
  readonly dataPath: { readonly address: IpAddress; readonly portHostOrder: number } | undefined;
  /** Managers only; every network of the cluster, not the predefined ones. */
  list(): readonly Network[];
  create(spec: NetworkSpec, signal: AbortSignal): Promise<Network>;
  remove(networkId: string, signal: AbortSignal): Promise<void>;
  /** Asks the manager for an attachment and waits until it is running here (the network is installed by then); 20 s at most. */
  attach(
    request: { readonly target: string; readonly addresses: readonly IpAddress[]; readonly containerId: string },
    signal: AbortSignal,
  ): Promise<{ readonly attachmentId: string; readonly networkId: string; readonly addresses: readonly Cidr[] }>;
  detach(attachmentId: string): Promise<void>;
}

/** One remote endpoint as the overlay programs it. */
export interface OverlayPeer {
  readonly endpointId: string;
  readonly address: Cidr;
  readonly mac: MacAddress;
  readonly vtep: IpAddress;
}

/** A name that gossip tells about a remote endpoint on a swarm network. */
export interface RemoteName {
  readonly endpointId: string;
  readonly name: string;
  readonly serviceName: string;
  readonly serviceId: string;
  readonly virtualIp: IpAddress | undefined;
  readonly address: IpAddress;
  readonly serviceAliases: readonly string[];
  readonly taskAliases: readonly string[];
  readonly disabled: boolean;
}

/** What the overlay driver needs of gossip; `daemon/` adapts `gossip/` to it (tables overlay_peer_table and endpoint_table). */
export interface PeerTable {
  join(networkId: string): Promise<void>;
  leave(networkId: string): void;
  publishPeer(networkId: string, peer: OverlayPeer): void;
  withdrawPeer(networkId: string, endpointId: string): void;
  publishName(networkId: string, name: RemoteName): void;
  withdrawName(networkId: string, endpointId: string): void;
  /** Current remote peers and every change; the listener gets the whole state of one endpoint id. */
  watchPeers(networkId: string, listener: (endpointId: string, peer: OverlayPeer | undefined) => void): Disposable;
  watchNames(networkId: string, listener: (endpointId: string, name: RemoteName | undefined) => void): Disposable;
  /**
   * Calls `listener` once, when the first exchange with the network's other nodes since this process began is over: what they
   * told has been given to those who watch.
   */
  whenSynced(networkId: string, listener: () => void): Disposable;
  peers(networkId: string): readonly { readonly name: string; readonly address: IpAddress }[];
}
