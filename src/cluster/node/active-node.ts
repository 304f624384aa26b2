import type { Clock } from "../../base/clock.ts";
import { crashPoint } from "../../base/crash-point.ts";
import { messageOf } from "../../base/errors.ts";
import { formatHostPort, type IpAddress } from "../../base/ip.ts";
import type { Log } from "../../base/log.ts";
import type { Random } from "../../base/random.ts";
import { Scope } from "../../base/scope.ts";
import type { Gossip, GossipOptions } from "../../gossip/mod.ts";
import type { Networks } from "../../network/mod.ts";
import type { SessionMessage } from "../../wire/gen/swarm_dispatcher_pb.ts";
import type { Node } from "../../wire/gen/swarm_objects_pb.ts";
import { type EncryptionKey, IssuanceStatus_State } from "../../wire/gen/swarm_types_pb.ts";
import { Agent } from "../agent/agent.ts";
import { dialManager, type ManagerConnection } from "../agent/connection.ts";
import { describeNode, type EngineFacts } from "../agent/description.ts";
import { type Enrolled, renewCertificate } from "../agent/enrolment.ts";
import { type ManagerPeer, Remotes } from "../agent/remotes.ts";
import { Worker } from "../agent/worker.ts";
import type { CertificateStore } from "../ca/certificate-store.ts";
import { verifyChain, verifyRoots } from "../ca/chain.ts";
import { managerServerName, type NodeCredentials } from "../ca/model.ts";
import { renewalDelayMs } from "../ca/renewal.ts";
import { Wakeup } from "../dispatcher/wakeup.ts";
import { hostOf, type Manager } from "../manager/manager.ts";
import { gossipSubsystem } from "../manager/network-keys.ts";

const gossipPort = 7946;
const defaultDataPathPort = 4789;
const keysPerSubsystem = 3;
const gossipRetryMs = 2000;
/** How many nodes a manager asks for the way back into the gossip; one living one is enough. */
const gossipPeers = 5;
const forcedRenewalPauseMs = 500;
const renewalRetryMs = 5000;
const maxRenewalRetryMs = 3_600_000;

export interface ActiveNodeOptions {
  readonly facts: EngineFacts;
  readonly certificates: CertificateStore;
  readonly networks: () => Networks;
  readonly openGossip: (options: GossipOptions) => Promise<Gossip>;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
}

export interface ActiveNodeStart {
  readonly nodeId: string;
  readonly credentials: NodeCredentials;
  readonly bindAddress: IpAddress;
  readonly advertiseAddress: IpAddress;
  readonly dataPathAddress: IpAddress;
  /** As far as it is known from before. */
  readonly dataPathPort: number | undefined;
  readonly managers: readonly ManagerPeer[];
  /** When this node is the manager. */
  readonly manager: Manager | undefined;
  /** A new gossip is open, or the last one has gone. */
  readonly onGossip: () => void;
  readonly onManagers: (managers: readonly ManagerPeer[]) => void;
  readonly onDataPathPort: (portHostOrder: number) => void;
}

/** A node that is in a swarm: sessions, gossip, certificate renewal, and the work it is given. */
export class ActiveNode implements AsyncDisposable {
  readonly nodeId: string;
  readonly advertiseAddress: IpAddress;
  readonly dataPathAddress: IpAddress;
  readonly agent: Agent;
  readonly worker: Worker;
  readonly #options: ActiveNodeOptions;
  readonly #start: ActiveNodeStart;
  readonly #remotes: Remotes;
  readonly #scope: Scope;
  readonly #gossipReady = Promise.withResolvers<void>();
  readonly #gossipWakeup = new Wakeup();
  readonly #renewalWakeup = new Wakeup();
  #credentials: NodeCredentials;
  #keys: readonly EncryptionKey[] = [];
  #keyTimes = "";
  #gossip: Gossip | undefined;
  #node: Node | undefined;
  #isRenewalForced = false;
  #error = "";

