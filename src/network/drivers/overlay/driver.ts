import { KeyedMutex } from "../../../base/async.ts";
import type { Clock } from "../../../base/clock.ts";
import { crashPoint } from "../../../base/crash-point.ts";
import { EngineError } from "../../../base/errors.ts";
import { familyOf, formatCidr, isMulticast, isUnspecified, macToBytes } from "../../../base/ip.ts";
import type { Log } from "../../../base/log.ts";
import type { Kernel, KernelObject } from "../../../kernel/mod.ts";
import type { Endpoint, Network } from "../../model.ts";
import type { OverlayPeer, PeerTable, SwarmNetworks } from "../../networks.ts";
import type { Driver } from "../driver.ts";
import { endpointObjects, networkObjects, overlayNamespace, type Subnet, subnetFor, subnetsOf } from "./desired.ts";
import { overlayOptionKeys, parseOverlayOptions } from "./options.ts";
import { PeerProgrammer } from "./peer-programmer.ts";
import { type PeerKey, PeerSet } from "./peer-set.ts";
import { tuningObjects } from "./tuning.ts";

export interface OverlayDeps {
  readonly kernel: Kernel;
  readonly peers: PeerTable;
  readonly swarm: () => Pick<SwarmNetworks, "dataPath">;
  /** `<exec root>/netns`, where sandboxes live too. */
  readonly netnsDirectory: string;
  readonly clock: Clock;
  readonly log: Log;
}

/**
 * `ensureNetwork` installs: it joins the network's gossip and keeps its peers in memory, no more. `removeNetwork` uninstalls.
 * The kernel objects come with the first `join` and go with the last `leave`; both publish and withdraw the endpoint's peer record.
 */
export interface OverlayDriver extends Driver, AsyncDisposable {
  /** Networks installed now. */
  installed(): readonly Network[];
  /** Resolves when every peer change seen so far is in the kernel. For tests and shutdown. */
  settle(): Promise<void>;
}

/** Disposing stops following peers and leaves the kernel as it is: containers outlive the daemon. */
export function openOverlayDriver(deps: OverlayDeps): OverlayDriver {
  return new Overlays(deps);
}

/** A network of which this host knows, whether or not anything of it is in the kernel. */
interface Installed {
  network: Network;
  readonly peers: PeerSet;
  readonly programmer: PeerProgrammer;
  readonly watch: Disposable;
  readonly announcing: Map<string, Disposable>;
  /** Whether this process has brought its namespace up. */
  isUp: boolean;
  /** The wait for the time to sweep what an earlier life knew of peers. */
  readonly sweeping: DisposableStack;
  stale: "kept" | "sweepable" | "swept";
}

class Overlays implements OverlayDriver {
  readonly name = "overlay";
  readonly addresses = true;
  readonly #deps: OverlayDeps;
  readonly #installed = new Map<string, Installed>();
  /** One network's namespace comes and goes in turn. */
  readonly #mutex = new KeyedMutex();
  readonly #closed = new AbortController();
  #isTuned = false;

  constructor(deps: OverlayDeps) {
    this.#deps = deps;
  }

  check(spec: Network["spec"]): void {
    parseOverlayOptions(spec.options);
    for (const vni of spec.options[overlayOptionKeys.vniList]?.split(",") ?? []) {
      if (!/^\d+$/.test(vni) || Number(vni) >= 2 ** 24) {
        throw new EngineError("invalid", `invalid vxlan id value ${JSON.stringify(vni)} passed`); // compat:
      }
    }
  }

