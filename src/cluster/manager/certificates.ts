import { create } from "@bufbuild/protobuf";
import { durationMs, timestampFromMs } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError } from "@connectrpc/connect";
import { hasCode } from "../../base/errors.ts";
import { newSwarmId } from "../../base/ids.ts";
import type { Log } from "../../base/log.ts";
import { Secret } from "../../base/secret.ts";
import {
  type IssueNodeCertificateRequest,
  type IssueNodeCertificateResponse,
  IssueNodeCertificateResponseSchema,
  type NodeCertificateStatusResponse,
  NodeCertificateStatusResponseSchema,
} from "../../wire/gen/swarm_ca_pb.ts";
import { type Cluster, type Node, NodeSchema } from "../../wire/gen/swarm_objects_pb.ts";
import { type NodeSpec_Availability, NodeSpec_Membership } from "../../wire/gen/swarm_specs_pb.ts";
import {
  type Certificate,
  CertificateSchema,
  IssuanceStatus_State,
  NodeRole,
  NodeStatus_State,
} from "../../wire/gen/swarm_types_pb.ts";
import { defaultNodeValidityMs, minimumNodeValidityMs, type Sources, signNodeCertificate } from "../ca/authority.ts";
import type { Identity, Role } from "../ca/model.ts";
import type { ObjectStore } from "../state/objects.ts";
import { isSameToken } from "../tokens/tokens.ts";
import type { Caller } from "./authorization.ts";

export interface CertificatesOptions extends Sources {
  readonly objects: ObjectStore;
  readonly log: Log;
}

export const roleOf = (role: NodeRole): Role => (role === NodeRole.MANAGER ? "manager" : "worker");
export const nodeRoleOf = (role: Role): NodeRole => (role === "manager" ? NodeRole.MANAGER : NodeRole.WORKER);

/** Admits nodes by token and signs their certificates (reference: swarm-control-plane 4, manager side). */
export class Certificates {
  readonly #options: CertificatesOptions;

  constructor(options: CertificatesOptions) {
    this.#options = options;
  }

  /** The trust bundle, byte for byte as the tokens' digest was made from (T4, T26). */
  rootPem(): Uint8Array {
    return this.#options.objects.cluster().rootCa?.caCert ?? new Uint8Array();
  }

  async issue(request: IssueNodeCertificateRequest, caller: Caller): Promise<IssueNodeCertificateResponse> {
    if (request.csr.length === 0) throw new ConnectError("CSR must not be empty", Code.InvalidArgument);
    const cluster = this.#options.objects.cluster();
    const { identity } = caller;
    const nodeId =
      identity !== undefined && identity.clusterId === cluster.id
        ? await this.#renew(request.csr, identity, cluster)
        : await this.#admit(request, cluster);
    return create(IssueNodeCertificateResponseSchema, { nodeId, nodeMembership: NodeSpec_Membership.ACCEPTED });
  }

  /** Answers when the certificate is there or refused; nobody waits long, since signing happens with the request. */
  async status(nodeId: string, signal: AbortSignal): Promise<NodeCertificateStatusResponse> {
    const { objects } = this.#options;
    for (;;) {
      const node = objects.get("node", nodeId);
      if (node === undefined) throw new ConnectError(`node ${nodeId} not found`, Code.NotFound);
      const state = node.certificate?.status?.state;
      if (node.certificate !== undefined && state !== undefined && settled.has(state)) {
        // An answer without `status` makes a dockerd worker panic (T5).
        const status = node.certificate.status ?? {
          $typeName: "docker.swarmkit.v1.IssuanceStatus" as const,
          state,
          err: "",
        };
        return create(NodeCertificateStatusResponseSchema, { status, certificate: node.certificate });
      }
      const { promise, resolve, reject } = Promise.withResolvers<void>();
      using _listening = objects.changes.listen((changes) => {
        if (changes.some((change) => change.kind === "node" && change.id === nodeId)) resolve();
      });
      const onAbort = () => reject(new ConnectError("the wait for the certificate ended", Code.Canceled));
      signal.addEventListener("abort", onAbort, { once: true });
      await promise;
      signal.removeEventListener("abort", onAbort);
    }
  }

