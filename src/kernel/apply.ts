import { networkOf } from "../base/ip.ts";
import { errno } from "./ffi/errno.ts";
import { isNotFound, KernelError } from "./kernel.ts";
import { forgetLearned } from "./learned.ts";
import { ensureLink, findLink, removeLink } from "./links.ts";
import type { Netns, Route } from "./model.ts";
import { deleteAddress, newAddress } from "./netlink/address.ts";
import type { MessageBuilder } from "./netlink/codec.ts";
import { deleteNeighbour, type NeighbourEntry, newNeighbour } from "./netlink/neighbour.ts";
import { decodeRoute, deleteRoute, dumpRoutes, mainTable, newRoute, type RouteRequest } from "./netlink/route.ts";
import type { Namespaces } from "./netns/namespaces.ts";
import { NftApplier } from "./nftables/apply.ts";
import type { NftContexts } from "./nftables/contexts.ts";
import { type Appliers, describeNetns, describeStep, type StepOf } from "./ops.ts";
import { ensureSysctl } from "./sysctl/sysctl.ts";

/** The steps done to the real kernel. */
export function kernelAppliers(namespaces: Namespaces, contexts: NftContexts): Appliers {
  const nft = new NftApplier(namespaces, contexts);
  return {
    "netns.ensure": ({ object }) => ({ fresh: namespaces.ensure(object.path) }),
    "netns.remove": ({ object }) => {
      contexts.forget({ path: object.path });
      namespaces.remove(object.path);
      return undefined;
    },
    "link.ensure": (step, context) => ensureLink(namespaces, step, context),
    "link.remove": async (step) => {
      await removeLink(namespaces, step);
      return undefined;
    },
    "sysctl.ensure": ({ object }) => {
      ensureSysctl(namespaces.get(object.ns).fd, object.key, object.value);
      return undefined;
    },
    "address.ensure": (step) => {
      const { ns, link, address, noDad } = step.object;
      onLink(namespaces, step, { ns, link }, (index) => newAddress(index, address, noDad === true));
      return undefined;
    },
    "address.remove": (step) => {
      const { ns, link, address } = step.object;
      fromLink(namespaces, step, { ns, link }, (index) => deleteAddress(index, address));
      return undefined;
    },
    "route.ensure": (step) => {
      ensureRoute(namespaces, step);
      return undefined;
    },
    "route.remove": (step) => {
      const { ns, route } = step.object;
      fromLink(namespaces, step, { ns, link: route.link }, (index) => deleteRoute(routeRequest(route, index)));
      return undefined;
    },
    "neighbour.ensure": (step) => ensureEntry(namespaces, step),
    "neighbour.remove": (step) => removeEntry(namespaces, step),
    "fdb.ensure": (step) => ensureEntry(namespaces, step),
    "fdb.remove": (step) => {
      removeEntry(namespaces, step);
      forgetBehind(namespaces, step);
      return undefined;
    },
    "nft.apply": async (step, context) => {
      await nft.apply(step, context);
      return undefined;
    },
  };
}

type EntryStep = StepOf<"neighbour.ensure" | "neighbour.remove" | "fdb.ensure" | "fdb.remove">;

function entryOf(step: EntryStep, linkIndex: number): NeighbourEntry {
  const { object } = step;
  return object.kind === "fdb"
    ? { kind: "fdb", linkIndex, mac: object.mac, vtep: object.vtep }
    : { kind: "neighbour", linkIndex, ip: object.ip, mac: object.mac };
}

function ensureEntry(namespaces: Namespaces, step: EntryStep): undefined {
  onLink(namespaces, step, step.object, (index) => newNeighbour(entryOf(step, index)));
}

function removeEntry(namespaces: Namespaces, step: EntryStep): undefined {
  fromLink(namespaces, step, step.object, (index) => deleteNeighbour(entryOf(step, index)));
}

function forgetBehind(namespaces: Namespaces, step: StepOf<"fdb.remove">): void {
  const { ns, link, mac } = step.object;
  try {
    const namespace = namespaces.get(ns);
    const linkIndex = namespace.linkIndexes.get(link);
    // Not known after the removal: the link is gone, and what was learnt with it.
    if (linkIndex !== undefined) forgetLearned(namespace.route(), { step: describeStep(step), linkIndex, mac });
  } catch (error) {
    if (!isNotFound(error)) throw error;
  }
}

interface Place {
  readonly ns: Netns;
  readonly link: string;
}

/** Sends a request about a link. @throws {KernelError} ENODEV naming a link that is not there. */
function onLink(
  namespaces: Namespaces,
  step: Parameters<typeof describeStep>[0],
  { ns, link }: Place,
  message: (linkIndex: number) => MessageBuilder,
): void {
  const namespace = namespaces.get(ns);
  const known = namespace.linkIndexes.get(link);
  if (known !== undefined) {
    try {
      namespace.route().request(describeStep(step), message(known));
      return;
    } catch (error) {
      namespace.linkIndexes.delete(link);
      if (!isNotFound(error)) throw error;
    }
  }
  const found = findLink(namespace.route(), link);
  if (found === undefined) {
    const detail = `there is no link "${link}" in ${describeNetns(ns)}`;
    throw new KernelError(describeStep(step), errno.ENODEV, detail);
  }
  namespace.linkIndexes.set(link, found.index);
  namespace.route().request(describeStep(step), message(found.index));
}

/** The same for a removal: it is fine when the thing, its link or its namespace is gone. */
function fromLink(...args: Parameters<typeof onLink>): void {
  try {
    onLink(...args);
  } catch (error) {
    if (!isNotFound(error)) throw error;
  }
}

function routeRequest(route: Route, linkIndex: number): RouteRequest {
  return {
    destination: networkOf(route.destination),
    gateway: route.gateway,
    linkIndex,
    source: route.source,
    table: route.table ?? mainTable,
  };
}

function ensureRoute(namespaces: Namespaces, step: StepOf<"route.ensure">): void {
  const { ns, route } = step.object;
  // A namespace of ours has only routes of ours. In the host's, one through another link is somebody else's.
  let mode: "add" | "replace" = ns === "host" ? "add" : "replace";
  const place = { ns, link: route.link };
  const send = () => onLink(namespaces, step, place, (index) => newRoute(routeRequest(route, index), mode));
  try {
    send();
  } catch (error) {
    if (!(error instanceof KernelError) || error.errno !== errno.EEXIST) throw error;
    refuseStrangersRoute(namespaces, step);
    mode = "replace";
    send();
  }
}

function refuseStrangersRoute(namespaces: Namespaces, step: StepOf<"route.ensure">): void {
  const { ns, route } = step.object;
  const { family, wanted } = {
    family: route.destination.address.includes(":") ? 6 : 4,
    wanted: routeRequest(route, 0),
  } as const;
  const socket = namespaces.get(ns).route();
  const own = findLink(socket, route.link)?.index;
  for (const message of socket.dump(describeStep(step), () => dumpRoutes(family))) {
    const found = decodeRoute(message);
    const same =
      found?.table === wanted.table &&
      found.destination.address === wanted.destination.address &&
      found.destination.prefix === wanted.destination.prefix;
    if (same && found.linkIndex !== own) {
      const detail = `there is a route to ${wanted.destination.address}/${wanted.destination.prefix} already, through the link with index ${found.linkIndex}`;
      throw new KernelError(describeStep(step), errno.EEXIST, detail);
    }
  }
}