  installed(): readonly Network[] {
    return [...this.#installed.values()].map((installed) => installed.network);
  }

  async settle(): Promise<void> {
    await Promise.all([...this.#installed.values()].map((installed) => installed.programmer.settle()));
  }

  async ensureNetwork(network: Network, _signal: AbortSignal): Promise<void> {
    subnetsOf(network);
    const known = this.#installed.get(network.id);
    if (known !== undefined) known.network = network;
    else this.#installed.set(network.id, this.#install(network));
    await this.#deps.peers.join(network.id);
  }

  #install(network: Network): Installed {
    const peers = new PeerSet();
    const log = this.#deps.log.child({ network: network.id });
    const programmer = new PeerProgrammer({
      kernel: this.#deps.kernel,
      clock: this.#deps.clock,
      log,
      networkId: network.id,
      desired: (key) => peerObjects(installed, key, this.#deps.netnsDirectory),
    });
    // A table that has records already tells them while it is being asked.
    const watch = this.#deps.peers.watchPeers(network.id, (endpointId, peer) => {
      const usable = peer === undefined ? undefined : this.#usable(network, peer, log);
      programmer.mark(peers.put(endpointId, usable));
    });
    const sweeping = new DisposableStack();
    const installed: Installed = {
      network,
      peers,
      programmer,
      watch,
      announcing: new Map(),
      isUp: false,
      sweeping,
      stale: "kept",
    };
    const synced = this.#deps.peers.whenSynced(network.id, () => {
      installed.stale = "sweepable";
      this.#sweepLater(installed);
    });
    sweeping.use(synced);
    return installed;
  }

  /**
   * Entries of an earlier life carry the traffic of living containers until gossip has told of their peers again; only then
   * are those that nobody told of removed.
   */
  #sweepLater(installed: Installed): void {
    const { id } = installed.network;
    const sweep = () => void this.#mutex.run(id, () => this.#sweepPeers(installed)); // logs its own failure
    installed.sweeping.use(this.#deps.clock.after(sweepDelayMs, sweep));
  }

  async #sweepPeers(installed: Installed): Promise<void> {
    const { kernel, netnsDirectory, log } = this.#deps;
    const { network, programmer, sweeping } = installed;
    await programmer.settle();
    if (!installed.isUp || sweeping.disposed) return;
    try {
      const removed = await kernel.sweepPeers(overlayNamespace(network, netnsDirectory), this.#closed.signal);
      installed.stale = "swept";
      if (removed.length > 0) log.info("swept peers that are gone", { network: network.id, entries: removed.length });
      crashPoint("overlay.sweep");
    } catch (error) {
      if (sweeping.disposed) return;
      log.warn("cannot sweep peers, trying again", { network: network.id, error });
      this.#sweepLater(installed);
    }
  }

  /** The record, unless it is about this very host or could not be programmed. */
  #usable(network: Network, peer: OverlayPeer, log: Log): OverlayPeer | undefined {
    const own = this.#deps.swarm().dataPath?.address;
    if (peer.vtep === own) return undefined;
    const fault = faultOf(subnetsOf(network), peer, own === undefined ? undefined : familyOf(own));
    if (fault === undefined) return peer;
    log.warn("ignoring a peer record", {
      fault,
      endpoint: peer.endpointId,
      address: formatCidr(peer.address),
      mac: peer.mac,
      vtep: peer.vtep,
    });
    return undefined;
  }

  removeNetwork(network: Network, signal: AbortSignal): Promise<void> {
    return this.#mutex.run(network.id, async () => {
      const installed = this.#installed.get(network.id);
      if (installed === undefined) return;
      await this.#takeDown(installed, signal);
      this.#installed.delete(network.id);
      installed.watch[Symbol.dispose]();
      installed.sweeping.dispose();
      this.#deps.peers.leave(network.id);
    });
  }

  join(network: Network, endpoint: Endpoint, namespacePath: string, signal: AbortSignal): Promise<void> {
    return this.#mutex.run(network.id, async () => {
      const { kernel, netnsDirectory, peers } = this.#deps;
      refuseEncrypted(network);
      const dataPath = this.#dataPath(network);
      const objects = endpointObjects(network, endpoint, namespacePath, netnsDirectory);
      if (!this.#installed.has(network.id)) await this.ensureNetwork(network, signal);
      const installed = this.#installed.get(network.id) as Installed;
      await this.#bringUp(installed, dataPath, signal);
      const { mac, ipv4 } = endpoint;
      if (mac === undefined || ipv4 === undefined) return;
      try {
        await kernel.reconcile(`endpoint/${endpoint.id}`, objects, signal);
        crashPoint("overlay.endpoint");
      } catch (error) {
        // Nothing of this endpoint may keep a namespace that nobody uses.
        if (installed.peers.localCount === 0) await this.#takeDown(installed, signal);
        throw error;
      }
      // Told as soon as it is so: other hosts are waiting for it.
      peers.publishPeer(network.id, { endpointId: endpoint.id, address: ipv4, mac, vtep: dataPath.address });
      crashPoint("overlay.publish");
      const local = { endpointId: endpoint.id, address: ipv4, mac };
      const changed = installed.peers.putLocal(local);
      installed.programmer.mark(changed);
      installed.announcing.get(endpoint.id)?.[Symbol.dispose]();
      installed.announcing.set(endpoint.id, this.#announce(endpoint, namespacePath));
    });
  }

  leave(network: Network, endpoint: Endpoint, signal: AbortSignal): Promise<void> {
    return this.#mutex.run(network.id, async () => {
      this.#deps.peers.withdrawPeer(network.id, endpoint.id);
      crashPoint("overlay.withdraw");
      await this.#deps.kernel.reconcile(`endpoint/${endpoint.id}`, [], signal);
      crashPoint("overlay.endpoint");
      const installed = this.#installed.get(network.id);
      if (installed === undefined) return;
      installed.announcing.get(endpoint.id)?.[Symbol.dispose]();
      installed.announcing.delete(endpoint.id);
      installed.programmer.mark(installed.peers.deleteLocal(endpoint.id));
      if (installed.peers.localCount === 0) await this.#takeDown(installed, signal);
    });
  }

  /**
   * Tells the bridge where the endpoint is. It has forgotten what it learnt of the address behind the tunnel, but frames of a
   * container that is not quite dead elsewhere may teach it again; and a new port forwards nothing until the kernel has noticed, a
   * little later, that its carrier is there.
   */
  #announce(endpoint: Endpoint, namespacePath: string): Disposable {
    const timers = new DisposableStack();
    const { ipv4, mac, interfaceName } = endpoint;
    if (ipv4 === undefined || mac === undefined) return timers;
    const send = () => this.#deps.kernel.announce({ path: namespacePath }, interfaceName, ipv4.address, mac);
    send();
    for (const delayMs of announcementsMs) timers.use(this.#deps.clock.after(delayMs, send));
    return timers;
  }

  async #bringUp(installed: Installed, dataPath: DataPath, signal: AbortSignal): Promise<void> {
    const { kernel, netnsDirectory } = this.#deps;
    const { network } = installed;
    if (!this.#isTuned) {
      await kernel.reconcile("overlay/tuning", await tuningObjects(), signal);
      this.#isTuned = true;
    }
    await kernel.reconcile(`network/${network.id}`, networkObjects(network, { netnsDirectory, dataPath }), signal);
    crashPoint("overlay.network");
    if (installed.isUp) return;
    installed.isUp = true;
    installed.programmer.start(installed.peers.keys());
    if (installed.stale === "sweepable") this.#sweepLater(installed);
  }

  /**
   * Only what this process brought up: while a restarted daemon takes over its containers one by one, an endpoint that is
   * gone may leave before one that lives has joined, and the namespace is the other one's. What is left over is swept later.
   */
  async #takeDown(installed: Installed, signal: AbortSignal): Promise<void> {
    if (!installed.isUp) return;
    const { kernel, netnsDirectory } = this.#deps;
    const { network } = installed;
    await installed.programmer.clear(signal);
    crashPoint("overlay.peer");
    // Devices before the namespace: with it they would go some time later, and until then their VNIs could not be used again.
    await kernel.reconcile(
      `network/${network.id}`,
      [{ kind: "netns", ...overlayNamespace(network, netnsDirectory) }],
      signal,
    );
    await kernel.reconcile(`network/${network.id}`, [], signal);
    installed.isUp = false;
    installed.stale = "swept";
    crashPoint("overlay.network");
  }

  #dataPath(network: Network): DataPath {
    const { dataPath } = this.#deps.swarm();
    if (dataPath !== undefined) return dataPath;
    const message = `cannot join network ${JSON.stringify(network.spec.name)}: this node has no data path address, expected to be part of a swarm`;
    throw new EngineError("unavailable", message);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed.abort(new Error("closed"));
    for (const installed of this.#installed.values()) {
      for (const timers of installed.announcing.values()) timers[Symbol.dispose]();
      installed.watch[Symbol.dispose]();
      installed.sweeping.dispose();
      await installed.programmer.stop();
    }
    this.#installed.clear();
  }
}

