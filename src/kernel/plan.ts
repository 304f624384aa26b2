import { familyOf } from "../base/ip.ts";
import { type KernelObject, type Link, type Netns, type NftElement, type NftTable, nsKey, objectKey } from "./model.ts";
import type { KernelStep, NftStep } from "./ops.ts";

/** An object that a unit has in the kernel, as far as we know. */
export interface Held {
  readonly object: KernelObject;
  /** False when it may be half done, or gone with something it depended on: it is ensured again. */
  readonly sure: boolean;
}

/**
 * The steps from what a unit has to what it shall have. Pure; the same input gives the same steps in the same order.
 *
 * Removal first, in reverse phase order: an address or a name moves from one owner to the next without a clash. What goes with
 * something else (a veth's addresses, everything inside a namespace) takes no steps of its own. All nftables changes of a
 * namespace are one step: at the very front when it only removes, at the end otherwise.
 *
 * @param isClaimed whether another unit has the object too: then it is not removed.
 */
export function plan(
  held: ReadonlyMap<string, Held>,
  desired: readonly KernelObject[],
  isClaimed: (key: string) => boolean,
): readonly KernelStep[] {
  const wanted = new Map(desired.map((object) => [objectKey(object), object]));
  const changes = new Changes();
  for (const [key, { object }] of held) {
    const next = wanted.get(key);
    if (next === undefined ? !isClaimed(key) : mustBeMadeAnew(object, next)) changes.remove(object);
  }
  for (const [key, object] of wanted) {
    const has = held.get(key);
    if (has === undefined || !has.sure || !sameObject(has.object, object) || changes.takesAway(object)) {
      changes.ensure(object);
    }
  }
  return changes.steps();
}

/** Gathers single removals and ensures, and puts them in order. */
class Changes {
  readonly #removed: KernelObject[] = [];
  readonly #ensured: KernelObject[] = [];
  readonly #goneNamespaces = new Set<string>();
  readonly #goneLinks = new Set<string>();

  remove(object: KernelObject): void {
    this.#removed.push(object);
    if (object.kind === "netns") this.#goneNamespaces.add(object.path);
    if (object.kind === "link") for (const key of linkKeys(object.ns, object.link)) this.#goneLinks.add(key);
  }

  ensure(object: KernelObject): void {
    this.#ensured.push(object);
  }

  /** Whether a removal gathered so far makes the object go too, without a step of its own. */
  takesAway(object: KernelObject): boolean {
    switch (object.kind) {
      case "netns":
        return false;
      // The kernel clears a namespace later, once nobody is left inside. What others would trip over until then is removed by name:
      // a vxlan that holds a VNI, and (it is not inside) a veth's end elsewhere.
      case "link":
        return this.#inGoneNamespace(object.ns) && object.link.type !== "vxlan";
      case "address":
      case "neighbour":
      case "fdb":
        return this.#inGoneNamespace(object.ns) || this.#goneLinks.has(linkKey(object.ns, object.link));
      case "route":
        return this.#inGoneNamespace(object.ns) || this.#goneLinks.has(linkKey(object.ns, object.route.link));
      case "sysctl": {
        const link = linkOfSysctl(object.key);
        return (
          this.#inGoneNamespace(object.ns) || (link !== undefined && this.#goneLinks.has(linkKey(object.ns, link)))
        );
      }
      case "nft-table":
      case "nft-element":
        return this.#inGoneNamespace(object.ns);
    }
  }

