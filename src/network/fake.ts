import { openSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { systemClock } from "../base/clock.ts";
import { silentLog } from "../base/log.ts";
import { seededRandom } from "../base/random.ts";
import { type Kernel, openFakeKernel } from "../kernel/mod.ts";
import { aesSeal, MemoryStore, type Store } from "../store/mod.ts";
import { defaultNetworksConfig, type NetworksConfig } from "./config.ts";
import type { Networks, PeerTable, SwarmNetworks } from "./networks.ts";
import { openNetworks } from "./open.ts";

export interface FakeNetworksOptions {
  /** Given again, it is the same host after a restart. */
  readonly store?: Store;
  readonly kernel?: Kernel;
  readonly config?: Partial<NetworksConfig>;
  readonly swarm?: () => SwarmNetworks;
  readonly peerTable?: () => PeerTable | undefined;
}

/** A node outside any swarm. */
export const noSwarm: SwarmNetworks = {
  role: "none",
  dataPath: undefined,
  list: () => [],
  create: () => Promise.reject(new Error("not in a swarm")),
  remove: () => Promise.reject(new Error("not in a swarm")),
  attach: () => Promise.reject(new Error("not in a swarm")),
  detach: () => Promise.resolve(),
};

/**
 * The real service on a kernel, a store and a resolver that are not: faithful, since everything that decides is the real code.
 * Only the files of a sandbox are written, where its request says.
 */
export async function openFakeNetworks(options: FakeNetworksOptions, signal: AbortSignal): Promise<Networks> {
  const execRoot = await mkdtemp(join(tmpdir(), "weft-fake-networks-"));
  const networks = await openNetworks(
    {
      kernel: withSockets(options.kernel ?? openFakeKernel()),
      store: options.store ?? new MemoryStore(),
      seal: aesSeal(new Uint8Array(32)),
      clock: systemClock,
      random: seededRandom(1),
      log: silentLog,
      execRoot,
      config: { ...defaultNetworksConfig, ...options.config },
      swarm: options.swarm ?? (() => noSwarm),
      peerTable: options.peerTable ?? (() => undefined),
      hasIpv6: false,
      forwardRule: async () => {},
      openDns: async () => ({ udpPort: 40053, tcpPort: 40054, [Symbol.asyncDispose]: async () => {} }),
    },
    signal,
  );
  const dispose = networks[Symbol.asyncDispose].bind(networks);
  return Object.assign(networks, {
    async [Symbol.asyncDispose]() {
      await dispose();
      await rm(execRoot, { recursive: true, force: true });
    },
  });
}

/** Host ports are held by descriptors that hold nothing: who has which is this room's own account. */
function withSockets(kernel: Kernel): Kernel {
  return {
    reconcile: (unit, desired, signal) => kernel.reconcile(unit, desired, signal),
    sweep: (directory, signal) => kernel.sweep(directory, signal),
    sweepPeers: (ns, signal) => kernel.sweepPeers(ns, signal),
    links: (ns) => kernel.links(ns),
    routes: (ns) => kernel.routes(ns),
    watchLinks: (ns, listener) => kernel.watchLinks(ns, listener),
    openSocket: () => openSync("/dev/null", "r"),
    openUnbound: () => openSync("/dev/null", "r"),
    flushConntrack: () => 0,
    announce: (ns, link, ip, mac) => kernel.announce(ns, link, ip, mac),
  };
}
