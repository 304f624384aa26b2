import type { Duration, Timestamp } from "@bufbuild/protobuf/wkt";
import type { JoinTokens, SwarmInfo } from "../../cluster/mod.ts";
import type { Cluster, Meta, Node } from "../../wire/gen/swarm_objects_pb.ts";
import { type ClusterSpec, type NodeSpec, NodeSpec_Availability } from "../../wire/gen/swarm_specs_pb.ts";
import {
  ExternalCA_CAProtocol,
  type NodeDescription,
  NodeRole,
  type NodeStatus,
  NodeStatus_State,
  type NodeTLSInfo,
  RaftMemberStatus_Reachability,
  type RootCA,
} from "../../wire/gen/swarm_types_pb.ts";
import { zeroTime } from "./time.ts";

type Json = Readonly<Record<string, unknown>>;

const availabilities = new Map<number, string>([
  [NodeSpec_Availability.ACTIVE, "active"],
  [NodeSpec_Availability.PAUSE, "pause"],
  [NodeSpec_Availability.DRAIN, "drain"],
]);
const nodeStates = new Map<number, string>([
  [NodeStatus_State.UNKNOWN, "unknown"],
  [NodeStatus_State.DOWN, "down"],
  [NodeStatus_State.READY, "ready"],
  [NodeStatus_State.DISCONNECTED, "disconnected"],
]);
const reachabilities = new Map<number, string>([
  [RaftMemberStatus_Reachability.UNKNOWN, "unknown"],
  [RaftMemberStatus_Reachability.UNREACHABLE, "unreachable"],
  [RaftMemberStatus_Reachability.REACHABLE, "reachable"],
]);

/** `GET /nodes/{id}` (reference: swarm-control-plane 13.2). */
export function nodeJson(node: Node): Json {
  const { managerStatus } = node;
  return {
    ID: node.id,
    ...metaJson(node.meta),
    Spec: nodeSpecJson(node.spec),
    Description: descriptionJson(node.description),
    Status: statusJson(node.status),
    ...(managerStatus === undefined
      ? {}
      : {
          ManagerStatus: {
            ...(managerStatus.leader ? { Leader: true } : {}),
            Reachability: reachabilities.get(managerStatus.reachability) ?? "unknown",
            Addr: managerStatus.addr,
          },
        }),
  };
}

export function availabilityName(spec: NodeSpec | undefined): string {
  return availabilities.get(spec?.availability ?? NodeSpec_Availability.ACTIVE) ?? "active";
}

export function roleName(role: number): string {
  return role === NodeRole.MANAGER ? "manager" : "worker";
}

function nodeSpecJson(spec: NodeSpec | undefined): Json {
  const name = spec?.annotations?.name ?? "";
  return {
    ...(name === "" ? {} : { Name: name }),
    Labels: spec?.annotations?.labels ?? {},
    // The role that is wanted, not the one in force.
    Role: roleName(spec?.desiredRole ?? NodeRole.WORKER),
    Availability: availabilityName(spec),
  };
}

function descriptionJson(description: NodeDescription | undefined): Json {
  const engine = description?.engine;
  const hasLabels = Object.keys(engine?.labels ?? {}).length > 0;
  return {
    Hostname: description?.hostname ?? "",
    Platform: {
      Architecture: description?.platform?.architecture ?? "",
      OS: description?.platform?.os ?? "",
    },
    Resources: {
      NanoCPUs: Number(description?.resources?.nanoCpus ?? 0n),
      MemoryBytes: Number(description?.resources?.memoryBytes ?? 0n),
    },
    Engine: {
      EngineVersion: engine?.engineVersion ?? "",
      ...(hasLabels ? { Labels: engine?.labels } : {}),
      Plugins: (engine?.plugins ?? []).map((plugin) => ({ Type: plugin.type, Name: plugin.name })),
    },
    TLSInfo: tlsJson(description?.tlsInfo),
  };
}

function statusJson(status: NodeStatus | undefined): Json {
  return {
    State: nodeStates.get(status?.state ?? NodeStatus_State.UNKNOWN) ?? "unknown",
    ...((status?.message ?? "") === "" ? {} : { Message: status?.message }),
    Addr: status?.addr ?? "",
  };
}

function tlsJson(tls: NodeTLSInfo | undefined): Json {
  if (tls === undefined) return {};
  return {
    TrustRoot: new TextDecoder().decode(tls.trustRoot),
    CertIssuerSubject: Buffer.from(tls.certIssuerSubject).toString("base64"),
    CertIssuerPublicKey: Buffer.from(tls.certIssuerPublicKey).toString("base64"),
  };
}

