import { create } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import { EngineError } from "../../base/errors.ts";
import { newSwarmId } from "../../base/ids.ts";
import { contains, containsCidr, formatCidr, networkOf, tryParseCidr, tryParseIp } from "../../base/ip.ts";
import type { Random } from "../../base/random.ts";
import { type Cluster, type Network, NetworkSchema, type Node } from "../../wire/gen/swarm_objects_pb.ts";
import type { ClusterSpec, NetworkSpec, NodeSpec } from "../../wire/gen/swarm_specs_pb.ts";
import {
  BlacklistedCertificateSchema,
  type IPAMConfig,
  JoinTokensSchema,
  ManagerStatusSchema,
  NodeRole,
  NodeStatus_State,
  RaftMemberStatus_Reachability,
} from "../../wire/gen/swarm_types_pb.ts";
import { allocateNetwork, driverOf, poolsOf } from "../allocator/networks.ts";
import { parseBundle } from "../ca/chain.ts";
import { checkVersion, type Draft } from "../state/objects.ts";
import { isIngress, isLive, isPredefined, usesNetwork } from "../state/tasks.ts";
import { newJoinToken } from "../tokens/tokens.ts";
import { blacklistExpiry, severalManagersText } from "./certificates.ts";
import type { Manager } from "./manager.ts";

/** What an administrator may do to the cluster; each method is one write. Refusals are gRPC's, in swarmkit's words. */
export class Control {
  readonly #manager: Manager;
  readonly #nodeId: string;
  readonly #random: Random;

  constructor(options: { readonly manager: Manager; readonly nodeId: string; readonly random: Random }) {
    this.#manager = options.manager;
    this.#nodeId = options.nodeId;
    this.#random = options.random;
  }

  cluster(): Cluster {
    return this.#manager.objects.cluster();
  }

  /** All nodes; who is a manager shows its raft member, which is not stored. */
  nodes(): readonly Node[] {
    return this.#manager.objects.list("node").map((node) => {
      if (node.id !== this.#nodeId) return node;
      const reachability = RaftMemberStatus_Reachability.REACHABLE;
      const { addr } = this.#manager.peer;
      return { ...node, managerStatus: create(ManagerStatusSchema, { raftId: 1n, addr, leader: true, reachability }) };
    });
  }

  /** By id, host name, unique id prefix; also by the name given in the spec. */
  findNode(term: string): Node {
    const nodes = this.nodes();
    const exact = nodes.find(({ id }) => id === term);
    if (exact !== undefined) return exact;
    const named = nodes.filter((node) => nameOf(node) === term);
    const found = named.length > 0 ? named : nodes.filter(({ id }) => term !== "" && id.startsWith(term));
    const [first, second] = found;
    if (first === undefined) throw new EngineError("not-found", `node ${term} not found`); // compat:
    if (second !== undefined) {
      throw new EngineError("invalid", `node ${term} is ambiguous (${found.length} matches found)`); // compat:
    }
    return first;
  }

  async updateNode(id: string, version: bigint, spec: NodeSpec): Promise<void> {
    await this.#write((draft) => {
      const node = draft.get("node", id);
      if (node === undefined) throw new ConnectError(`node ${id} not found`, Code.NotFound);
      checkVersion(node, version);
      if (spec.desiredRole !== node.spec?.desiredRole) {
        if (spec.desiredRole === NodeRole.MANAGER) throw new ConnectError(severalManagersText, Code.FailedPrecondition);
        throw new ConnectError("attempting to demote the last manager of the swarm", Code.FailedPrecondition); // compat:
      }
      draft.put("node", { ...node, spec });
    });
  }

  async removeNode(id: string, force: boolean): Promise<void> {
    await this.#write((draft) => {
      const node = draft.get("node", id);
      const cluster = draft.list("cluster")[0];
      if (node === undefined || cluster === undefined) throw new ConnectError(`node ${id} not found`, Code.NotFound);
      if (node.role === NodeRole.MANAGER) {
        const why =
          "is a cluster manager and is a member of the raft cluster. It must be demoted to worker before removal";
        throw new ConnectError(`node ${id} ${why}`, Code.FailedPrecondition); // compat:
      }
      if (!force && node.status?.state === NodeStatus_State.READY) {
        throw new ConnectError(`node ${id} is not down and can't be removed`, Code.FailedPrecondition); // compat:
      }
      const [leaf] = parseBundle(node.certificate?.certificate ?? new Uint8Array());
      const entry = create(BlacklistedCertificateSchema, { expiry: blacklistExpiry(leaf?.validToDate ?? new Date()) });
      draft.put("cluster", {
        ...cluster,
        blacklistedCertificates: { ...cluster.blacklistedCertificates, [id]: entry },
      });
      for (const task of draft.list("task")) if (task.nodeId === id) draft.delete("task", task.id);
      draft.delete("node", id);
    });
  }

  async updateCluster(
    spec: ClusterSpec,
    version: bigint,
    rotate: { readonly worker: boolean; readonly manager: boolean },
  ): Promise<void> {
    if (spec.annotations?.name !== "default") throw new EngineError("invalid", `swarm spec must be named "default"`); // compat:
    await this.#write((draft) => {
      const cluster = draft.list("cluster")[0];
      if (cluster?.rootCa === undefined) throw new ConnectError("cluster not found", Code.NotFound);
      checkVersion(cluster, version);
      const { rootCa } = cluster;
      const tokens = rootCa.joinTokens ?? create(JoinTokensSchema);
      const joinTokens = create(JoinTokensSchema, {
        worker: rotate.worker ? newJoinToken(rootCa.caCert, this.#random).reveal() : tokens.worker,
        manager: rotate.manager ? newJoinToken(rootCa.caCert, this.#random).reveal() : tokens.manager,
      });
      draft.put("cluster", { ...cluster, spec, rootCa: { ...rootCa, joinTokens } });
    });
  }

  networks(): readonly Network[] {
    return this.#manager.objects.list("network").filter((network) => !isPredefined(network));
  }

  /** Allocates at once, so that what cannot be given is refused rather than left waiting. */
  async createNetwork(spec: NetworkSpec): Promise<Network> {
    const id = newSwarmId(this.#random);
    await this.#write((draft) => {
      const networks = draft.list("network");
      checkNetwork(spec, networks);
      const network = create(NetworkSchema, { id, spec });
      draft.put("network", allocateNetwork(network, { others: networks, pools: poolsOf(this.cluster()) }));
    });
    return this.#manager.objects.get("network", id) as Network; // written just above
  }

  async removeNetwork(id: string): Promise<void> {
    await this.#write((draft) => {
      const network = draft.get("network", id);
      if (network === undefined) throw new ConnectError(`network ${id} not found`, Code.NotFound);
      if (isPredefined(network)) {
        const name = network.spec?.annotations?.name ?? "";
        const text = `network ${id} (${name}) is a swarm predefined network and cannot be removed`; // compat:
        throw new ConnectError(text, Code.FailedPrecondition);
      }
      const user = draft.list("task").find((task) => isLive(task) && usesNetwork(task, id));
      if (user !== undefined)
        throw new ConnectError(`network ${id} is in use by task ${user.id}`, Code.FailedPrecondition); // compat:
      draft.delete("network", id);
      this.#manager.pointers.forget(id);
    });
  }

  #write<T>(act: (draft: Draft) => T): Promise<T> {
    return this.#manager.objects.write((draft) => {
      const result = act(draft);
      this.#manager.reallocate(draft);
      return result;
    });
  }
}

