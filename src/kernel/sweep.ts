import { isLinkLocal, networkOf, tryParseMac } from "../base/ip.ts";
import { isNotFound } from "./kernel.ts";
import { forgetLearned } from "./learned.ts";
import { allLinks } from "./links.ts";
import { type KernelObject, type Netns, type NftElement, type NftTable, objectKey } from "./model.ts";
import { decodeAddress, deleteAddress, dumpAddresses } from "./netlink/address.ts";
import type { MessageBuilder } from "./netlink/codec.ts";
import { deleteLink, isOurs, type LinkRecord } from "./netlink/link.ts";
import { decodeNeighbour, deleteNeighbour, dumpNeighbours } from "./netlink/neighbour.ts";
import { decodeRoute, deleteRoute, dumpRoutes } from "./netlink/route.ts";
import { isNamespaceFile, type Namespaces, namespaceFiles } from "./netns/namespaces.ts";
import type { NftContexts } from "./nftables/contexts.ts";
import { elementsInListing } from "./nftables/listing.ts";
import { elementId, tableId, transaction } from "./nftables/script.ts";
import type { Reconciler } from "./reconciler.ts";

interface World {
  readonly namespaces: Namespaces;
  readonly nft: NftContexts;
  readonly units: Reconciler;
}

/** Tables of ours are called this or something longer. */
const tablePrefix = "weft";

/** Removes what no unit claims: namespaces first, since links and tables go with them. */
export async function sweep(world: World, directory: string, signal: AbortSignal): Promise<readonly KernelObject[]> {
  const removed: KernelObject[] = [];
  const kept: Netns[] = ["host"];
  for (const path of namespaceFiles(directory)) {
    if (world.units.isClaimed(objectKey({ kind: "netns", path }))) {
      if (isNamespaceFile(path)) kept.push({ path });
      continue;
    }
    // A vxlan keeps its VNI until the namespace is really gone, which may be later than the next one with that VNI.
    if (isNamespaceFile(path)) removed.push(...sweepLinks(world, { path }));
    world.nft.forget({ path });
    world.namespaces.remove(path);
    removed.push({ kind: "netns", path });
  }
  for (const ns of kept) {
    signal.throwIfAborted();
    removed.push(...sweepLinks(world, ns));
    removed.push(...sweepLinkState(world, ns));
    removed.push(...(await sweepTables(world, ns)));
  }
  return removed;
}

function sweepLinks({ namespaces, units }: World, ns: Netns): readonly KernelObject[] {
  const socket = namespaces.get(ns).route();
  const claimed = new Set<string>();
  for (const object of units.objects()) if (object.kind === "link") claimed.add(objectKey(object));
  const removed: KernelObject[] = [];
  for (const record of allLinks(socket).filter(isOurs)) {
    const object = linkObject(ns, record);
    if (claimed.has(objectKey(object))) continue;
    try {
      socket.request("sweep links", deleteLink(record.index));
      removed.push(object);
    } catch (error) {
      // The other end of a pair just removed.
      if (!isNotFound(error)) throw error;
    }
  }
  return removed;
}

/** Addresses and routes on links with our mark; what is on a container's end of a pair is its own. */
function sweepLinkState({ namespaces, units }: World, ns: Netns): readonly KernelObject[] {
  const socket = namespaces.get(ns).route();
  const ours = new Map(
    allLinks(socket)
      .filter(isOurs)
      .map((record) => [record.index, record]),
  );
  if (ours.size === 0) return [];
  const removed: KernelObject[] = [];
  const remove = (object: KernelObject, request: () => MessageBuilder) => {
    if (units.isClaimed(objectKey(object))) return;
    try {
      socket.request("sweep links", request());
      removed.push(object);
    } catch (error) {
      // With a primary address its secondary ones go.
      if (!isNotFound(error)) throw error;
    }
  };
  for (const message of socket.dump("list addresses", dumpAddresses)) {
    const found = decodeAddress(message);
    const link = ours.get(found?.linkIndex ?? -1);
    // The kernel gives every link an IPv6 link-local address by itself.
    if (found === undefined || link === undefined || isLinkLocal(found.address.address)) continue;
    const { linkIndex, address } = found;
    remove({ kind: "address", ns, link: link.name, address }, () => deleteAddress(linkIndex, address));
  }
  const claimedRoutes = new Set<string>();
  for (const object of units.objects()) if (object.kind === "route") claimedRoutes.add(objectKey(asKernelHas(object)));
  for (const family of [4, 6] as const) {
    for (const message of socket.dump("list routes", () => dumpRoutes(family))) {
      const found = decodeRoute(message);
      const { linkIndex } = found ?? {};
      const link = ours.get(linkIndex ?? -1);
      if (!found?.manual || linkIndex === undefined || link === undefined) continue;
      const { destination, gateway, table } = found;
      const route = { destination, link: link.name, table, ...(gateway !== undefined && { gateway }) };
      const object: KernelObject = { kind: "route", ns, route };
      if (claimedRoutes.has(objectKey(object))) continue;
      remove(object, () => deleteRoute({ destination, gateway, linkIndex, table, source: undefined }));
    }
  }
  return removed;
}

