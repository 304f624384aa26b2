import type { IpAddress } from "../base/ip.ts";
import type { Secret } from "../base/secret.ts";
import type { Cluster, Node } from "../wire/gen/swarm_objects_pb.ts";
import type { ClusterSpec, NodeSpec } from "../wire/gen/swarm_specs_pb.ts";

/**
 * This node's part in a swarm, as the API drives it. Objects are swarmkit's own messages: they are what is stored, what
 * travels and what the API shows; `api/` turns them into Docker's JSON.
 */
export interface Swarm extends AsyncDisposable {
  info(): SwarmInfo;
  /** Returns the new node's id. @throws {EngineError} in Docker's words (reference: swarm-control-plane 13.4). */
  init(request: InitRequest, signal: AbortSignal): Promise<string>;
  join(request: JoinRequest, signal: AbortSignal): Promise<void>;
  leave(force: boolean, signal: AbortSignal): Promise<void>;
  /** The methods below are for managers; elsewhere they throw `unavailable` with the "not a swarm manager" text. */
  inspect(): Promise<{ readonly cluster: Cluster; readonly tokens: JoinTokens }>;
  update(
    spec: ClusterSpec,
    version: bigint,
    rotate: { readonly worker: boolean; readonly manager: boolean },
  ): Promise<void>;
  nodes(): Promise<readonly Node[]>;
  /** By id, host name, unique id prefix. */
  findNode(term: string): Promise<Node>;
  updateNode(id: string, version: bigint, spec: NodeSpec): Promise<void>;
  removeNode(id: string, force: boolean): Promise<void>;
}

export interface JoinTokens {
  readonly worker: Secret<string>;
  readonly manager: Secret<string>;
}

export interface SwarmInfo {
  readonly state: "inactive" | "pending" | "active" | "error" | "locked";
  readonly nodeId: string;
  readonly nodeAddress: string;
  readonly controlAvailable: boolean;
  readonly error: string;
  readonly remoteManagers: readonly { readonly nodeId: string; readonly address: string }[];
  /** Managers only. */
  readonly nodes: number;
  readonly managers: number;
  readonly cluster: Cluster | undefined;
}

export interface InitRequest {
  /** `host:port`, `interface:port`, host, interface. */
  readonly listenAddress: string;
  readonly advertiseAddress: string;
  readonly dataPathAddress: string;
  readonly dataPathPort: number;
  readonly forceNewCluster: boolean;
  readonly autoLock: boolean;
  readonly availability: "active" | "pause" | "drain";
  readonly defaultAddressPools: readonly string[];
  readonly subnetSize: number;
  readonly spec: ClusterSpec | undefined;
}

export interface JoinRequest {
  readonly listenAddress: string;
  readonly advertiseAddress: string;
  readonly dataPathAddress: string;
  readonly remoteAddresses: readonly string[];
  readonly token: Secret<string>;
  readonly availability: "active" | "pause" | "drain";
}

export type { IpAddress };
