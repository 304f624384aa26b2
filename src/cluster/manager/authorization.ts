import type { DescMethod } from "@bufbuild/protobuf";
import { Code, ConnectError, createContextKey, type Interceptor } from "@connectrpc/connect";
import type { Cluster } from "../../wire/gen/swarm_objects_pb.ts";
import { type Identity, type Role, unitOf } from "../ca/model.ts";

/** Who makes a call, as the verified client certificate says; `identity` is undefined where there is none. */
export interface Caller {
  readonly identity: Identity | undefined;
  /** Source address of the connection. */
  readonly address: string;
}

export const callerKey = createContextKey<Caller>(
  { identity: undefined, address: "" },
  { description: "swarm caller" },
);

const anyone = "any";
const nodes: readonly Role[] = ["worker", "manager"];
const managers: readonly Role[] = ["manager"];

/** Every method that is served, and who may call it (reference: swarm-control-plane 6). Others are refused. */
const allowed: Readonly<Record<string, typeof anyone | readonly Role[]>> = {
  "docker.swarmkit.v1.CA/GetRootCACertificate": anyone,
  "docker.swarmkit.v1.CA/GetUnlockKey": managers,
  "docker.swarmkit.v1.NodeCA/IssueNodeCertificate": anyone,
  "docker.swarmkit.v1.NodeCA/NodeCertificateStatus": anyone,
  "docker.swarmkit.v1.Dispatcher/Session": nodes,
  "docker.swarmkit.v1.Dispatcher/Heartbeat": nodes,
  "docker.swarmkit.v1.Dispatcher/UpdateTaskStatus": nodes,
  "docker.swarmkit.v1.Dispatcher/UpdateVolumeStatus": nodes,
  "docker.swarmkit.v1.Dispatcher/Tasks": nodes,
  "docker.swarmkit.v1.Dispatcher/Assignments": nodes,
  "docker.swarmkit.v1.ResourceAllocator/AttachNetwork": nodes,
  "docker.swarmkit.v1.ResourceAllocator/DetachNetwork": nodes,
  "docker.swarmkit.v1.LogBroker/ListenSubscriptions": nodes,
  "docker.swarmkit.v1.LogBroker/PublishLogs": nodes,
  "docker.swarmkit.v1.Health/Check": managers,
};

/**
 * Refuses a call by one who may not make it.
 *
 * @throws {ConnectError} PermissionDenied, with the texts that operators know (3.3).
 */
export function authorize(method: DescMethod, caller: Caller, cluster: Cluster): void {
  const roles = allowed[`${method.parent.typeName}/${method.name}`];
  if (roles === anyone) return;
  const units = (roles ?? []).map((role) => unitOf[role]).join(" ");
  const { identity } = caller;
  if (identity === undefined || !(roles ?? []).includes(identity.role)) {
    throw denied(`remote certificate not part of OUs: [${units}]`);
  }
  if (identity.clusterId !== cluster.id) {
    throw denied(`remote certificate not part of organization: ${cluster.id}`);
  }
  if (cluster.blacklistedCertificates[identity.nodeId] !== undefined) {
    throw denied(`node ${identity.nodeId} was removed from swarm`);
  }
}

export function authorizing(cluster: () => Cluster): Interceptor {
  return (next) => (request) => {
    authorize(request.method, request.contextValues.get(callerKey), cluster());
    return next(request);
  };
}

function denied(reason: string): ConnectError {
  return new ConnectError(`Permission denied: ${reason}`, Code.PermissionDenied);
}
