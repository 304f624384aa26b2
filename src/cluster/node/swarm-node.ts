import { join } from "node:path";
import { KeyedMutex, withSignal } from "../../base/async.ts";
import type { Clock } from "../../base/clock.ts";
import { crashPoint } from "../../base/crash-point.ts";
import { EngineError, hasCode, messageOf } from "../../base/errors.ts";
import { formatHostPort, parseCidr, tryParseCidr } from "../../base/ip.ts";
import type { Log } from "../../base/log.ts";
import type { Random } from "../../base/random.ts";
import { Secret } from "../../base/secret.ts";
import type { Gossip, GossipOptions } from "../../gossip/mod.ts";
import type { Kernel } from "../../kernel/mod.ts";
import type { Networks, PeerTable } from "../../network/mod.ts";
import type { Seal, Store } from "../../store/mod.ts";
import type { Cluster, Node } from "../../wire/gen/swarm_objects_pb.ts";
import { type ClusterSpec, type NodeSpec, NodeSpec_Availability } from "../../wire/gen/swarm_specs_pb.ts";
import { NodeRole } from "../../wire/gen/swarm_types_pb.ts";
import { type Enrolled, enrol, isFinalRefusal } from "../agent/enrolment.ts";
import { CertificateStore } from "../ca/certificate-store.ts";
import { verifyChain } from "../ca/chain.ts";
import type { NodeCredentials } from "../ca/model.ts";
import { Control } from "../manager/control.ts";
import { createSwarm, Manager } from "../manager/manager.ts";
import { openPeerTable } from "../peers/peer-table.ts";
import { fromRpc, translatingRpc } from "../rpc-errors.ts";
import { ObjectStore } from "../state/objects.ts";
import type { InitRequest, JoinRequest, JoinTokens, Swarm, SwarmInfo } from "../swarm.ts";
import { rootDigestOf } from "../tokens/tokens.ts";
import { ActiveNode } from "./active-node.ts";
import { parseRemoteAddress, resolveInitAddresses, resolveJoinAddresses } from "./addresses.ts";
import { localAddressTowards } from "./local-address.ts";
import { type Membership, MembershipStore } from "./membership.ts";
import { ClusterNetworks } from "./swarm-networks.ts";
import { refusal } from "./texts.ts";

const joinTimeoutMs = 20_000;
const rejoinMs = 5000;

export interface SwarmOptions {
  /** Certificates are kept under `swarm/certificates` in it. */
  readonly dataRoot: string;
  readonly store: Store;
  readonly seal: Seal;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  /** For the host's own addresses. */
  readonly kernel: Pick<Kernel, "links">;
  /** Asked when first needed, from `resume` on: it is built from what `openSwarm` returns. */
  readonly networks: () => Networks;
  readonly openGossip: (options: GossipOptions) => Promise<Gossip>;
  readonly hostname: string;
  readonly engineVersion: string;
  readonly labels: Readonly<Record<string, string>>;
}

/** This node's place in a swarm, over restarts. One change of membership at a time. */
export class SwarmNode implements Swarm {
  readonly networks: ClusterNetworks;
  readonly peerTable: PeerTable & Disposable & { reopened(): void };
  readonly #options: SwarmOptions;
  readonly #memberships: MembershipStore;
  readonly #certificates: CertificateStore;
  readonly #changing = new KeyedMutex();
  readonly #closed = new AbortController();
  #membership: Membership | undefined;
  #objects: ObjectStore | undefined;
  #manager: Manager | undefined;
  #control: Control | undefined;
  #node: ActiveNode | undefined;
  #joining: { readonly stop: AbortController; readonly done: Promise<void> } | undefined;
  #isRegistered = false;
  #error = "";