  constructor(options: ActiveNodeOptions, start: ActiveNodeStart, signal: AbortSignal) {
    this.#options = options;
    this.#start = start;
    this.#credentials = start.credentials;
    this.nodeId = start.nodeId;
    this.advertiseAddress = start.advertiseAddress;
    this.dataPathAddress = start.dataPathAddress;
    this.#remotes = new Remotes(start.managers);
    this.#scope = new Scope(options.log, signal);
    this.worker = new Worker({
      ...options,
      gossipReady: this.#gossipReady.promise,
      report: (taskId, status) => this.agent.report(taskId, status),
    });
    this.agent = new Agent({
      ...options,
      remotes: this.#remotes,
      connect: (peer) => this.#connect(peer),
      describe: () => describeNode(options.facts, this.#credentials),
      listener: {
        onSession: (message) => this.#onSession(message),
        onAssignments: (message) => this.worker.assign(message),
      },
    });
    this.#scope.run("swarm-agent", (until) => this.agent.run(until));
    this.#scope.run("swarm-tasks", (until) => this.worker.runTasks(until));
    this.#scope.run("swarm-ingress", (until) => this.worker.runIngress(until));
    this.#scope.run("swarm-gossip", (until) => this.#runGossip(until));
    this.#scope.run("swarm-renewal", (until) => this.#runRenewal(until));
  }

  get gossip(): Gossip | undefined {
    return this.#gossip;
  }

  /** Ends when the node closes. */
  get signal(): AbortSignal {
    return this.#scope.signal;
  }

  get managers(): readonly ManagerPeer[] {
    return this.#remotes.list();
  }

  get dataPathPort(): number {
    if (this.#node === undefined) return this.#start.dataPathPort ?? defaultDataPathPort;
    return this.#node.VXLANUDPPort || defaultDataPathPort;
  }

  /** Current keys of all subsystems, the IPsec ones for encrypted overlays. */
  get keys(): readonly EncryptionKey[] {
    return this.#keys;
  }

  /** What keeps this node from working, for `docker info`. */
  get error(): string {
    return this.#error;
  }

  /** Says goodbye to the other nodes; the manager notices by the missing heartbeats, there is no call for it (U13). */
  async leave(): Promise<void> {
    await this.#scope[Symbol.asyncDispose]();
    await this.#gossip?.leave();
    this.#gossip = undefined;
    this.#start.onGossip();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#scope[Symbol.asyncDispose]();
    await this.#gossip?.[Symbol.asyncDispose]();
    this.#gossip = undefined;
  }

  #connect(peer: ManagerPeer): ManagerConnection {
    const { manager } = this.#start;
    if (manager !== undefined && peer.nodeId === this.nodeId) return { transport: manager.transport, close: () => {} };
    const { rootPem } = this.#credentials;
    return dialManager(peer.address, { kind: "root", rootPem, serverName: managerServerName, own: this.#credentials });
  }

  #onSession(message: SessionMessage): void {
    const before = JSON.stringify(this.managers);
    this.#remotes.replace(message.managers);
    if (JSON.stringify(this.managers) !== before) {
      this.#start.onManagers(this.managers);
      this.#gossipWakeup.ring();
    }
    this.#setRoot(message.RootCA);
    this.#setKeys(message.networkBootstrapKeys);
    const { node } = message;
    if (node === undefined) return;
    const portBefore = this.#node === undefined ? this.#start.dataPathPort : this.dataPathPort;
    this.#node = node;
    if (this.dataPathPort !== portBefore) this.#start.onDataPathPort(this.dataPathPort);
    this.worker.setNode(node);
    if (node.certificate?.status?.state === IssuanceStatus_State.ROTATE) {
      this.#isRenewalForced = true;
      this.#renewalWakeup.ring();
    }
  }

  /** Compared by Lamport times only, as engines do; a ring of another size is refused whole (T10). */
  #setKeys(keys: readonly EncryptionKey[]): void {
    const times = keys.map(({ lamportTime }) => lamportTime).join();
    if (keys.length === 0 || times === this.#keyTimes) return;
    this.#keyTimes = times;
    if (keys.filter(({ subsystem }) => subsystem === gossipSubsystem).length !== keysPerSubsystem) {
      this.#options.log.error("the manager sent a number of gossip keys that is not 3", { keys: keys.length });
      return;
    }
    this.#keys = keys;
    this.#gossipWakeup.ring();
  }

  /** A new trust bundle is taken when our own certificate is valid under it (reference: swarm-control-plane 8.2). */
  #setRoot(rootPem: Uint8Array): void {
    if (rootPem.length === 0 || Buffer.from(rootPem).equals(this.#credentials.rootPem)) return;
    const { certificates, clock, log } = this.#options;
    try {
      verifyRoots(rootPem, clock.wall());
      verifyChain(this.#credentials.chainPem, rootPem, clock.wall());
    } catch (error) {
      log.warn("a new root certificate was refused", { error });
      return;
    }
    this.#credentials = { ...this.#credentials, rootPem };
    certificates.saveRoot(rootPem).catch((error: unknown) => log.error("cannot store the root certificate", { error }));
    this.agent.reconnect();
  }

  async #runGossip(signal: AbortSignal): Promise<void> {
    const { openGossip, clock, log } = this.#options;
    for (;;) {
      const keys = this.#keys
        .filter(({ subsystem }) => subsystem === gossipSubsystem)
        .map(({ key, lamportTime }) => ({ key, lamportTime }));
      if (keys.length > 0 && this.#gossip === undefined) {
        try {
          this.#gossip = await openGossip({
            bindAddress: this.#start.bindAddress,
            advertiseAddress: this.advertiseAddress,
            portHostOrder: gossipPort,
            keys,
          });
          this.#error = "";
        } catch (error) {
          this.#error = messageOf(error);
          log.error("cannot open the gossip, trying again", { error });
          await clock.sleep(gossipRetryMs, signal);
          continue;
        }
        this.#start.onGossip();
        this.#gossipReady.resolve();
      } else if (keys.length > 0) this.#gossip?.setKeys(keys);
      await this.#joinGossip();
      await this.#gossipWakeup.wait(signal);
    }
  }

  async #joinGossip(): Promise<void> {
    const others = this.managers.filter(({ nodeId }) => nodeId !== this.nodeId).map(({ address }) => hostOf(address));
    const known = this.#start.manager?.livingPeers(gossipPeers) ?? [];
    const addresses = [...new Set([...others, ...known])].map((host) => formatHostPort(host, gossipPort));
    // Goes on in the background while none answers.
    if (addresses.length > 0) await this.#gossip?.join(addresses);
  }

