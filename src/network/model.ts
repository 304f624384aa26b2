import type { Cidr, IpAddress, MacAddress } from "../base/ip.ts";

export type Scope = "local" | "swarm" | "global";

/** What was asked for: `POST /networks/create` once parsed. */
export interface NetworkSpec {
  readonly name: string;
  readonly driver: string;
  readonly scope: Scope | undefined;
  readonly ipam: IpamSpec;
  readonly enableIpv4: boolean;
  readonly enableIpv6: boolean;
  readonly internal: boolean;
  readonly attachable: boolean;
  readonly ingress: boolean;
  readonly configOnly: boolean;
  readonly configFrom: string | undefined;
  readonly options: Readonly<Record<string, string>>;
  readonly labels: Readonly<Record<string, string>>;
}

export interface IpamSpec {
  readonly driver: string;
  readonly options: Readonly<Record<string, string>>;
  readonly pools: readonly IpamPoolSpec[];
}

export interface IpamPoolSpec {
  readonly subnet?: Cidr;
  readonly ipRange?: Cidr;
  readonly gateway?: IpAddress;
  readonly auxiliary: Readonly<Record<string, IpAddress>>;
}

/** A pool as assigned: the subnet is always there, the gateway unless the driver has none. */
export interface IpamPool {
  readonly subnet: Cidr;
  readonly ipRange?: Cidr;
  readonly gateway?: IpAddress;
  readonly auxiliary: Readonly<Record<string, IpAddress>>;
}

/** A network that this host knows: spec and allocation. Stored for scope local; swarm ones come from the manager. */
export interface Network {
  /** 64 hex digits (local) or 25 base-36 characters (swarm). */
  readonly id: string;
  readonly createdAt: string;
  readonly spec: NetworkSpec;
  readonly scope: Scope;
  readonly pools: readonly IpamPool[];
  /** VXLAN ids, one per IPv4 pool; overlays only. */
  readonly vnis: readonly number[];
}

/** What one container asks of one network. */
export interface EndpointRequest {
  /** Name, id or id prefix, as the user typed it. */
  readonly network: string;
  readonly ipv4: IpAddress | undefined;
  readonly ipv6: IpAddress | undefined;
  readonly mac: MacAddress | undefined;
  readonly aliases: readonly string[];
  readonly links: readonly string[];
  readonly driverOptions: Readonly<Record<string, string>>;
  readonly gatewayPriority: number;
}

export interface PortPublish {
  readonly protocol: "tcp" | "udp" | "sctp";
  readonly containerPort: number;
  /** undefined: all addresses. */
  readonly hostAddress: IpAddress | undefined;
  /** First and last of the range a free host port is taken from; both 0: any free port. */
  readonly hostPortFirst: number;
  readonly hostPortLast: number;
}

/** A published port in force. */
export interface PortBinding {
  readonly protocol: "tcp" | "udp" | "sctp";
  readonly containerPort: number;
  readonly hostAddress: IpAddress;
  readonly hostPort: number;
}

export interface DnsOptions {
  readonly servers: readonly IpAddress[];
  readonly search: readonly string[];
  readonly options: readonly string[];
}

/** Everything needed to build a container's network; kept by the engine, given again after a restart. */
export interface SandboxRequest {
  /** 64 hex digits, chosen once per container start by the engine. */
  readonly sandboxId: string;
  readonly containerId: string;
  readonly containerName: string;
  readonly hostname: string;
  readonly domainname: string;
  /** `host`: the host's own namespace, nothing is built. */
  readonly mode: "private" | "host";
  /** Networks to join; `none` and the empty list give loopback only. */
  readonly endpoints: readonly EndpointRequest[];
  readonly dns: DnsOptions;
  readonly extraHosts: readonly string[];
  /** `alias -> container name` on the default bridge, hosts-file lines already resolved by the engine. */
  readonly linkedHosts: readonly { readonly address: IpAddress; readonly names: readonly string[] }[];
  readonly publish: readonly PortPublish[];
  readonly sysctls: Readonly<Record<string, string>>;
  /** Where `hosts`, `hostname` and `resolv.conf` are written. */
  readonly filesDirectory: string;
}

/** An endpoint in force. Stored (`endpoint/<id>`): its addresses are the only truth that IPAM is derived from. */
export interface Endpoint {
  readonly id: string;
  readonly networkId: string;
  readonly networkName: string;
  readonly sandboxId: string;
  readonly containerId: string;
  readonly containerName: string;
  readonly request: EndpointRequest;
  readonly mac: MacAddress | undefined;
  readonly ipv4: Cidr | undefined;
  readonly ipv6: Cidr | undefined;
  /** Default gateway this endpoint offers, used when it is the sandbox's gateway endpoint. */
  readonly gateway: IpAddress | undefined;
  readonly gateway6: IpAddress | undefined;
  /** In order: container name, aliases, short id, host name. */
  readonly dnsNames: readonly string[];
  /** Name inside the container, `eth0`. */
  readonly interfaceName: string;
  /** The manager's attachment task, on an attachable swarm network. */
  readonly attachmentId: string | undefined;
  readonly ports: readonly PortBinding[];
}

export interface Sandbox {
  readonly id: string;
  /** Path of the namespace file; the host's own for mode host (`/proc/1/ns/net` is NOT it: weftd's own `/proc/self/ns/net`). */
  readonly netnsPath: string;
  /** In the order the interfaces were made. docker_gwbridge endpoints are included; the API leaves them out. */
  readonly endpoints: readonly Endpoint[];
}

/** A swarm overlay as the manager allocated it, as installed on a node. */
export interface SwarmNetwork {
  readonly network: Network;
  /** This node's load-balancer address on it. */
  readonly nodeAddress: Cidr | undefined;
}
