import type { Cidr, IpAddress, MacAddress } from "../base/ip.ts";
import type { KernelObject, Netns } from "./model.ts";

/** The narrow door to the kernel. Real: open.ts; in memory: fake.ts; one contract suite runs against both. */
export interface Kernel {
  /**
   * Brings the objects of `unit` to exactly `desired`: what is missing or different is ensured in phase order, what this
   * unit had and does not want any more is removed, before that, in reverse order. Costs what changed, not what exists. Idempotent.
   * Calls for one unit are serialised; different units run side by side.
   *
   * @throws {KernelError} with the errno, the step and the kernel's own words; what was done before it stays done.
   */
  reconcile(unit: string, desired: readonly KernelObject[], signal: AbortSignal): Promise<void>;

  /**
   * At start, after every living unit was reconciled once: removes marked links, addresses and routes on them, our namespaces
   * under the given directory, and elements and tables of ours (`weft…`) that no unit claims (left by a process that died).
   * Sets that fill themselves from packets (dynamic, timeout) are left alone, and so are the peers behind tunnels, since those who
   * claim them may have to hear of them first. Returns what it removed.
   */
  sweep(namespaceDirectory: string, signal: AbortSignal): Promise<readonly KernelObject[]>;
  /** The rest of it, for one namespace: neighbours and forwarding entries on marked vxlan devices that no unit claims. */
  sweepPeers(ns: Netns, signal: AbortSignal): Promise<readonly KernelObject[]>;

  /** Links of a namespace, a fresh look. */
  links(ns: Netns): readonly LinkInfo[];
  /** Unicast routes of the main table. */
  routes(ns: Netns): readonly RouteInfo[];
  /** Calls `listener` (on a later tick) whenever links or addresses of the namespace changed. Level-triggered: look again. */
  watchLinks(ns: Netns, listener: () => void): Disposable;
  /**
   * Opens sockets inside a namespace. UDP is bound, TCP is bound and listening; the file descriptor is given to `dgram` or
   * `net`, which own it from then on. Non-blocking, close-on-exec.
   * @throws {KernelError} EADDRINUSE, EADDRNOTAVAIL, …
   */
  openSocket(
    ns: Netns,
    socket: { readonly type: "udp" | "tcp"; readonly address: IpAddress; readonly portHostOrder: number },
  ): number;
  /** An unconnected, unbound socket inside a namespace. */
  openUnbound(ns: Netns, type: "udp4" | "udp6" | "tcp4" | "tcp6"): number;
  /** Deletes connection-tracking entries towards `ip`:`port` (all ports when undefined). Returns how many. */
  flushConntrack(
    ns: Netns,
    match: {
      readonly protocol: "tcp" | "udp";
      readonly originalDestinationPort?: number;
      readonly replySource?: IpAddress;
    },
  ): number;
  /** Sends one gratuitous ARP (IPv4) or unsolicited neighbour advertisement (IPv6) from a link. Best effort. */
  announce(ns: Netns, link: string, ip: IpAddress, mac: MacAddress): void;
}

export interface LinkInfo {
  readonly index: number;
  readonly name: string;
  /** `veth`, `bridge`, `vxlan`, …; undefined for physical devices. */
  readonly type: string | undefined;
  readonly up: boolean;
  readonly mtuBytes: number;
  readonly mac: MacAddress | undefined;
  readonly master: number | undefined;
  /** Unit named in our mark, when the link is ours. */
  readonly unit: string | undefined;
  readonly addresses: readonly Cidr[];
  /** VNI of a vxlan device. */
  readonly vni: number | undefined;
}

export interface RouteInfo {
  readonly destination: Cidr;
  readonly gateway: IpAddress | undefined;
  readonly link: string;
}

/** A refusal by the kernel. Ask by meaning (`isExists`, `isNotFound`, `isBusy`), not by number. */
export class KernelError extends Error {
  readonly errno: number;
  readonly step: string;

  constructor(step: string, errno: number, detail: string) {
    super(`${step}: ${detail}`);
    this.name = "KernelError";
    this.step = step;
    this.errno = errno;
  }
}

const hasErrno = (error: unknown, ...numbers: number[]) =>
  error instanceof KernelError && numbers.includes(error.errno);
export const isExists = (error: unknown): boolean => hasErrno(error, 17);
/** ENOENT, ESRCH, ENODEV, EADDRNOTAVAIL. */
export const isNotFound = (error: unknown): boolean => hasErrno(error, 2, 3, 19, 99);
/** EBUSY, EADDRINUSE. */
export const isBusy = (error: unknown): boolean => hasErrno(error, 16, 98);