/** The cluster without its tokens: `info`'s `Swarm.Cluster`. `tls` is the issuer as a node's description knows it. */
export function clusterJson(cluster: Cluster, tls: NodeTLSInfo | undefined): Json {
  const pools = cluster.defaultAddressPool;
  return {
    ID: cluster.id,
    ...metaJson(cluster.meta),
    Spec: clusterSpecJson(cluster.spec),
    TLSInfo: { ...tlsJson(tls), TrustRoot: trustRoot(cluster.rootCa) },
    RootRotationInProgress: cluster.rootCa?.rootRotation !== undefined,
    DefaultAddrPool: pools.length === 0 ? ["10.0.0.0/8"] : pools,
    SubnetSize: cluster.subnetSize === 0 ? 24 : cluster.subnetSize,
    DataPathPort: cluster.VXLANUDPPort === 0 ? 4789 : cluster.VXLANUDPPort,
  };
}

/** `GET /swarm`: the only place where the tokens are shown. */
export function swarmJson(cluster: Cluster, tokens: JoinTokens, tls: NodeTLSInfo | undefined): Json {
  return {
    ...clusterJson(cluster, tls),
    JoinTokens: { Worker: tokens.worker.reveal(), Manager: tokens.manager.reveal() },
  };
}

/** The `Swarm` block of `GET /info`. */
export function swarmInfoJson(info: SwarmInfo, tls: NodeTLSInfo | undefined): Json {
  return {
    NodeID: info.nodeId,
    NodeAddr: info.nodeAddress,
    LocalNodeState: info.state,
    ControlAvailable: info.controlAvailable,
    Error: info.error,
    RemoteManagers:
      info.remoteManagers.length === 0
        ? null
        : info.remoteManagers.map((manager) => ({ NodeID: manager.nodeId, Addr: manager.address })),
    ...(info.controlAvailable ? { Nodes: info.nodes, Managers: info.managers } : {}),
    ...(info.cluster === undefined ? {} : { Cluster: clusterJson(info.cluster, tls) }),
  };
}

function clusterSpecJson(spec: ClusterSpec | undefined): Json {
  const { raft, caConfig } = spec ?? {};
  const externalCas = caConfig?.externalCas ?? [];
  return {
    Name: spec?.annotations?.name ?? "default",
    Labels: spec?.annotations?.labels ?? {},
    Orchestration: { TaskHistoryRetentionLimit: Number(spec?.orchestration?.taskHistoryRetentionLimit ?? 5n) },
    Raft: {
      SnapshotInterval: Number(raft?.snapshotInterval ?? 10000n),
      KeepOldSnapshots: Number(raft?.keepOldSnapshots ?? 0n),
      LogEntriesForSlowFollowers: Number(raft?.logEntriesForSlowFollowers ?? 500n),
      ElectionTick: raft?.electionTick ?? 10,
      HeartbeatTick: raft?.heartbeatTick ?? 1,
    },
    Dispatcher: { HeartbeatPeriod: nanoseconds(spec?.dispatcher?.heartbeatPeriod) ?? 5_000_000_000 },
    CAConfig: {
      NodeCertExpiry: nanoseconds(caConfig?.nodeCertExpiry) ?? 7_776_000_000_000_000,
      ...(externalCas.length === 0
        ? {}
        : {
            ExternalCAs: externalCas.map((ca) => ({
              Protocol: ca.protocol === ExternalCA_CAProtocol.CFSSL ? "cfssl" : "",
              URL: ca.url,
              Options: ca.options,
              CACert: new TextDecoder().decode(ca.caCert),
            })),
          }),
      ...((caConfig?.forceRotate ?? 0n) === 0n ? {} : { ForceRotate: Number(caConfig?.forceRotate) }),
    },
    TaskDefaults: {},
    EncryptionConfig: { AutoLockManagers: spec?.encryptionConfig?.autoLockManagers ?? false },
  };
}

function metaJson(meta: Meta | undefined): Json {
  return {
    Version: { Index: Number(meta?.version?.index ?? 0n) },
    CreatedAt: time(meta?.createdAt),
    UpdatedAt: time(meta?.updatedAt),
  };
}

function trustRoot(root: RootCA | undefined): string {
  return root === undefined ? "" : new TextDecoder().decode(root.caCert);
}

/** RFC 3339 with as many fractional digits as are needed, as Go prints it. */
function time(stamp: Timestamp | undefined): string {
  if (stamp === undefined) return zeroTime;
  const whole = new Date(Number(stamp.seconds) * 1000).toISOString().slice(0, 19);
  const fraction = String(stamp.nanos).padStart(9, "0").replace(/0+$/, "");
  return `${whole}${fraction === "" ? "" : `.${fraction}`}Z`;
}

function nanoseconds(duration: Duration | undefined): number | undefined {
  return duration === undefined ? undefined : Number(duration.seconds) * 1e9 + duration.nanos;
}
