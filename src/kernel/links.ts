import { dirname } from "node:path";
import { errno } from "./ffi/errno.ts";
import { isNotFound, KernelError } from "./kernel.ts";
import { type Link, type Netns, nsKey, objectKey } from "./model.ts";
import {
  aliasOf,
  changeLink,
  decodeLink,
  deleteLink,
  dumpLinks,
  getLink,
  isOurs,
  type LinkChange,
  type LinkRecord,
  newLink,
} from "./netlink/link.ts";
import type { NetlinkSocket } from "./netlink/socket.ts";
import { isNamespaceFile, type Namespaces, namespaceFiles } from "./netns/namespaces.ts";
import { type Applied, describeNetns, describeStep, type StepContext, type StepOf } from "./ops.ts";

type Ensure = StepOf<"link.ensure">;
type LinkOf<T extends Link["type"]> = Extract<Link, { readonly type: T }>;

/** Everything that ensuring one link needs to know. */
interface Work<L extends Link> {
  readonly namespaces: Namespaces;
  readonly socket: NetlinkSocket;
  readonly ns: Netns;
  readonly link: L;
  readonly step: string;
  readonly alias: string;
  isClaimed(key: string): boolean;
}

/** Finds, adopts, changes or makes a link. @throws {KernelError} EEXIST when somebody else's link has the name. */
export function ensureLink(namespaces: Namespaces, step: Ensure, context: StepContext): Applied | Promise<Applied> {
  const { ns, link } = step.object;
  // Another unit's link of that name may be on its way out: it must not be adopted.
  const gone = link.type === "loopback" ? undefined : namespaces.get(ns).reaper().gone(link.name);
  return gone === undefined
    ? ensureFreeLink(namespaces, step, context)
    : gone.then(() => ensureFreeLink(namespaces, step, context));
}

function ensureFreeLink(namespaces: Namespaces, step: Ensure, context: StepContext): Applied {
  const { ns, link } = step.object;
  const work = {
    namespaces,
    socket: namespaces.get(ns).route(),
    ns,
    step: describeStep(step),
    alias: aliasOf(context.unit),
    isClaimed: (key: string) => context.isClaimed(key),
  };
  switch (link.type) {
    case "loopback":
      work.socket.request(work.step, changeLink("lo", { up: true }));
      return {};
    case "bridge":
      return ensureBridge({ ...work, link });
    case "dummy":
      return ensureDummy({ ...work, link });
    case "veth":
      return ensureVeth({ ...work, link });
    case "vxlan":
      return ensureVxlan({ ...work, link });
  }
}

export async function removeLink(namespaces: Namespaces, step: StepOf<"link.remove">): Promise<void> {
  const { ns, link } = step.object;
  if (link.type === "loopback") return;
  try {
    const { found } = lookUp(namespaces, ns, link.name);
    if (found === undefined || !isOurs(found)) return;
    await namespaces.get(ns).reaper().remove(describeStep(step), found);
  } catch (error) {
    // It, or its whole namespace, is gone already.
    if (!isNotFound(error)) throw error;
  }
}

export function findLink(socket: NetlinkSocket, name: string): LinkRecord | undefined {
  try {
    return decodeLink(socket.get(`look for link "${name}"`, getLink(name)));
  } catch (error) {
    if (isNotFound(error)) return undefined;
    throw error;
  }
}

export function allLinks(socket: NetlinkSocket): readonly LinkRecord[] {
  return socket.dump("list links", dumpLinks).map(decodeLink);
}

function lookUp(namespaces: Namespaces, ns: Netns, name: string) {
  const socket = namespaces.get(ns).route();
  return { socket, found: findLink(socket, name) };
}

function ensureBridge(work: Work<LinkOf<"bridge">>): Applied {
  const { link, socket, step } = work;
  const found = adoptable(work, link.name, (record) => record.kind === "bridge");
  if (found === undefined) {
    const { name, mtuBytes, mac } = link;
    socket.request(step, newLink({ type: "bridge", name, mtuBytes, mac }));
    socket.request(step, changeLink(name, { alias: work.alias, mtuBytes, up: true }));
    return { fresh: true };
  }
  change(work, found, { mtuBytes: link.mtuBytes, mac: link.mac });
  return {};
}