function nameOf(node: Node): string {
  return node.description?.hostname || node.spec?.annotations?.name || "";
}

function checkNetwork(spec: NetworkSpec, networks: readonly Network[]): void {
  const name = spec.annotations?.name ?? "";
  if (networks.some((network) => network.spec?.annotations?.name === name)) {
    throw new EngineError("conflict", `network with name ${name} already exists`); // compat:
  }
  if (spec.ingress) {
    if (spec.attachable) throw new ConnectError("ingress network cannot be attachable", Code.InvalidArgument); // compat:
    const ingress = networks.find(isIngress);
    if (ingress !== undefined) {
      throw new ConnectError(`ingress network (${ingress.id}) is already present`, Code.AlreadyExists); // compat:
    }
    if (driverOf(create(NetworkSchema, { spec })) !== "overlay") {
      throw new ConnectError("ingress network can only be of driver overlay", Code.InvalidArgument);
    }
  }
  for (const config of spec.ipam?.configs ?? []) checkPool(config);
}

function checkPool(config: IPAMConfig): void {
  const refuse = (what: string) => new ConnectError(`ipam configuration: ${what}`, Code.InvalidArgument); // compat:
  if (config.subnet === "") {
    if (config.range !== "" || config.gateway !== "") throw refuse("invalid subnet ");
    return;
  }
  const asked = tryParseCidr(config.subnet);
  if (asked === undefined) throw refuse(`invalid subnet ${config.subnet}`);
  const subnet = networkOf(asked);
  if (config.range !== "") {
    const range = tryParseCidr(config.range);
    if (range === undefined) throw refuse(`invalid range ${config.range}`);
    if (!containsCidr(subnet, range))
      throw refuse(`subnet ${formatCidr(subnet)} does not contain range ${config.range}`);
  }
  if (config.gateway !== "") {
    const gateway = tryParseIp(config.gateway);
    if (gateway === undefined) throw refuse(`invalid gateway ${config.gateway}`);
    if (!contains(subnet, gateway))
      throw refuse(`subnet ${formatCidr(subnet)} does not contain gateway ${config.gateway}`);
  }
}
