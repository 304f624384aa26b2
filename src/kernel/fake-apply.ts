import { type MacAddress, networkOf, parseMac } from "../base/ip.ts";
import { declaresSet, type FakeLink, type FakeTable, type FakeWorld, type LinkObject } from "./fake-world.ts";
import { errno } from "./ffi/errno.ts";
import { KernelError } from "./kernel.ts";
import { type Link, type Netns, nsKey, objectKey } from "./model.ts";
import { elementId, tableId } from "./nftables/script.ts";
import { type Applied, type Appliers, describeNetns, describeStep, type NftStep, type StepContext } from "./ops.ts";
import { mustBeMadeAnew } from "./plan.ts";

/** The steps done to the world in memory, refused where the kernel refuses them. */
export function fakeAppliers(world: FakeWorld): Appliers {
  return {
    "netns.ensure": ({ object: { path } }) => {
      if (world.namespaces.has(path)) return {};
      world.addNamespace({ path });
      return { fresh: true };
    },
    "netns.remove": ({ object }) => {
      world.removeNamespace(object.path);
      return undefined;
    },
    "link.ensure": (step, context) => ensureLink(world, step.object, { step: describeStep(step), unit: context.unit }),
    "link.remove": ({ object: { ns, link } }) => {
      if (link.type === "loopback") return undefined;
      if (world.namespaces.get(nsKey(ns))?.links.get(link.name)?.unit !== undefined) world.removeLink(ns, link.name);
      return undefined;
    },
    "sysctl.ensure": ({ object }) => {
      world.get(object.ns).sysctls.set(object.key, object.value);
      return undefined;
    },
    "address.ensure": (step) => {
      const { ns, link, address } = step.object;
      world.linkOf(describeStep(step), ns, link);
      world.get(ns).addresses.set(objectKey(step.object), { link, address });
      world.touched(ns);
      return undefined;
    },
    "address.remove": ({ object }) => {
      world.namespaces.get(nsKey(object.ns))?.addresses.delete(objectKey(object));
      world.touched(object.ns);
      return undefined;
    },
    "route.ensure": (step) => {
      const { ns, route } = step.object;
      const name = describeStep(step);
      world.linkOf(name, ns, route.link);
      if (route.gateway !== undefined && !world.canReach(ns, route.gateway)) {
        throw new KernelError(name, errno.ENETUNREACH, "Nexthop has invalid gateway");
      }
      world.get(ns).routes.set(objectKey(step.object), { ...route, destination: networkOf(route.destination) });
      return undefined;
    },
    "route.remove": ({ object }) => {
      world.namespaces.get(nsKey(object.ns))?.routes.delete(objectKey(object));
      return undefined;
    },
    "neighbour.ensure": (step) => {
      const { ns, link } = step.object;
      world.linkOf(describeStep(step), ns, link);
      world.get(ns).neighbours.set(objectKey(step.object), step.object);
      return undefined;
    },
    "neighbour.remove": ({ object }) => {
      world.namespaces.get(nsKey(object.ns))?.neighbours.delete(objectKey(object));
      return undefined;
    },
    "fdb.ensure": (step) => {
      const { ns, link } = step.object;
      if (world.linkOf(describeStep(step), ns, link).link.type !== "vxlan") {
        throw new KernelError(describeStep(step), errno.EOPNOTSUPP, `link "${link}" is no vxlan`);
      }
      world.get(ns).neighbours.set(objectKey(step.object), step.object);
      return undefined;
    },
    "fdb.remove": ({ object }) => {
      world.namespaces.get(nsKey(object.ns))?.neighbours.delete(objectKey(object));
      return undefined;
    },
    "nft.apply": (step, context) => {
      applyNft(world, step, context);
      return undefined;
    },
  };
}

interface Doing {
  readonly step: string;
  readonly unit: string;
}

