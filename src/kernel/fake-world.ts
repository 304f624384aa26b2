import { type Cidr, contains, type MacAddress, networkOf, parseCidr } from "../base/ip.ts";
import { errno } from "./ffi/errno.ts";
import { KernelError, type LinkInfo, type RouteInfo } from "./kernel.ts";
import { type KernelObject, type Link, type Netns, nsKey, type Route } from "./model.ts";
import { tableId } from "./nftables/script.ts";
import { describeNetns } from "./ops.ts";

export interface FakeLink {
  readonly index: number;
  readonly link: Link;
  readonly name: string;
  readonly mtuBytes: number;
  readonly mac: MacAddress | undefined;
  readonly master: string | undefined;
  readonly up: boolean;
  /** Undefined: a stranger's, or the end of a veth that lies inside a container. */
  readonly unit: string | undefined;
  /** The other end of a veth. */
  readonly other: { readonly ns: Netns; readonly name: string } | undefined;
}

export interface FakeTable {
  readonly body: string;
  /** By set and key. */
  readonly elements: Map<string, { readonly set: string; readonly key: string; readonly value: string | undefined }>;
}

export interface FakeNamespace {
  readonly ns: Netns;
  readonly links: Map<string, FakeLink>;
  readonly addresses: Map<string, { readonly link: string; readonly address: Cidr }>;
  readonly routes: Map<string, Route>;
  readonly neighbours: Map<string, Extract<KernelObject, { readonly kind: "neighbour" | "fdb" }>>;
  readonly sysctls: Map<string, string>;
  readonly tables: Map<string, FakeTable>;
}

/** What the fake kernel holds: namespaces by key, and the rules by which things vanish with each other. */
export class FakeWorld {
  readonly namespaces = new Map<string, FakeNamespace>();
  readonly #changed: (ns: Netns) => void;
  #nextIndex = 2;

  constructor(changed: (ns: Netns) => void) {
    this.#changed = changed;
    this.addNamespace("host");
  }

  addNamespace(ns: Netns): FakeNamespace {
    const made: FakeNamespace = {
      ns,
      links: new Map(),
      addresses: new Map(),
      routes: new Map(),
      neighbours: new Map(),
      sysctls: new Map(),
      tables: new Map(),
    };
    this.namespaces.set(nsKey(ns), made);
    const loopback = { index: 1, link: { type: "loopback" }, name: "lo", mtuBytes: 65536, up: false } as const;
    made.links.set("lo", { ...loopback, mac: undefined, master: undefined, unit: undefined, other: undefined });
    return made;
  }

  removeNamespace(path: string): void {
    const found = this.namespaces.get(path);
    if (found === undefined) return;
    for (const name of [...found.links.keys()]) this.removeLink({ path }, name);
    this.namespaces.delete(path);
  }

  /** @throws {KernelError} ENOENT */
  get(ns: Netns): FakeNamespace {
    const found = this.namespaces.get(nsKey(ns));
    if (found !== undefined) return found;
    const detail = `there is no network namespace at "${describeNetns(ns)}"`;
    throw new KernelError("open network namespace", errno.ENOENT, detail);
  }

  /** @throws {KernelError} ENODEV */
  linkOf(step: string, ns: Netns, name: string): FakeLink {
    const found = this.get(ns).links.get(name);
    if (found === undefined) {
      throw new KernelError(step, errno.ENODEV, `there is no link "${name}" in ${describeNetns(ns)}`);
    }
    return found;
  }

  putLink(ns: Netns, link: Omit<FakeLink, "index">): void {
    const { links } = this.get(ns);
    const index = links.get(link.name)?.index ?? this.#nextIndex++;
    links.set(link.name, { ...link, index });
    this.#changed(ns);
  }

  /** With its addresses, routes and neighbours, and the other end of a pair; ports of a bridge become free. */
  removeLink(ns: Netns, name: string): void {
    const space = this.namespaces.get(nsKey(ns));
    const found = space?.links.get(name);
    if (space === undefined || found === undefined) return;
    space.links.delete(name);
    for (const map of [space.addresses, space.neighbours]) {
      for (const [key, { link }] of map) if (link === name) map.delete(key);
    }
    for (const [key, { link }] of space.routes) if (link === name) space.routes.delete(key);
    for (const port of space.links.values()) {
      if (port.master === name) space.links.set(port.name, { ...port, master: undefined });
    }
    this.#changed(ns);
    if (found.other !== undefined) this.removeLink(found.other.ns, found.other.name);
  }

  touched(ns: Netns): void {
    this.#changed(ns);
  }

  linkInfos(ns: Netns): readonly LinkInfo[] {
    const { links, addresses } = this.get(ns);
    return [...links.values()].map((one) => ({
      index: one.index,
      name: one.name,
      type: one.link.type === "loopback" ? undefined : one.link.type,
      up: one.up,
      mtuBytes: one.mtuBytes,
      mac: one.mac,
      master: one.master === undefined ? undefined : links.get(one.master)?.index,
      unit: one.unit,
      addresses: [
        ...(one.name === "lo" && one.up ? [parseCidr("127.0.0.1/8"), parseCidr("::1/128")] : []),
        ...[...addresses.values()].filter(({ link }) => link === one.name).map(({ address }) => address),
      ],
      vni: one.link.type === "vxlan" ? one.link.vni : undefined,
    }));
  }

  /** Those asked for, and the ones that come with addresses. */
  routeInfos(ns: Netns): readonly RouteInfo[] {
    const { routes, addresses } = this.get(ns);
    const connected = [...addresses.values()].map(({ link, address }) => ({
      destination: networkOf(address),
      gateway: undefined,
      link,
    }));
    const asked = [...routes.values()]
      .filter(({ table }) => (table ?? 254) === 254)
      .map(({ destination, gateway, link }) => ({ destination, gateway, link }));
    return [...connected, ...asked];
  }

  canReach(ns: Netns, gateway: Cidr["address"]): boolean {
    return this.routeInfos(ns).some((route) => route.gateway === undefined && contains(route.destination, gateway));
  }

  /** @throws {KernelError} ENOENT */
  table(step: string, ns: Netns, table: Parameters<typeof tableId>[0]): FakeTable {
    const found = this.get(ns).tables.get(tableId(table));
    if (found === undefined) throw new KernelError(step, errno.ENOENT, `there is no table ${tableId(table)}`);
    return found;
  }
}

/** Whether a table's text declares the set or map. */
export function declaresSet(body: string, set: string): boolean {
  return [...body.matchAll(/\b(?:set|map)\s+(\S+)\s*\{/g)].some(([, name]) => name === set);
}

export type LinkObject = Extract<KernelObject, { readonly kind: "link" }>;