  steps(): readonly KernelStep[] {
    const removed = this.#removed.filter((object) => !this.takesAway(object));
    const nft = nftSteps(removed, this.#ensured);
    return [
      ...nft.filter((step) => !ensuresSomething(step)),
      ...inPhaseOrder(removed).reverse().flatMap(removal),
      ...inPhaseOrder(this.#ensured).flatMap(ensuring),
      ...nft.filter(ensuresSomething),
    ];
  }

  #inGoneNamespace(ns: Netns): boolean {
    return ns !== "host" && this.#goneNamespaces.has(ns.path);
  }
}

function removal(object: KernelObject): readonly KernelStep[] {
  switch (object.kind) {
    case "netns":
      return [{ kind: "netns.remove", object }];
    case "link":
      return object.link.type === "loopback" ? [] : [{ kind: "link.remove", object }];
    case "address":
      return [{ kind: "address.remove", object }];
    case "route":
      return [{ kind: "route.remove", object }];
    case "neighbour":
      return [{ kind: "neighbour.remove", object }];
    case "fdb":
      return [{ kind: "fdb.remove", object }];
    // Nobody remembers what the value was before, and other units may count on it.
    case "sysctl":
      return [];
    case "nft-table":
    case "nft-element":
      return [];
  }
}

function ensuring(object: KernelObject): readonly KernelStep[] {
  switch (object.kind) {
    case "netns":
      return [{ kind: "netns.ensure", object }];
    case "link":
      return [{ kind: "link.ensure", object }];
    case "address":
      return [{ kind: "address.ensure", object }];
    case "route":
      return [{ kind: "route.ensure", object }];
    case "neighbour":
      return [{ kind: "neighbour.ensure", object }];
    case "fdb":
      return [{ kind: "fdb.ensure", object }];
    case "sysctl":
      return [{ kind: "sysctl.ensure", object }];
    case "nft-table":
    case "nft-element":
      return [];
  }
}

function nftSteps(removed: readonly KernelObject[], ensured: readonly KernelObject[]): readonly NftStep[] {
  interface Draft {
    readonly ns: Netns;
    readonly removeElements: NftElement[];
    readonly removeTables: NftTable[];
    readonly ensureTables: NftTable[];
    readonly ensureElements: NftElement[];
  }
  const drafts = new Map<string, Draft>();
  const draft = (ns: Netns): Draft => {
    const key = nsKey(ns);
    const found = drafts.get(key);
    if (found !== undefined) return found;
    const made: Draft = { ns, removeElements: [], removeTables: [], ensureTables: [], ensureElements: [] };
    drafts.set(key, made);
    return made;
  };
  for (const object of removed) {
    if (object.kind === "nft-table") draft(object.ns).removeTables.push(object.table);
  }
  for (const object of removed) {
    if (object.kind !== "nft-element") continue;
    const { ns, element } = object;
    // Elements of a table that goes need no mention.
    const gone = draft(ns).removeTables.some(
      (table) => table.family === element.family && table.name === element.table,
    );
    if (!gone) draft(ns).removeElements.push(element);
  }
  for (const object of ensured) {
    if (object.kind === "nft-table") draft(object.ns).ensureTables.push(object.table);
    if (object.kind === "nft-element") draft(object.ns).ensureElements.push(object.element);
  }
  return [...drafts.values()]
    .filter((step) => step.removeElements.length + step.removeTables.length > 0 || ensuresSomething(step))
    .toSorted((a, b) => compareText(nsKey(a.ns), nsKey(b.ns)))
    .map((step) => ({ kind: "nft.apply", ...step }));
}

function ensuresSomething(step: Pick<NftStep, "ensureTables" | "ensureElements">): boolean {
  return step.ensureTables.length + step.ensureElements.length > 0;
}

/** Whether only a new object can look like `next`; everything else is changed in place. */
export function mustBeMadeAnew(object: KernelObject, next: KernelObject): boolean {
  if (object.kind === "nft-element" && next.kind === "nft-element") return object.element.value !== next.element.value;
  if (object.kind !== "link" || next.kind !== "link") return false;
  const [a, b] = [object.link, next.link];
  if (a.type !== b.type) return true;
  if (a.type === "veth" && b.type === "veth") {
    return nsKey(a.peer.ns) !== nsKey(b.peer.ns) || a.peer.name !== b.peer.name;
  }
  if (a.type === "vxlan" && b.type === "vxlan") {
    return (
      a.vni !== b.vni || a.portHostOrder !== b.portHostOrder || a.outerFamily !== b.outerFamily || a.local !== b.local
    );
  }
  return false;
}

function sameObject(a: KernelObject, b: KernelObject): boolean {
  return a === b || canonical(a) === canonical(b);
}

/** Independent of the order in which the properties were written; undefined ones do not count. */
function canonical(value: unknown): string {
  return JSON.stringify(value, (_, part: unknown) =>
    part !== null && typeof part === "object" && !Array.isArray(part)
      ? Object.fromEntries(Object.entries(part).toSorted(([x], [y]) => compareText(x, y)))
      : part,
  );
}

/** Order of ensuring; removal goes the other way. */
function phaseOf(object: KernelObject): number {
  switch (object.kind) {
    case "netns":
      return 0;
    // Those of `all` and `default` decide how links are born; a link's own can only be set once it is there.
    case "sysctl":
      return linkOfSysctl(object.key) === undefined ? 1 : 3;
    case "link":
      return 2;
    case "address":
      return 4;
    case "route":
      return 5;
    case "neighbour":
    case "fdb":
      return 6;
    case "nft-table":
      return 7;
    case "nft-element":
      return 8;
  }
}

/** Within a phase: bridges before their ports, routes to gateways after the routes that reach them. */
function rankOf(object: KernelObject): number {
  if (object.kind === "link") return linkRank(object.link);
  if (object.kind === "route") return object.route.gateway === undefined ? 0 : 1;
  if (object.kind === "address") return familyOf(object.address.address);
  return 0;
}

function linkRank(link: Link): number {
  switch (link.type) {
    case "loopback":
      return 0;
    case "bridge":
      return 1;
    case "dummy":
      return 2;
    case "vxlan":
      return 3;
    case "veth":
      return 4;
  }
}

/** By phase, rank, then name, so that the same objects always give the same order. */
function inPhaseOrder(objects: readonly KernelObject[]): KernelObject[] {
  return objects
    .map((object) => ({ object, phase: phaseOf(object), rank: rankOf(object), key: objectKey(object) }))
    .sort((a, b) => a.phase - b.phase || a.rank - b.rank || compareText(a.key, b.key))
    .map(({ object }) => object);
}

/** By code unit, the same everywhere. */
export function compareText(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

/** The link that a key such as `net.ipv4.conf.eth0.rp_filter` is about. */
export function linkOfSysctl(key: string): string | undefined {
  const parts = key.includes("/") ? key.split("/") : key.split(".");
  if (parts[0] !== "net" || (parts[2] !== "conf" && parts[2] !== "neigh")) return undefined;
  const link = parts.slice(3, -1).join(".");
  return link === "" || link === "all" || link === "default" ? undefined : link;
}

export function linkKey(ns: Netns, name: string): string {
  return `${nsKey(ns)} ${name}`;
}

/** A link under its own name, and a veth under its other end's too. */
export function linkKeys(ns: Netns, link: Link): readonly string[] {
  if (link.type === "loopback") return [];
  const own = linkKey(ns, link.name);
  return link.type === "veth" ? [own, linkKey(link.peer.ns, link.peer.name)] : [own];
}
