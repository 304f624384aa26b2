import { readFile } from "node:fs/promises";
import type { IpAddress, MacAddress } from "../base/ip.ts";
import type { Log } from "../base/log.ts";
import { kernelAppliers } from "./apply.ts";
import { type ConntrackMatch, flushConnections } from "./conntrack/flush.ts";
import { LowDescriptors } from "./ffi/descriptors.ts";
import { inNamespace, ownNamespaceFd } from "./ffi/namespace.ts";
import { type Kernel, KernelError, type LinkInfo, type RouteInfo } from "./kernel.ts";
import { findLink } from "./links.ts";
import type { KernelObject, Netns } from "./model.ts";
import { watchLinkChanges } from "./netlink/watcher.ts";
import { Namespaces } from "./netns/namespaces.ts";
import { lowDescriptorsNeeded, NftContexts } from "./nftables/contexts.ts";
import { type ForeignChains, openForeignChains } from "./nftables/foreign.ts";
import { observeLinks, observeRoutes } from "./observe.ts";
import { Reconciler } from "./reconciler.ts";
import { openBoundSocket, openUnboundSocket, type SocketRequest } from "./sockets.ts";
import { sweep, sweepPeers } from "./sweep.ts";

/** The kernel of this machine, seen from the network namespace this process was started in. */
export async function openKernel(
  options: { readonly log: Log },
  signal: AbortSignal,
): Promise<HostKernel & AsyncDisposable> {
  signal.throwIfAborted();
  // libuv starts all threads of its pool at the first use, and they stay in the namespace of that moment for ever: they must be
  // there before the main thread enters another one.
  await readFile("/proc/self/stat");
  ownNamespaceFd();
  return new LinuxKernel(options.log, LowDescriptors.reserve(lowDescriptorsNeeded));
}

/** What a kernel of this machine has besides: others' firewalls. */
export interface HostKernel extends Kernel {
  readonly foreignChains: ForeignChains;
}

class LinuxKernel implements HostKernel, AsyncDisposable {
  readonly foreignChains: ForeignChains;
  readonly #log: Log;
  readonly #namespaces = new Namespaces();
  readonly #low: LowDescriptors;
  readonly #nft: NftContexts;
  readonly #units: Reconciler;

  constructor(log: Log, low: LowDescriptors) {
    this.#log = log;
    this.#low = low;
    this.#nft = new NftContexts(this.#namespaces, low);
    this.foreignChains = openForeignChains(this.#nft, (body) => this.#inside("host", body));
    this.#units = new Reconciler(kernelAppliers(this.#namespaces, this.#nft));
  }

  reconcile(unit: string, desired: readonly KernelObject[], signal: AbortSignal): Promise<void> {
    return this.#units.reconcile(unit, desired, signal);
  }

  sweep(namespaceDirectory: string, signal: AbortSignal): Promise<readonly KernelObject[]> {
    return sweep({ namespaces: this.#namespaces, nft: this.#nft, units: this.#units }, namespaceDirectory, signal);
  }

  async sweepPeers(ns: Netns, signal: AbortSignal): Promise<readonly KernelObject[]> {
    signal.throwIfAborted();
    return sweepPeers({ namespaces: this.#namespaces, nft: this.#nft, units: this.#units }, ns);
  }

  links(ns: Netns): readonly LinkInfo[] {
    return observeLinks(this.#namespaces.get(ns).route());
  }

  routes(ns: Netns): readonly RouteInfo[] {
    return observeRoutes(this.#namespaces.get(ns).route());
  }

  watchLinks(ns: Netns, listener: () => void): Disposable {
    return this.#inside(ns, () => watchLinkChanges(listener));
  }

  openSocket(ns: Netns, socket: SocketRequest): number {
    return this.#inside(ns, () => openBoundSocket(socket));
  }

  openUnbound(ns: Netns, type: "udp4" | "udp6" | "tcp4" | "tcp6"): number {
    return this.#inside(ns, () => openUnboundSocket(type));
  }

  flushConntrack(ns: Netns, match: ConntrackMatch): number {
    return flushConnections(this.#namespaces.get(ns).netfilter(), match);
  }

  announce(ns: Netns, link: string, ip: IpAddress, mac: MacAddress): void {
    try {
      const namespace = this.#namespaces.get(ns);
      const found = findLink(namespace.route(), link);
      if (found !== undefined) namespace.announcer().send(found.index, ip, mac);
    } catch (error) {
      if (!(error instanceof KernelError)) throw error;
      this.#log.debug("an announcement was not sent", { link, ip, error });
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#nft[Symbol.asyncDispose]();
    this.#low[Symbol.dispose]();
    await this.#namespaces[Symbol.asyncDispose]();
  }

  #inside<T>(ns: Netns, body: () => T): T {
    return inNamespace(this.#namespaces.get(ns).fd, body);
  }
}