  async #renew(csr: Uint8Array, identity: Identity, cluster: Cluster): Promise<string> {
    const { objects } = this.#options;
    const { nodeId } = identity;
    const missing = () =>
      new ConnectError(`node ${nodeId} not found when attempting to renew certificate`, Code.NotFound);
    if (cluster.blacklistedCertificates[nodeId] !== undefined) {
      throw new ConnectError(`Permission denied: node ${nodeId} was removed from swarm`, Code.PermissionDenied);
    }
    const node = objects.get("node", nodeId);
    if (node === undefined) throw missing();
    const certificate = await this.#sign({ csr, nodeId, role: node.role, cluster });
    await objects.write((draft) => {
      const current = draft.get("node", nodeId);
      if (current === undefined) throw missing();
      draft.put("node", { ...current, certificate });
    });
    return nodeId;
  }

  async #admit(request: IssueNodeCertificateRequest, cluster: Cluster): Promise<string> {
    const tokens = cluster.rootCa?.joinTokens;
    if (tokens !== undefined && isSameToken(request.token, tokens.manager)) throw severalManagers();
    if (tokens === undefined || !isSameToken(request.token, tokens.worker)) {
      throw new ConnectError("A valid join token is necessary to join this cluster", Code.InvalidArgument);
    }
    const { objects, random } = this.#options;
    let nodeId = newSwarmId(random);
    while (objects.get("node", nodeId) !== undefined) nodeId = newSwarmId(random);
    const certificate = await this.#sign({ csr: request.csr, nodeId, role: NodeRole.WORKER, cluster });
    await objects.write((draft) => {
      draft.put("node", newNode({ id: nodeId, certificate, availability: request.availability, cluster }));
    });
    return nodeId;
  }

  async #sign(wanted: {
    readonly csr: Uint8Array;
    readonly nodeId: string;
    readonly role: NodeRole;
    readonly cluster: Cluster;
  }): Promise<Certificate> {
    const { csr, nodeId, role, cluster } = wanted;
    const base = { role, csr, cn: nodeId };
    try {
      const chain = await signNodeCertificate(
        { certificatePem: cluster.rootCa?.caCert ?? new Uint8Array(), keyPem: caKeyOf(cluster) },
        {
          csrPem: csr,
          identity: { nodeId, role: roleOf(role), clusterId: cluster.id },
          validityMs: nodeValidityMs(cluster),
        },
        this.#options,
      );
      return create(CertificateSchema, { ...base, certificate: chain, status: { state: IssuanceStatus_State.ISSUED } });
    } catch (error) {
      if (!hasCode(error, "invalid")) throw error;
      this.#options.log.warn("a certificate request was refused", { node: nodeId, error });
      return create(CertificateSchema, { ...base, status: { state: IssuanceStatus_State.FAILED, err: error.message } });
    }
  }
}

const settled: ReadonlySet<number> = new Set([
  IssuanceStatus_State.ISSUED,
  IssuanceStatus_State.ROTATE,
  IssuanceStatus_State.FAILED,
]);

/** The one sentence, on both sides of a join. */
export const severalManagersText =
  "several managers are not supported by this version: join with the worker token of this swarm";

function severalManagers(): ConnectError {
  return new ConnectError(severalManagersText, Code.FailedPrecondition);
}

function caKeyOf(cluster: Cluster): Secret<string> {
  return new Secret(new TextDecoder().decode(cluster.rootCa?.caKey));
}

export function nodeValidityMs(cluster: Cluster): number {
  const expiry = cluster.spec?.caConfig?.nodeCertExpiry;
  const ms = expiry === undefined ? 0 : durationMs(expiry);
  return ms < minimumNodeValidityMs ? defaultNodeValidityMs : ms;
}

export function newNode(options: {
  readonly id: string;
  readonly certificate: Certificate;
  readonly availability: NodeSpec_Availability;
  readonly cluster: Cluster;
}): Node {
  const { id, certificate, availability, cluster } = options;
  return create(NodeSchema, {
    id,
    role: certificate.role,
    certificate,
    spec: { annotations: {}, desiredRole: certificate.role, membership: NodeSpec_Membership.ACCEPTED, availability },
    status: { state: NodeStatus_State.UNKNOWN },
    VXLANUDPPort: cluster.VXLANUDPPort,
  });
}

/** A removed node's certificate stays refused until a week after it has expired. */
export function blacklistExpiry(notAfter: Date) {
  return timestampFromMs(notAfter.getTime() + 7 * 24 * 3_600_000);
}
