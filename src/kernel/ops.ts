import type { KernelObject, Netns, NftElement, NftTable } from "./model.ts";

type Of<K extends KernelObject["kind"]> = Extract<KernelObject, { readonly kind: K }>;

/**
 * What can be done to the kernel. `ensure` compares, then makes or changes; `remove` is fine when there is nothing: running a
 * step twice is harmless. A new kind of object is a case here, one applier in apply.ts and one in fake.ts.
 */
export type KernelStep =
  | { readonly kind: "netns.ensure"; readonly object: Of<"netns"> }
  | { readonly kind: "netns.remove"; readonly object: Of<"netns"> }
  | { readonly kind: "link.ensure"; readonly object: Of<"link"> }
  | { readonly kind: "link.remove"; readonly object: Of<"link"> }
  | { readonly kind: "sysctl.ensure"; readonly object: Of<"sysctl"> }
  | { readonly kind: "address.ensure"; readonly object: Of<"address"> }
  | { readonly kind: "address.remove"; readonly object: Of<"address"> }
  | { readonly kind: "route.ensure"; readonly object: Of<"route"> }
  | { readonly kind: "route.remove"; readonly object: Of<"route"> }
  | { readonly kind: "neighbour.ensure"; readonly object: Of<"neighbour"> }
  | { readonly kind: "neighbour.remove"; readonly object: Of<"neighbour"> }
  | { readonly kind: "fdb.ensure"; readonly object: Of<"fdb"> }
  | { readonly kind: "fdb.remove"; readonly object: Of<"fdb"> }
  | NftStep;

/** All that a reconcile changes in the tables of one namespace: one transaction. */
export interface NftStep {
  readonly kind: "nft.apply";
  readonly ns: Netns;
  readonly removeElements: readonly NftElement[];
  readonly removeTables: readonly NftTable[];
  readonly ensureTables: readonly NftTable[];
  readonly ensureElements: readonly NftElement[];
}

export type StepOf<K extends KernelStep["kind"]> = Extract<KernelStep, { readonly kind: K }>;

/** What an applier found besides doing its work. */
export interface Applied {
  /** The namespace or link had to be made: nothing that was known to be in or on it is there. */
  readonly fresh?: boolean;
}

/** What an applier knows besides its step. */
export interface StepContext {
  /** Whose mark a new object gets. */
  readonly unit: string;
  /** Whether some unit holds the object with this key (model.ts `objectKey`); it must not be taken away then. */
  isClaimed(key: string): boolean;
  /** Elements of all units in one table: a table that is replaced gets them back in the same transaction. */
  elementsOf(ns: Netns, table: NftTable): readonly NftElement[];
}

/** The executor of an adapter; does not compile while a kind is missing. */
export type Appliers = {
  readonly [K in KernelStep["kind"]]: (
    step: StepOf<K>,
    context: StepContext,
  ) => Applied | undefined | Promise<Applied | undefined>;
};

/** Objects that are there once the step is done. */
export function ensuredBy(step: KernelStep): readonly KernelObject[] {
  if (step.kind === "nft.apply") {
    return [
      ...step.ensureTables.map((table): KernelObject => ({ kind: "nft-table", ns: step.ns, table })),
      ...step.ensureElements.map((element): KernelObject => ({ kind: "nft-element", ns: step.ns, element })),
    ];
  }
  return step.kind.endsWith(".ensure") ? [step.object] : [];
}

/** Objects that the step names and that are gone once it is done. */
export function removedBy(step: KernelStep): readonly KernelObject[] {
  if (step.kind === "nft.apply") {
    return [
      ...step.removeElements.map((element): KernelObject => ({ kind: "nft-element", ns: step.ns, element })),
      ...step.removeTables.map((table): KernelObject => ({ kind: "nft-table", ns: step.ns, table })),
    ];
  }
  return step.kind.endsWith(".remove") ? [step.object] : [];
}

/** For messages: `link.ensure host br-1234`. */
export function describeStep(step: KernelStep): string {
  const [first] = [...ensuredBy(step), ...removedBy(step)];
  if (first === undefined) return step.kind;
  return step.kind === "nft.apply" ? `${step.kind} ${describeNetns(step.ns)}` : `${step.kind} ${describeObject(first)}`;
}

export function describeNetns(ns: Netns): string {
  return ns === "host" ? "host" : ns.path;
}

function describeObject(object: KernelObject): string {
  switch (object.kind) {
    case "netns":
      return object.path;
    case "link":
      return `${describeNetns(object.ns)} ${object.link.type === "loopback" ? "lo" : object.link.name}`;
    case "address":
      return `${describeNetns(object.ns)} ${object.link} ${object.address.address}/${object.address.prefix}`;
    case "route": {
      const { destination, gateway, link } = object.route;
      return `${describeNetns(object.ns)} ${destination.address}/${destination.prefix}${gateway === undefined ? "" : ` via ${gateway}`} dev ${link}`;
    }
    case "neighbour":
      return `${describeNetns(object.ns)} ${object.link} ${object.ip} ${object.mac}`;
    case "fdb":
      return `${describeNetns(object.ns)} ${object.link} ${object.mac} behind ${object.vtep}`;
    case "sysctl":
      return `${describeNetns(object.ns)} ${object.key}=${object.value}`;
    case "nft-table":
      return `${describeNetns(object.ns)} ${object.table.family} ${object.table.name}`;
    case "nft-element": {
      const { family, table, set, key, value } = object.element;
      return `${describeNetns(object.ns)} ${family} ${table} ${set} { ${key}${value === undefined ? "" : ` : ${value}`} }`;
    }
  }
}
