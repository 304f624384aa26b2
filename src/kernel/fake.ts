import { Hub } from "../base/async.ts";
import type { IpAddress, MacAddress } from "../base/ip.ts";
import { fakeAppliers } from "./fake-apply.ts";
import { type FakeNamespace, FakeWorld } from "./fake-world.ts";
import { errno } from "./ffi/errno.ts";
import { type Kernel, KernelError, type LinkInfo, type RouteInfo } from "./kernel.ts";
import { type KernelObject, type Netns, nsKey, objectKey } from "./model.ts";
import { elementId, type tableId } from "./nftables/script.ts";
import { compareText } from "./plan.ts";
import { Reconciler } from "./reconciler.ts";

/** A kernel in memory, for tests and simulations, with questions that a real one is asked by other means. */
export interface FakeKernel extends Kernel, AsyncDisposable {
  /** `key` or `key : value` of a set's or map's elements, in order. @throws {KernelError} ENOENT */
  elements(ns: Netns, table: { readonly family: string; readonly name: string }, set: string): readonly string[];
  sysctl(ns: Netns, key: string): string | undefined;
  /** `ip mac` of neighbours and `mac vtep` of forwarding entries on a link, in order. */
  neighbours(ns: Netns, link: string): readonly string[];
  namespaces(): readonly string[];
  tables(ns: Netns): readonly string[];
  /** A link that somebody else made: never ours to touch. */
  addStrangersLink(ns: Netns, name: string): void;
  /** The same world seen by a process that has just started and holds nothing yet. */
  restart(): FakeKernel;
  /** What was announced, in order: `link ip mac`. */
  readonly announced: readonly string[];
}

/** Nothing but an empty host. Sockets are refused (EOPNOTSUPP): there are no packets in here. */
export function openFakeKernel(): FakeKernel {
  const listeners = new Map<string, Hub<void>>();
  const world = new FakeWorld((ns) => {
    const hub = listeners.get(nsKey(ns));
    if (hub !== undefined) setImmediate(() => hub.emit());
  });
  return new InMemoryKernel(world, listeners);
}

class InMemoryKernel implements FakeKernel {
  readonly #listeners: Map<string, Hub<void>>;
  readonly #world: FakeWorld;
  readonly #units: Reconciler;
  readonly #announced: string[] = [];

  constructor(world: FakeWorld, listeners: Map<string, Hub<void>>) {
    this.#world = world;
    this.#listeners = listeners;
    this.#units = new Reconciler(fakeAppliers(world));
  }