  private constructor(options: SwarmOptions, membership: Membership | undefined, objects: ObjectStore | undefined) {
    this.#options = options;
    this.#membership = membership;
    this.#objects = objects;
    this.#memberships = new MembershipStore(options);
    this.#certificates = certificatesOf(options);
    this.peerTable = openPeerTable({ gossip: () => this.gossip(), log: options.log });
    this.networks = new ClusterNetworks({
      ...options,
      role: () => this.#role(),
      node: () => this.#node,
      control: () => this.#control,
    });
  }

  /** Reads what this node remembers; nothing is connected before `resume`. */
  static async open(options: SwarmOptions, signal: AbortSignal): Promise<SwarmNode> {
    signal.throwIfAborted();
    const membership = await new MembershipStore(options).load();
    const isManager = membership?.kind === "member" && membership.role === "manager";
    // Without a membership, what is there is left from an init or a leave that a crash cut short.
    if (membership === undefined || membership.kind === "leaving") await erase(options);
    return new SwarmNode(options, membership, isManager ? await ObjectStore.load(options) : undefined);
  }

  /** Takes up the membership of before the restart. Returns soon; sessions come up in the background. */
  async resume(signal: AbortSignal): Promise<void> {
    await this.#changing.run("", async () => {
      const membership = this.#membership;
      if (membership === undefined) return;
      if (membership.kind === "leaving") return this.#forget();
      if (membership.kind === "joining") {
        void this.#joinInBackground(membership, "until it works"); // logs its own failure
        return;
      }
      try {
        const credentials = await this.#certificates.load();
        if (credentials === undefined)
          throw new EngineError("unavailable", "the swarm certificates of this node are missing");
        checkUnexpired(credentials, this.#options.clock.wall());
        await this.#activate(membership, credentials, signal);
      } catch (error) {
        this.#error = messageOf(error);
        this.#options.log.error("cannot take up the swarm membership", { error });
      }
    });
  }

  gossip(): Gossip | undefined {
    return this.#node?.gossip;
  }

  info(): SwarmInfo {
    const nodes = this.#control?.nodes() ?? [];
    return {
      state: this.#state(),
      nodeId: this.#membership?.kind === "member" ? this.#membership.nodeId : "",
      nodeAddress: this.#node?.advertiseAddress ?? "",
      controlAvailable: this.#control !== undefined,
      error: this.#error || (this.#node?.error ?? ""),
      remoteManagers: this.#node?.managers ?? [],
      nodes: nodes.length,
      managers: nodes.filter(({ role }) => role === NodeRole.MANAGER).length,
      cluster: this.#control?.cluster(),
    };
  }

  async init(request: InitRequest, signal: AbortSignal): Promise<string> {
    return await this.#changing.run("", async () => {
      if (this.#membership !== undefined) throw refusal("alreadyMember");
      checkInit(request);
      const addresses = resolveInitAddresses(request, this.#options.kernel.links("host"));
      const dataPathPort = request.dataPathPort || defaultDataPathPort;
      const { nodeId, objects, credentials } = await createSwarm(this.#options, {
        spec: request.spec,
        addressPools: request.defaultAddressPools,
        subnetSize: request.subnetSize || defaultSubnetSize,
        dataPathPort,
        availability: availabilities[request.availability],
      });
      crashPoint("swarm.create");
      this.#objects = objects;
      const membership = { kind: "member", addresses, nodeId, role: "manager", managers: [], dataPathPort } as const;
      try {
        await this.#certificates.save(credentials);
        await this.#activate(membership, credentials, signal);
        await this.#memberships.save(membership);
        crashPoint("swarm.member");
        this.#membership = membership;
      } catch (error) {
        await this.#forget();
        throw error;
      }
      await this.#node?.agent.registered(signal);
      return nodeId;
    });
  }

  async join(request: JoinRequest, signal: AbortSignal): Promise<void> {
    const { done } = await this.#changing.run("", async () => {
      if (this.#membership !== undefined) throw refusal("alreadyMember");
      rootDigestOf(request.token);
      if (request.remoteAddresses.length === 0) {
        throw new EngineError("invalid", "at least 1 RemoteAddr is required to join"); // compat:
      }
      const membership = {
        kind: "joining",
        addresses: resolveJoinAddresses(request, this.#options.kernel.links("host")),
        remoteAddresses: request.remoteAddresses.map(parseRemoteAddress),
        token: request.token,
        availability: availabilities[request.availability],
      } as const;
      await this.#memberships.save(membership);
      crashPoint("swarm.joining");
      this.#membership = membership;
      return { done: this.#joinInBackground(membership, "once") };
    });
    const timeout = this.#options.clock.timeout(joinTimeoutMs);
    try {
      await withSignal(done, AbortSignal.any([signal, timeout]));
    } catch (error) {
      if (timeout.aborted) throw refusal("joinTimeout");
      throw fromRpc(error);
    }
  }

  async leave(force: boolean, signal: AbortSignal): Promise<void> {
    if (this.#membership === undefined) throw refusal("notMember");
    this.#joining?.stop.abort(new Error("leaving"));
    await this.#joining?.done.catch(() => {});
    await this.#changing.run("", async () => {
      if (this.#membership === undefined) throw refusal("notMember");
      if (this.#role() === "manager" && !force) throw refusal("lastManager");
      try {
        await this.#options.networks().leaveSwarm(signal);
      } catch (error) {
        if (!force) throw error;
        this.#options.log.warn("swarm networks are left behind", { error });
      }
      await this.#memberships.save({ kind: "leaving" });
      crashPoint("swarm.leaving");
      this.#membership = { kind: "leaving" };
      await this.#node?.leave();
      await this.#forget();
    });
  }

  async inspect(): Promise<{ readonly cluster: Cluster; readonly tokens: JoinTokens }> {
    const cluster = this.#manage().cluster();
    const { worker = "", manager = "" } = cluster.rootCa?.joinTokens ?? {};
    return { cluster, tokens: { worker: new Secret(worker), manager: new Secret(manager) } };
  }

  async update(
    spec: ClusterSpec,
    version: bigint,
    rotate: { readonly worker: boolean; readonly manager: boolean },
  ): Promise<void> {
    const control = this.#manage();
    await translatingRpc(() => control.updateCluster(spec, version, rotate));
  }

  async nodes(): Promise<readonly Node[]> {
    return this.#manage().nodes();
  }

  async findNode(term: string): Promise<Node> {
    return this.#manage().findNode(term);
  }

  async updateNode(id: string, version: bigint, spec: NodeSpec): Promise<void> {
    const control = this.#manage();
    await translatingRpc(() => control.updateNode(id, version, spec));
  }

  async removeNode(id: string, force: boolean): Promise<void> {
    const control = this.#manage();
    await translatingRpc(() => control.removeNode(id, force));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed.abort(new Error("closed"));
    this.#joining?.stop.abort(new Error("closed"));
    await this.#joining?.done.catch(() => {});
    await this.#stop();
    this.peerTable[Symbol.dispose]();
  }

  /** Manager (if we are one), then agent and gossip. */
  async #activate(
    membership: Extract<Membership, { kind: "member" }>,
    credentials: NodeCredentials,
    signal: AbortSignal,
  ): Promise<void> {
    const { nodeId, addresses } = membership;
    this.#manager =
      membership.role === "manager" ? await this.#openManager(membership, credentials, signal) : undefined;
    const managers = this.#manager === undefined ? membership.managers : [{ nodeId, address: this.#manager.peer.addr }];
    const advertiseAddress = addresses.advertise?.address ?? (await localAddressTowards(managers[0]?.address ?? ""));
    const { hostname, engineVersion, labels } = this.#options;
    const node = new ActiveNode(
      { ...this.#options, certificates: this.#certificates, facts: { hostname, engineVersion, labels } },
      {
        nodeId,
        credentials,
        managers,
        advertiseAddress,
        bindAddress: addresses.listen.address,
        dataPathAddress: addresses.dataPath ?? advertiseAddress,
        dataPathPort: membership.dataPathPort,
        manager: this.#manager,
        onGossip: () => this.peerTable.reopened(),
        onManagers: (known) => this.#remember({ managers: known }),
        onDataPathPort: (dataPathPort) => this.#remember({ dataPathPort }),
      },
      this.#closed.signal,
    );
    this.#node = node;
    this.#error = "";
    node.agent.registered(node.signal).then(
      () => {
        this.#isRegistered = true;
      },
      () => {}, // closed before it was ready
    );
  }

  async #openManager(
    membership: Extract<Membership, { kind: "member" }>,
    credentials: NodeCredentials,
    signal: AbortSignal,
  ): Promise<Manager> {
    const { addresses, nodeId } = membership;
    const { clock, random, log } = this.#options;
    if (this.#objects === undefined || addresses.advertise === undefined)
      throw new EngineError("internal", "a manager without its store");
    const manager = await Manager.open(
      {
        objects: this.#objects,
        nodeId,
        credentials,
        listen: addresses.listen,
        advertise: formatHostPort(addresses.advertise.address, addresses.advertise.portHostOrder),
        clock,
        random,
        log,
      },
      signal,
    );
    this.#control = new Control({ manager, nodeId, random });
    return manager;
  }

  /** The promise settles when the first session is registered, or the join is refused for good. */
  #joinInBackground(
    membership: Extract<Membership, { kind: "joining" }>,
    tries: "once" | "until it works",
  ): Promise<void> {
    const stop = new AbortController();
    const signal = AbortSignal.any([stop.signal, this.#closed.signal]);
    const done = this.#runJoin(membership, tries, signal).finally(() => {
      this.#joining = undefined;
    });
    done.catch((error: unknown) => this.#options.log.error("cannot join the swarm", { error: messageOf(error) }));
    this.#joining = { stop, done };
    return done;
  }

  async #runJoin(
    membership: Extract<Membership, { kind: "joining" }>,
    tries: "once" | "until it works",
    signal: AbortSignal,
  ): Promise<void> {
    const { addresses, remoteAddresses } = membership;
    try {
      const { identity, credentials } = await this.#enrol(membership, tries, signal);
      await this.#certificates.save(credentials);
      crashPoint("swarm.enrolled");
      const managers = remoteAddresses.map((address) => ({ nodeId: "", address }));
      const member = { kind: "member", addresses, nodeId: identity.nodeId, role: identity.role, managers } as const;
      await this.#memberships.save(member);
      crashPoint("swarm.member");
      this.#membership = member;
      await this.#activate(member, credentials, signal);
    } catch (error) {
      // A restart of the daemon, or a leave, which clears up itself.
      if (signal.aborted) throw error;
      await this.#forget();
      throw error;
    }
    await this.#node?.agent.registered(signal);
  }

  /** After a restart nobody waits for the answer: managers that are away are asked until they are back. */
  async #enrol(
    membership: Extract<Membership, { kind: "joining" }>,
    tries: "once" | "until it works",
    signal: AbortSignal,
  ): Promise<Enrolled> {
    // A crash between the certificate and the membership: the node exists already.
    const credentials = await this.#certificates.load();
    if (credentials !== undefined) {
      const identity = verifyChain(credentials.chainPem, credentials.rootPem, this.#options.clock.wall());
      return { identity, credentials };
    }
    for (;;) {
      try {
        return await enrol(membership, this.#options, signal);
      } catch (error) {
        if (tries === "once" || signal.aborted || isFinalRefusal(error)) throw error;
        this.#options.log.warn("cannot join the swarm yet", { error });
        await this.#options.clock.sleep(rejoinMs, signal);
      }
    }
  }

  #remember(facts: Partial<Pick<Extract<Membership, { kind: "member" }>, "managers" | "dataPathPort">>): void {
    const membership = this.#membership;
    if (membership?.kind !== "member") return;
    this.#membership = { ...membership, ...facts };
    this.#memberships
      .save(this.#membership)
      .catch((error: unknown) => this.#options.log.error("cannot store what the manager told", { error }));
  }

  /** Stops everything and removes every trace of the swarm, the membership last. */
  async #forget(): Promise<void> {
    await this.#stop();
    await erase(this.#options);
    crashPoint("swarm.erased");
    await this.#memberships.remove();
    this.#membership = undefined;
    this.#objects = undefined;
    this.#error = "";
  }

  async #stop(): Promise<void> {
    const [node, manager] = [this.#node, this.#manager];
    this.#control = undefined;
    this.#node = undefined;
    this.#manager = undefined;
    this.#isRegistered = false;
    await node?.[Symbol.asyncDispose]();
    await manager?.[Symbol.asyncDispose]();
  }

  #manage(): Control {
    if (this.#control !== undefined) return this.#control;
    if (this.#membership === undefined) throw refusal("noSwarm");
    throw refusal(this.#role() === "manager" ? "preparing" : "notManager");
  }

  #role(): "none" | "worker" | "manager" {
    if (this.#membership?.kind === "member") return this.#membership.role;
    return this.#control === undefined ? "none" : "manager";
  }

  #state(): SwarmInfo["state"] {
    if (this.#membership === undefined) return "inactive";
    if (this.#error !== "") return "error";
    return this.#isRegistered ? "active" : "pending";
  }
}

const availabilities = {
  active: NodeSpec_Availability.ACTIVE,
  pause: NodeSpec_Availability.PAUSE,
  drain: NodeSpec_Availability.DRAIN,
} as const;
const defaultSubnetSize = 24;
const largestSubnetMask = 29;
const defaultDataPathPort = 4789;

/** @throws {EngineError} in Docker's words where it has some. */
function checkInit(request: InitRequest): void {
  if (request.autoLock) throw new EngineError("unsupported", "autolock is not supported by this version");
  const { dataPathPort, subnetSize } = request;
  if (dataPathPort !== 0 && (dataPathPort < 1024 || dataPathPort > 49151)) {
    const text = `Datapath port number is not in valid range (1024-49151) : ${dataPathPort}`; // compat:
    throw new EngineError("internal", text);
  }
  if (subnetSize !== 0 && subnetSize > largestSubnetMask) {
    throw new EngineError("internal", `subnet size is out of range: ${subnetSize}`); // compat:
  }
  for (const pool of request.defaultAddressPools) {
    const cidr = tryParseCidr(pool);
    if (cidr === undefined) throw new EngineError("invalid", `invalid CIDR address: ${pool}`); // compat:
    if (parseCidr(pool).prefix > (subnetSize || defaultSubnetSize)) {
      throw new EngineError(
        "invalid",
        `default address pool ${pool} is smaller than a subnet of /${subnetSize || defaultSubnetSize}`,
      );
    }
  }
  const name = request.spec?.annotations?.name ?? "";
  if (name !== "" && name !== "default") throw new EngineError("invalid", `swarm spec must be named "default"`); // compat:
}

function checkUnexpired(credentials: NodeCredentials, now: Date): void {
  try {
    verifyChain(credentials.chainPem, credentials.rootPem, now);
  } catch (error) {
    if (hasCode(error, "invalid")) throw refusal("expired");
    throw error;
  }
}

function certificatesOf(options: Pick<SwarmOptions, "dataRoot" | "seal">): CertificateStore {
  return new CertificateStore({ directory: join(options.dataRoot, "swarm/certificates"), seal: options.seal });
}

async function erase(options: SwarmOptions): Promise<void> {
  await ObjectStore.erase(options.store);
  await certificatesOf(options).remove();
}