/** Neighbours and forwarding entries of tunnels that no unit claims. */
export function sweepPeers({ namespaces, units }: World, ns: Netns): readonly KernelObject[] {
  const socket = namespaces.get(ns).route();
  const tunnels = new Map(
    allLinks(socket)
      .filter((record) => isOurs(record) && record.kind === "vxlan")
      .map(({ index, name }) => [index, name]),
  );
  if (tunnels.size === 0) return [];
  const removed: KernelObject[] = [];
  for (const kind of ["ip", "fdb"] as const) {
    for (const message of socket.dump("list neighbours", () => dumpNeighbours(kind))) {
      const found = decodeNeighbour(message);
      const link = tunnels.get(found?.linkIndex ?? -1);
      if (found === undefined || link === undefined) continue;
      const { linkIndex: _, ...entry } = found;
      const object: KernelObject = { ...entry, ns, link };
      if (units.isClaimed(objectKey(object))) continue;
      try {
        socket.request("sweep peers", deleteNeighbour(found));
        removed.push(object);
        if (found.kind === "fdb") forgetLearned(socket, { step: "sweep peers", ...found });
      } catch (error) {
        if (!isNotFound(error)) throw error;
      }
    }
  }
  return removed;
}

/** The kernel keeps a destination without its host bits. */
function asKernelHas(object: Extract<KernelObject, { readonly kind: "route" }>): KernelObject {
  return { ...object, route: { ...object.route, destination: networkOf(object.route.destination) } };
}

/** As much of it as is known from one end. */
function linkObject(ns: Netns, { name, mtuBytes, mac, vxlan, kind }: LinkRecord): KernelObject {
  const noMac = tryParseMac("00:00:00:00:00:00");
  if (vxlan !== undefined) {
    const { vni, portHostOrder, local } = vxlan;
    const outerFamily = local?.includes(":") ? 6 : 4;
    return { kind: "link", ns, link: { type: "vxlan", name, mtuBytes, vni, portHostOrder, outerFamily } };
  }
  if (kind === "bridge") return { kind: "link", ns, link: { type: "bridge", name, mtuBytes, ...(mac && { mac }) } };
  if (kind === "veth" && noMac !== undefined) {
    return { kind: "link", ns, link: { type: "veth", name, mtuBytes, peer: { ns, name: "", mac: noMac } } };
  }
  return { kind: "link", ns, link: { type: "dummy", name, mtuBytes } };
}

function sweepTables({ nft, units }: World, ns: Netns): Promise<readonly KernelObject[]> {
  return nft.use(ns, async (context) => {
    const removeTables: NftTable[] = [];
    const removeElements: NftElement[] = [];
    const again: NftElement[] = [];
    for (const table of ourTables(context.query("list tables", "list tables") ?? "")) {
      if (!units.isClaimed(objectKey({ kind: "nft-table", ns, table }))) {
        removeTables.push(table);
        continue;
      }
      const claimed = units.elementsOf(ns, table);
      const ids = new Set(claimed.map(elementId));
      const listing = context.query("list table", `list table ${tableId(table)}`) ?? "";
      const strays = elementsInListing(table, listing).filter((element) => !ids.has(elementId(element)));
      removeElements.push(...strays);
      // nft may print a key in a way we do not know to be the same: what is claimed stays, whatever is deleted before.
      const sets = new Set(strays.map(({ set }) => set));
      again.push(...claimed.filter(({ set }) => sets.has(set)));
    }
    const script = transaction({ removeElements, removeTables, ensureTables: [], ensureElements: again }, []);
    if (script !== "") await context.run("sweep tables", script);
    return [
      ...removeTables.map((table): KernelObject => ({ kind: "nft-table", ns, table })),
      ...removeElements.map((element): KernelObject => ({ kind: "nft-element", ns, element })),
    ];
  });
}

function ourTables(listing: string): readonly NftTable[] {
  return [...listing.matchAll(/^table (ip|ip6|inet|bridge) (\S+)$/gm)]
    .map(([, family, name]) => ({ family: family as NftTable["family"], name: name as string, body: "" }))
    .filter(({ name }) => name.startsWith(tablePrefix));
}