  restart(): FakeKernel {
    return new InMemoryKernel(this.#world, this.#listeners);
  }

  reconcile(unit: string, desired: readonly KernelObject[], signal: AbortSignal): Promise<void> {
    return this.#units.reconcile(unit, desired, signal);
  }

  async sweep(namespaceDirectory: string, signal: AbortSignal): Promise<readonly KernelObject[]> {
    signal.throwIfAborted();
    const removed: KernelObject[] = [];
    const isClaimed = (object: KernelObject) => this.#units.isClaimed(objectKey(object));
    for (const { ns } of [...this.#world.namespaces.values()]) {
      if (ns === "host" || !ns.path.startsWith(`${namespaceDirectory}/`)) continue;
      const object: KernelObject = { kind: "netns", path: ns.path };
      if (isClaimed(object)) continue;
      this.#world.removeNamespace(ns.path);
      removed.push(object);
    }
    for (const space of this.#world.namespaces.values()) {
      for (const { link, name, unit } of [...space.links.values()]) {
        const object: KernelObject = { kind: "link", ns: space.ns, link };
        if (unit === undefined || isClaimed(object)) continue;
        this.#world.removeLink(space.ns, name);
        removed.push(object);
      }
      removed.push(...this.#sweepLinkState(space, isClaimed), ...this.#sweepTables(space.ns, isClaimed));
    }
    return removed;
  }

  async sweepPeers(ns: Netns, signal: AbortSignal): Promise<readonly KernelObject[]> {
    signal.throwIfAborted();
    const { links, neighbours } = this.#world.get(ns);
    const removed: KernelObject[] = [];
    for (const [key, object] of [...neighbours]) {
      const found = links.get(object.link);
      if (found?.unit === undefined || found.link.type !== "vxlan" || this.#units.isClaimed(key)) continue;
      neighbours.delete(key);
      removed.push(object);
    }
    return removed;
  }

  links(ns: Netns): readonly LinkInfo[] {
    return this.#world.linkInfos(ns);
  }

  routes(ns: Netns): readonly RouteInfo[] {
    return this.#world.routeInfos(ns);
  }

  watchLinks(ns: Netns, listener: () => void): Disposable {
    this.#world.get(ns);
    const hub = this.#listeners.get(nsKey(ns)) ?? new Hub<void>();
    this.#listeners.set(nsKey(ns), hub);
    return hub.listen(listener);
  }

  openSocket(ns: Netns): number {
    return this.#refuseSocket(ns);
  }

  openUnbound(ns: Netns): number {
    return this.#refuseSocket(ns);
  }

  flushConntrack(ns: Netns): number {
    this.#world.get(ns);
    return 0;
  }

  announce(ns: Netns, link: string, ip: IpAddress, mac: MacAddress): void {
    if (this.#world.namespaces.get(nsKey(ns))?.links.has(link)) this.#announced.push(`${link} ${ip} ${mac}`);
  }

  get announced(): readonly string[] {
    return this.#announced;
  }

  elements(ns: Netns, table: { readonly family: string; readonly name: string }, set: string): readonly string[] {
    const { elements } = this.#world.table("list elements", ns, table as Parameters<typeof tableId>[0]);
    return [...elements.values()]
      .filter((element) => element.set === set)
      .map(({ key, value }) => (value === undefined ? key : `${key} : ${value}`))
      .sort(compareText);
  }

  sysctl(ns: Netns, key: string): string | undefined {
    return this.#world.get(ns).sysctls.get(key);
  }

  neighbours(ns: Netns, link: string): readonly string[] {
    return [...this.#world.get(ns).neighbours.values()]
      .filter((entry) => entry.link === link)
      .map((entry) => (entry.kind === "fdb" ? `${entry.mac} ${entry.vtep}` : `${entry.ip} ${entry.mac}`))
      .sort(compareText);
  }

  namespaces(): readonly string[] {
    return [...this.#world.namespaces.keys()].filter((key) => key !== "host").sort(compareText);
  }

  tables(ns: Netns): readonly string[] {
    return [...this.#world.get(ns).tables.keys()].sort(compareText);
  }

  addStrangersLink(ns: Netns, name: string): void {
    const link = { type: "dummy", name, mtuBytes: 1500 } as const;
    this.#world.putLink(ns, {
      ...link,
      link,
      mac: undefined,
      master: undefined,
      up: true,
      unit: undefined,
      other: undefined,
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#listeners.clear();
  }

  #sweepLinkState(
    { ns, links, addresses, routes }: FakeNamespace,
    isClaimed: (object: KernelObject) => boolean,
  ): readonly KernelObject[] {
    const removed: KernelObject[] = [];
    for (const [key, { link, address }] of [...addresses]) {
      const object: KernelObject = { kind: "address", ns, link, address };
      if (links.get(link)?.unit === undefined || isClaimed(object)) continue;
      addresses.delete(key);
      removed.push(object);
    }
    for (const [key, route] of [...routes]) {
      if (links.get(route.link)?.unit === undefined || this.#units.isClaimed(key)) continue;
      routes.delete(key);
      removed.push({ kind: "route", ns, route });
    }
    return removed;
  }

  #sweepTables(ns: Netns, isClaimed: (object: KernelObject) => boolean): readonly KernelObject[] {
    const removed: KernelObject[] = [];
    const { tables } = this.#world.get(ns);
    for (const [id, { body, elements }] of [...tables]) {
      const [family, name] = id.split(" ") as ["ip", string];
      if (!isClaimed({ kind: "nft-table", ns, table: { family, name, body } })) {
        tables.delete(id);
        removed.push({ kind: "nft-table", ns, table: { family, name, body } });
        continue;
      }
      const claimed = new Set(this.#units.elementsOf(ns, { family, name }).map(elementId));
      for (const [key, element] of [...elements]) {
        if (claimed.has(key)) continue;
        elements.delete(key);
        const { set, value } = element;
        const stray = { family, table: name, set, key: element.key };
        removed.push({ kind: "nft-element", ns, element: value === undefined ? stray : { ...stray, value } });
      }
    }
    return removed;
  }

  #refuseSocket(ns: Netns): never {
    this.#world.get(ns);
    throw new KernelError("open socket", errno.EOPNOTSUPP, "the fake kernel has no sockets");
  }
}