function ensureDummy(work: Work<LinkOf<"dummy">>): Applied {
  const { link, socket, step } = work;
  const found = adoptable(work, link.name, (record) => record.kind === "dummy");
  if (found === undefined) {
    socket.request(step, newLink(link));
    socket.request(step, changeLink(link.name, { alias: work.alias, up: true }));
    return { fresh: true };
  }
  change(work, found, { mtuBytes: link.mtuBytes });
  return {};
}

function ensureVeth(work: Work<LinkOf<"veth">>): Applied {
  const { link, socket, step, namespaces } = work;
  const master = masterIndex(work, link.master);
  const port = master === undefined ? undefined : { isolated: link.isolated === true, hairpin: link.hairpin === true };
  const inside = lookUp(namespaces, link.peer.ns, link.peer.name);
  const found = adoptable(
    work,
    link.name,
    (record) =>
      record.kind === "veth" && inside.found?.peerIndex === record.index && record.peerIndex === inside.found.index,
  );
  if (found !== undefined && inside.found !== undefined) {
    change(work, found, { mtuBytes: link.mtuBytes, master, port });
    const { mtuBytes, up, mac, index } = inside.found;
    if (mtuBytes !== link.mtuBytes || mac !== link.peer.mac || !up) {
      inside.socket.request(step, changeLink(index, { mtuBytes: link.mtuBytes, mac: link.peer.mac, up: true }));
    }
    return {};
  }
  removeStrayPeer(work, inside.found);
  const namespaceFd = namespaces.get(link.peer.ns).fd;
  const { name, mtuBytes } = link;
  try {
    socket.request(step, newLink({ type: "veth", name, mtuBytes, master, peer: { ...link.peer, namespaceFd } }));
  } catch (error) {
    if (error instanceof KernelError && error.errno === errno.EEXIST && inside.found !== undefined) {
      throw new KernelError(
        step,
        errno.EEXIST,
        `link "${link.peer.name}" exists in ${describeNetns(link.peer.ns)} and is not the other end of "${name}"`,
      );
    }
    throw error;
  }
  inside.socket.request(step, changeLink(link.peer.name, { up: true }));
  socket.request(step, changeLink(name, { alias: work.alias, up: true, ...(port && { port }) }));
  return { fresh: true };
}

/** A pair of ours under another name may hold the peer's name, left by a process that died: it makes room. */
function removeStrayPeer(work: Work<LinkOf<"veth">>, peer: LinkRecord | undefined): void {
  if (peer?.kind !== "veth") return;
  const other = allLinks(work.socket).find(
    (record) => record.kind === "veth" && record.index === peer.peerIndex && record.peerIndex === peer.index,
  );
  if (other !== undefined && isOurs(other)) deleteIfThere(work, other);
}

function ensureVxlan(work: Work<LinkOf<"vxlan">>): Applied {
  const { link, socket, step, namespaces } = work;
  const master = masterIndex(work, link.master);
  const local = link.local;
  const found = adoptable(
    work,
    link.name,
    ({ vxlan }) =>
      vxlan?.vni === link.vni &&
      vxlan.portHostOrder === link.portHostOrder &&
      vxlan.local === local &&
      !vxlan.learning &&
      vxlan.proxy,
  );
  if (found !== undefined) {
    change(work, found, { mtuBytes: link.mtuBytes, master });
    return {};
  }
  // Asked for in the host namespace, born in its own: the UDP socket stays with who asked.
  const host = namespaces.get("host").route();
  const namespaceFd = namespaces.get(work.ns).fd;
  const { name, vni, portHostOrder, mtuBytes, outerFamily } = link;
  const request = () => newLink({ type: "vxlan", name, vni, portHostOrder, mtuBytes, outerFamily, local, namespaceFd });
  try {
    host.request(step, request());
  } catch (error) {
    if (!(error instanceof KernelError) || error.errno !== errno.EEXIST || !removeStaleVxlan(work)) throw error;
    host.request(step, request());
  }
  socket.request(step, changeLink(name, { alias: work.alias, up: true, ...(master !== undefined && { master }) }));
  return { fresh: true };
}