/** After the first. Docker's go on for two seconds (reference: network-data-plane 10.4), for want of the above. */
const announcementsMs = [20, 200];

/**
 * After the first exchange. Nodes that lost touch at the same moment as we, such as all when their manager restarts, find their
 * way back within these: the longest pause of an agent before it tries again, and of one that asks for a late sync.
 */
const sweepDelayMs = 15_000;

type DataPath = NonNullable<SwarmNetworks["dataPath"]>;

/** An encrypted network must never carry a frame in clear, so without IPsec it carries none. */
function refuseEncrypted(network: Network): void {
  if (!parseOverlayOptions(network.spec.options).encrypted) return;
  const message = `cannot join encrypted network ${JSON.stringify(network.spec.name)}: IPsec encryption (ESP, xfrm) is not available on this node`;
  throw new EngineError("unsupported", message);
}

/** Why a peer's record cannot be programmed, or undefined. */
function faultOf(subnets: readonly Subnet[], peer: OverlayPeer, family: 4 | 6 | undefined): string | undefined {
  if (subnetFor(subnets, peer.address) === undefined) return "its address is in none of the network's subnets";
  if (((macToBytes(peer.mac)[0] as number) & 1) !== 0) return "its hardware address is a group address";
  if (isUnspecified(peer.vtep) || isMulticast(peer.vtep)) return "its tunnel endpoint is no host's address";
  if (family !== undefined && familyOf(peer.vtep) !== family) return "its tunnel endpoint is of another address family";
  return undefined;
}

/**
 * An ARP question is answered from the neighbour entry, and the frames that follow go where the forwarding entry says.
 * They are separate units since they have separate keys: two addresses may share a hardware address for a while.
 */
function peerObjects(installed: Installed, key: PeerKey, netnsDirectory: string): readonly KernelObject[] {
  const ns = overlayNamespace(installed.network, netnsDirectory);
  const subnets = subnetsOf(installed.network);
  if (key.kind === "ip") {
    const address = { address: key.ip, prefix: key.prefix };
    const mac = installed.peers.macOf(address);
    const link = subnetFor(subnets, address)?.tunnel;
    return mac === undefined || link === undefined ? [] : [{ kind: "neighbour", ns, link, ip: key.ip, mac }];
  }
  const owner = installed.peers.ownerOf(key.mac);
  const link = owner === undefined ? undefined : subnetFor(subnets, owner.address)?.tunnel;
  return owner === undefined || link === undefined ? [] : [{ kind: "fdb", ns, link, mac: key.mac, vtep: owner.vtep }];
}