function ensureLink(world: FakeWorld, { ns, link }: LinkObject, doing: Doing): Applied {
  if (link.type === "loopback") {
    world.putLink(ns, { ...world.linkOf(doing.step, ns, "lo"), up: true });
    return {};
  }
  const master = "master" in link ? link.master : undefined;
  if (master !== undefined) world.linkOf(doing.step, ns, master);
  const found = adoptable(world, { kind: "link", ns, link }, doing);
  if (found === undefined) makeRoom(world, ns, link, doing);
  const { mtuBytes, name } = link;
  const mac = (link.type === "bridge" ? link.mac : undefined) ?? found?.mac ?? madeUpMac(`${nsKey(ns)} ${name}`);
  const other = link.type === "veth" ? { ns: link.peer.ns, name: link.peer.name } : undefined;
  world.putLink(ns, { link, name, mtuBytes, mac, master, up: true, unit: doing.unit, other });
  if (link.type === "veth") {
    const { peer } = link;
    const end = { link, name: peer.name, mtuBytes, mac: peer.mac, master: undefined, up: true, unit: undefined };
    world.putLink(peer.ns, { ...end, other: { ns, name } });
  }
  return { fresh: found === undefined };
}

function adoptable(world: FakeWorld, object: LinkObject, { step }: Doing): FakeLink | undefined {
  const { ns, link } = object;
  const found = link.type === "loopback" ? undefined : world.get(ns).links.get(link.name);
  if (found === undefined) return undefined;
  if (found.unit === undefined) {
    const detail = `link "${found.name}" exists in ${describeNetns(ns)} and was not made by us`;
    throw new KernelError(step, errno.EEXIST, detail);
  }
  if (!mustBeMadeAnew({ ...object, link: found.link }, object)) return found;
  world.removeLink(ns, found.name);
  return undefined;
}

/** @throws {KernelError} for what stands in the way of a new link. */
function makeRoom(world: FakeWorld, ns: Netns, link: Link, { step }: Doing): void {
  if (link.type === "veth" && world.get(link.peer.ns).links.has(link.peer.name)) {
    const detail = `link "${link.peer.name}" exists in ${describeNetns(link.peer.ns)} and is not the other end of "${link.name}"`;
    throw new KernelError(step, errno.EEXIST, detail);
  }
  if (link.type !== "vxlan") return;
  for (const space of world.namespaces.values()) {
    for (const { link: other } of space.links.values()) {
      if (other.type === "vxlan" && other.vni === link.vni && other.portHostOrder === link.portHostOrder) {
        const detail = `A VXLAN device with the specified VNI already exists (in ${nsKey(space.ns)}, wanted in ${nsKey(ns)})`;
        throw new KernelError(step, errno.EEXIST, detail);
      }
    }
  }
}

/** One for each name, like the kernel's random ones locally administered. */
function madeUpMac(seed: string): MacAddress {
  let hash = 0;
  for (const char of seed) hash = (Math.imul(hash, 31) + char.charCodeAt(0)) >>> 0;
  const pairs = hash.toString(16).padStart(8, "0").match(/../g) ?? [];
  return parseMac(["fa", "ce", ...pairs].join(":"));
}

/** All or nothing: the tables are changed on copies. */
function applyNft(world: FakeWorld, step: NftStep, context: StepContext): void {
  const { ns } = step;
  const name = describeStep(step);
  const space = world.get(ns);
  const tables = new Map(
    [...space.tables].map(([id, { body, elements }]) => [id, { body, elements: new Map(elements) }]),
  );
  const tableOf = (id: string): FakeTable => {
    const found = tables.get(id);
    if (found === undefined) throw new KernelError(name, errno.ENOENT, `there is no table ${id}`);
    return found;
  };
  const leaving = new Set(step.removeElements.map(elementId));
  for (const element of step.removeElements)
    tables.get(tableId(tableOfElement(element)))?.elements.delete(elementId(element));
  for (const table of step.removeTables) tables.delete(tableId(table));
  for (const table of step.ensureTables) {
    const elements = tables.get(tableId(table))?.elements ?? new Map();
    for (const element of context.elementsOf(ns, table)) {
      const { set, key, value } = element;
      const id = elementId(element);
      if (declaresSet(table.body, set) && !leaving.has(id)) elements.set(id, { set, key, value });
    }
    tables.set(tableId(table), { body: table.body, elements });
  }
  for (const element of step.ensureElements) {
    const table = tableOf(tableId(tableOfElement(element)));
    const { set, key, value } = element;
    if (!declaresSet(table.body, set)) {
      throw new KernelError(name, errno.ENOENT, `there is no set "${set}" in ${tableId(tableOfElement(element))}`);
    }
    table.elements.set(elementId(element), { set, key, value });
  }
  space.tables.clear();
  for (const [id, table] of tables) space.tables.set(id, table);
}

function tableOfElement(element: NftStep["ensureElements"][number]) {
  return { family: element.family, name: element.table };
}