/** The kernel allows one vxlan per VNI and port; one of ours from an earlier life may sit in any namespace beside this one. */
function removeStaleVxlan(work: Work<LinkOf<"vxlan">>): boolean {
  const { link, namespaces } = work;
  const known = new Map(namespaces.known().map((ns) => [nsKey(ns), ns]));
  const siblings = work.ns === "host" ? [] : namespaceFiles(dirname(work.ns.path));
  for (const path of siblings.filter(isNamespaceFile)) known.set(path, { path });
  let removed = false;
  for (const ns of known.values()) {
    const socket = namespaces.get(ns).route();
    for (const record of allLinks(socket)) {
      const same = record.vxlan?.vni === link.vni && record.vxlan.portHostOrder === link.portHostOrder;
      if (!same || !isOurs(record)) continue;
      // A living network with the same VNI is the caller's mistake, not a leftover.
      if (work.isClaimed(objectKey({ kind: "link", ns, link: { ...link, name: record.name } }))) continue;
      socket.request(work.step, deleteLink(record.index));
      removed = true;
    }
  }
  return removed;
}

/** The link of that name when it is ours and fits; one of ours that does not fit is removed. @throws EEXIST for a stranger's. */
function adoptable(work: Work<Link>, name: string, fits: (record: LinkRecord) => boolean): LinkRecord | undefined {
  const found = findLink(work.socket, name);
  if (found === undefined) return undefined;
  if (!isOurs(found)) {
    throw new KernelError(
      work.step,
      errno.EEXIST,
      `link "${name}" exists in ${describeNetns(work.ns)} and was not made by us (${found.kind ?? "a device"}, index ${found.index})`,
    );
  }
  if (fits(found)) return found;
  deleteIfThere(work, found);
  return undefined;
}

function deleteIfThere(work: Work<Link>, record: LinkRecord): void {
  try {
    work.socket.request(work.step, deleteLink(record.index));
  } catch (error) {
    // A veth goes by itself, a little after the namespace of its other end.
    if (!isNotFound(error)) throw error;
  }
}

/** Changes what differs, if anything does, and brings the link up. */
function change(
  work: Work<Link>,
  found: LinkRecord,
  wanted: {
    readonly mtuBytes: number;
    readonly mac?: LinkChange["mac"] | undefined;
    readonly master?: number | undefined;
    readonly port?: LinkChange["port"] | undefined;
  },
): void {
  const { mtuBytes, mac, master, port } = wanted;
  const differs: LinkChange = {
    ...(found.alias !== work.alias && { alias: work.alias }),
    ...(found.mtuBytes !== mtuBytes && { mtuBytes }),
    ...(mac !== undefined && found.mac !== mac && { mac }),
    ...(!found.up && { up: true as const }),
  };
  // 0 takes the link off its bridge. Port flags are the port's: they are set once it is one.
  if (found.master !== master) work.socket.request(work.step, changeLink(found.index, { master: master ?? 0 }));
  const portDiffers =
    port !== undefined &&
    (found.master !== master || found.port?.isolated !== port.isolated || found.port.hairpin !== port.hairpin);
  if (Object.keys(differs).length === 0 && !portDiffers) return;
  work.socket.request(work.step, changeLink(found.index, { ...differs, ...(portDiffers && { port }) }));
}

/** @throws {KernelError} ENODEV naming the bridge. */
function masterIndex(work: Work<Link>, master: string | undefined): number | undefined {
  if (master === undefined) return undefined;
  const found = findLink(work.socket, master);
  if (found !== undefined) return found.index;
  throw new KernelError(work.step, errno.ENODEV, `there is no bridge "${master}" in ${describeNetns(work.ns)}`);
}