  async #runRenewal(signal: AbortSignal): Promise<void> {
    const { clock, random, log } = this.#options;
    let retryMs = renewalRetryMs;
    for (;;) {
      const delayMs = renewalDelayMs(this.#credentials.chainPem, clock.wall(), random);
      if (!this.#isRenewalForced)
        await Promise.race([sleepLong(clock, delayMs, signal), this.#renewalWakeup.wait(signal)]);
      if (this.#isRenewalForced) await clock.sleep(forcedRenewalPauseMs, signal);
      try {
        await this.#renew(signal);
        this.#isRenewalForced = false;
        retryMs = renewalRetryMs;
      } catch (error) {
        if (signal.aborted) return;
        log.warn("cannot renew the certificate, trying again", { error });
        await clock.sleep(retryMs, signal);
        retryMs = Math.min(maxRenewalRetryMs, retryMs * 2);
      }
    }
  }

  async #renew(signal: AbortSignal): Promise<void> {
    const { certificates, random, log } = this.#options;
    const peer = this.#remotes.pick(random);
    if (peer === undefined) throw new Error("no manager is known");
    const connection = this.#connect(peer);
    try {
      const { rootPem } = this.#credentials;
      const renewed: Enrolled = await renewCertificate(
        { transport: connection.transport, rootPem },
        this.#options,
        signal,
      );
      await certificates.save(renewed.credentials);
      crashPoint("certificate.renewed");
      this.#credentials = renewed.credentials;
    } finally {
      connection.close();
    }
    log.info("the node's certificate was renewed", { node: this.nodeId });
    this.#start.manager?.setCredentials(this.#credentials);
    this.agent.reconnect();
  }
}

/** Timers hold about 24 days; a certificate is renewed after 45 and more. */
const longestTimerMs = 2 ** 31 - 1;

async function sleepLong(clock: Clock, delayMs: number, signal: AbortSignal): Promise<void> {
  for (let leftMs = delayMs; leftMs > 0; leftMs -= longestTimerMs) {
    await clock.sleep(Math.min(leftMs, longestTimerMs), signal);
  }
}
