import { create } from "@bufbuild/protobuf";
import { DurationSchema } from "@bufbuild/protobuf/wkt";
import { z } from "zod";
import { EngineError } from "../../base/errors.ts";
import { Secret } from "../../base/secret.ts";
import type { InitRequest, JoinRequest } from "../../cluster/mod.ts";
import {
  type ClusterSpec,
  ClusterSpecSchema,
  type NodeSpec,
  NodeSpec_Availability,
  NodeSpec_Membership,
  NodeSpecSchema,
} from "../../wire/gen/swarm_specs_pb.ts";
import {
  AnnotationsSchema,
  CAConfigSchema,
  DispatcherConfigSchema,
  EncryptionConfigSchema,
  NodeRole,
  OrchestrationConfigSchema,
  RaftConfigSchema,
  TaskDefaultsSchema,
} from "../../wire/gen/swarm_types_pb.ts";
import { invalid } from "../errors.ts";
import { decodeBody, flag, integer, optionalInteger, text, textMap, texts } from "./go-json.ts";

const availabilityNames = ["active", "pause", "drain"] as const;

const specBody = z.object({
  Name: text,
  Labels: textMap,
  Orchestration: z.object({ TaskHistoryRetentionLimit: optionalInteger }).nullish(),
  Raft: z
    .object({
      SnapshotInterval: integer,
      KeepOldSnapshots: optionalInteger,
      LogEntriesForSlowFollowers: integer,
      ElectionTick: integer,
      HeartbeatTick: integer,
    })
    .nullish(),
  Dispatcher: z.object({ HeartbeatPeriod: integer }).nullish(),
  CAConfig: z
    .object({
      NodeCertExpiry: integer,
      ExternalCAs: z.array(z.looseObject({})).nullish(),
      SigningCACert: text,
      SigningCAKey: text,
      ForceRotate: integer,
    })
    .nullish(),
  EncryptionConfig: z.object({ AutoLockManagers: flag }).nullish(),
});

const initBody = z.object({
  ListenAddr: text,
  AdvertiseAddr: text,
  DataPathAddr: text,
  DataPathPort: integer,
  ForceNewCluster: flag,
  Spec: specBody.nullish(),
  AutoLockManagers: flag,
  Availability: text,
  DefaultAddrPool: texts,
  SubnetSize: integer,
});

const joinBody = z.object({
  ListenAddr: text,
  AdvertiseAddr: text,
  DataPathAddr: text,
  RemoteAddrs: texts,
  JoinToken: text,
  Availability: text,
});

const nodeBody = z.object({ Name: text, Labels: textMap, Role: text, Availability: text });

export function parseInit(json: unknown): InitRequest {
  const body = decodeBody(initBody, json);
  return {
    listenAddress: body.ListenAddr,
    advertiseAddress: body.AdvertiseAddr,
    dataPathAddress: body.DataPathAddr,
    dataPathPort: body.DataPathPort,
    forceNewCluster: body.ForceNewCluster,
    autoLock: body.AutoLockManagers,
    availability: parseAvailability(body.Availability),
    defaultAddressPools: body.DefaultAddrPool,
    subnetSize: body.SubnetSize,
    spec: body.Spec === null || body.Spec === undefined ? undefined : toClusterSpec(body.Spec),
  };
}

export function parseJoin(json: unknown): JoinRequest {
  const body = decodeBody(joinBody, json);
  return {
    listenAddress: body.ListenAddr,
    advertiseAddress: body.AdvertiseAddr,
    dataPathAddress: body.DataPathAddr,
    remoteAddresses: body.RemoteAddrs,
    token: new Secret(body.JoinToken),
    availability: parseAvailability(body.Availability),
  };
}

export function parseClusterSpec(json: unknown): ClusterSpec {
  return toClusterSpec(decodeBody(specBody, json));
}

export function parseNodeSpec(json: unknown): NodeSpec {
  const body = decodeBody(nodeBody, json);
  const role = body.Role.toLowerCase();
  if (role !== "worker" && role !== "manager") throw invalid(`invalid Role: ${JSON.stringify(body.Role)}`);
  return create(NodeSpecSchema, {
    annotations: create(AnnotationsSchema, { name: body.Name, labels: { ...body.Labels } }),
    desiredRole: role === "manager" ? NodeRole.MANAGER : NodeRole.WORKER,
    membership: NodeSpec_Membership.ACCEPTED,
    availability: {
      active: NodeSpec_Availability.ACTIVE,
      pause: NodeSpec_Availability.PAUSE,
      drain: NodeSpec_Availability.DRAIN,
    }[parseAvailability(body.Availability)],
  });
}

/** `?version=`. @throws {EngineError} in Docker's words (reference: swarm-control-plane 13.3). */
export function parseObjectVersion(kind: string, text: string): bigint {
  if (/^\d{1,19}$/.test(text)) return BigInt(text);
  const why = `strconv.ParseUint: parsing ${JSON.stringify(text)}: invalid syntax`;
  throw invalid(`invalid ${kind} version '${text}': ${why}`);
}

function parseAvailability(value: string): "active" | "pause" | "drain" {
  if (value === "") return "active";
  const lower = value.toLowerCase();
  const found = availabilityNames.find((name) => name === lower);
  if (found === undefined) throw invalid(`invalid Availability: ${JSON.stringify(value)}`);
  return found;
}

function toClusterSpec(body: z.output<typeof specBody>): ClusterSpec {
  const raft = body.Raft;
  const ca = body.CAConfig;
  if ((ca?.ExternalCAs ?? []).length > 0)
    throw new EngineError("unsupported", "external CAs are not supported by this version");
  if (ca?.SigningCACert || ca?.SigningCAKey || (ca?.ForceRotate ?? 0) > 0) {
    throw new EngineError("unsupported", "rotation of the root CA is not supported by this version");
  }
  return create(ClusterSpecSchema, {
    annotations: create(AnnotationsSchema, {
      name: body.Name === "" ? "default" : body.Name,
      labels: { ...body.Labels },
    }),
    orchestration: create(OrchestrationConfigSchema, {
      taskHistoryRetentionLimit: BigInt(body.Orchestration?.TaskHistoryRetentionLimit ?? 5),
    }),
    raft: create(RaftConfigSchema, {
      snapshotInterval: BigInt(raft?.SnapshotInterval || 10000),
      keepOldSnapshots: BigInt(raft?.KeepOldSnapshots ?? 0),
      logEntriesForSlowFollowers: BigInt(raft?.LogEntriesForSlowFollowers || 500),
      electionTick: raft?.ElectionTick || 10,
      heartbeatTick: raft?.HeartbeatTick || 1,
    }),
    dispatcher: create(DispatcherConfigSchema, {
      heartbeatPeriod: duration(body.Dispatcher?.HeartbeatPeriod || 5_000_000_000),
    }),
    caConfig: create(CAConfigSchema, { nodeCertExpiry: duration(ca?.NodeCertExpiry || 7_776_000_000_000_000) }),
    taskDefaults: create(TaskDefaultsSchema, {}),
    encryptionConfig: create(EncryptionConfigSchema, {
      autoLockManagers: body.EncryptionConfig?.AutoLockManagers ?? false,
    }),
  });
}

function duration(nanoseconds: number) {
  return create(DurationSchema, {
    seconds: BigInt(Math.trunc(nanoseconds / 1e9)),
    nanos: nanoseconds % 1e9,
  });
}
