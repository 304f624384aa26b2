import { KeyedMutex } from "../base/async.ts";
import { crashPoint } from "../base/crash-point.ts";
import { InvariantError } from "../base/errors.ts";
import { type KernelObject, type Netns, type NftElement, type NftTable, nsKey, objectKey } from "./model.ts";
import { type Applied, type Appliers, ensuredBy, type KernelStep, removedBy, type StepContext } from "./ops.ts";
import { type Held, linkKey, linkKeys, linkOfSysctl, plan } from "./plan.ts";

/** Steps between two turns of the event loop: a few ms of work. */
const stepsPerTurn = 200;
/** Something made anew takes what was on it with it, which a second plan repairs. More than that is a fault of ours. */
const maxRounds = 6;

/**
 * Holds what every unit has, plans the way to what it shall have and lets the appliers walk it. The real kernel and the fake
 * one are this class with different appliers.
 */
export class Reconciler {
  readonly #appliers: Appliers;
  readonly #units = new Map<string, Map<string, Held>>();
  /** How many units have an object. */
  readonly #claims = new Map<string, number>();
  /** Elements by table, so that replacing a table costs what is in it. */
  readonly #elements = new Map<string, Map<string, NftElement>>();
  readonly #mutex = new KeyedMutex();

  constructor(appliers: Appliers) {
    this.#appliers = appliers;
  }

  reconcile(unit: string, desired: readonly KernelObject[], signal: AbortSignal): Promise<void> {
    return this.#mutex.run(unit, async () => {
      for (let round = 1; ; round++) {
        const held = this.#held(unit);
        const steps = plan(held, desired, (key) => this.#countOf(key) > (held.has(key) ? 1 : 0));
        if (steps.length === 0) break;
        if (round > maxRounds) throw new InvariantError(`the plan of "${unit}" does not become empty`);
        await this.#apply(unit, steps, signal);
      }
      this.#settle(unit, desired);
    });
  }

  /** Whether a unit has the object with this key. */
  isClaimed(key: string): boolean {
    return this.#countOf(key) > 0;
  }

  objects(): Iterable<KernelObject> {
    return this.#units.values().flatMap((held) => held.values().map((one) => one.object));
  }

  elementsOf(ns: Netns, table: { readonly family: string; readonly name: string }): readonly NftElement[] {
    return [...(this.#elements.get(tableKey(ns, table.family, table.name))?.values() ?? [])];
  }

  async #apply(unit: string, steps: readonly KernelStep[], signal: AbortSignal): Promise<void> {
    const context: StepContext = {
      unit,
      isClaimed: (key) => this.isClaimed(key),
      elementsOf: (ns, table: NftTable) => this.elementsOf(ns, table),
    };
    for (const [index, step] of steps.entries()) {
      signal.throwIfAborted();
      if (index > 0 && index % stepsPerTurn === 0) await new Promise(setImmediate);
      // Until it is done, it may be half done.
      for (const object of ensuredBy(step)) this.#record(unit, object, false);
      const applying = applyStep(this.#appliers, step, context);
      const applied = applying instanceof Promise ? await applying : applying;
      for (const object of removedBy(step)) this.#forget(unit, object);
      if (applied?.fresh === true || step.kind.endsWith(".remove")) this.#loseDependents(unit, step);
      for (const object of ensuredBy(step)) this.#record(unit, object, true);
      crashPoint(step.kind);
    }
  }

  /** What takes no step to let go: sysctls, and what another unit still has. */
  #settle(unit: string, desired: readonly KernelObject[]): void {
    const wanted = new Set(desired.map(objectKey));
    const held = this.#held(unit);
    for (const [key, { object }] of held) if (!wanted.has(key)) this.#forget(unit, object);
    if (held.size === 0) this.#units.delete(unit);
  }

  /**
   * What was in or on something that is gone or was made anew is gone as well. This unit's plan knew of it when it removed
   * something; everything else is doubted, and looked at again by the next plan of its unit.
   */
  #loseDependents(unit: string, step: KernelStep): void {
    if (step.kind === "nft.apply") return;
    const { object } = step;
    const removed = step.kind.endsWith(".remove");
    switch (object.kind) {
      case "netns":
        if (removed) this.#forgetAll(unit, (one) => one.kind !== "netns" && nsKey(one.ns) === object.path);
        this.#doubt((one) => isInside(one, object.path));
        return;
      case "link": {
        const keys = new Set(linkKeys(object.ns, object.link));
        if (removed) this.#forgetAll(unit, (one) => one.kind !== "link" && isOn(one, keys));
        this.#doubt((one) => isOn(one, keys));
        return;
      }
      case "address": {
        // With its primary address a link may lose the secondary ones of the subnet, and routes that used it.
        const keys = new Set([linkKey(object.ns, object.link)]);
        if (removed) this.#doubt((one) => (one.kind === "address" || one.kind === "route") && isOn(one, keys));
        return;
      }
      default:
        return;
    }
  }

  #forgetAll(unit: string, matches: (object: KernelObject) => boolean): void {
    for (const { object } of [...this.#held(unit).values()]) if (matches(object)) this.#forget(unit, object);
  }

  #doubt(matches: (object: KernelObject) => boolean): void {
    for (const held of this.#units.values()) {
      for (const [key, one] of held) if (one.sure && matches(one.object)) held.set(key, { ...one, sure: false });
    }
  }

  #held(unit: string): Map<string, Held> {
    const found = this.#units.get(unit);
    if (found !== undefined) return found;
    const made = new Map<string, Held>();
    this.#units.set(unit, made);
    return made;
  }

  #record(unit: string, object: KernelObject, sure: boolean): void {
    const held = this.#held(unit);
    const key = objectKey(object);
    if (!held.has(key)) this.#claims.set(key, this.#countOf(key) + 1);
    held.set(key, { object, sure });
    if (object.kind !== "nft-element") return;
    const { family, table } = object.element;
    const of = tableKey(object.ns, family, table);
    const elements = this.#elements.get(of) ?? new Map<string, NftElement>();
    this.#elements.set(of, elements.set(key, object.element));
  }

  #forget(unit: string, object: KernelObject): void {
    const key = objectKey(object);
    if (!this.#held(unit).delete(key)) return;
    const count = this.#countOf(key) - 1;
    if (count > 0) {
      this.#claims.set(key, count);
      return;
    }
    this.#claims.delete(key);
    if (object.kind !== "nft-element") return;
    const of = tableKey(object.ns, object.element.family, object.element.table);
    const elements = this.#elements.get(of);
    elements?.delete(key);
    if (elements?.size === 0) this.#elements.delete(of);
  }

  #countOf(key: string): number {
    return this.#claims.get(key) ?? 0;
  }
}

/** The table is total, but the compiler cannot see that a step fits the applier of its own kind. */
function applyStep(
  appliers: Appliers,
  step: KernelStep,
  context: StepContext,
): Applied | undefined | Promise<Applied | undefined> {
  const apply = appliers[step.kind] as (
    step: KernelStep,
    context: StepContext,
  ) => Applied | undefined | Promise<Applied | undefined>;
  return apply(step, context);
}

function tableKey(ns: Netns, family: string, name: string): string {
  return `${nsKey(ns)} ${family} ${name}`;
}

function isInside(object: KernelObject, path: string): boolean {
  if (object.kind === "netns") return false;
  if (nsKey(object.ns) === path) return true;
  return object.kind === "link" && object.link.type === "veth" && nsKey(object.link.peer.ns) === path;
}

/** On one of the links, or a port of it. */
function isOn(object: KernelObject, links: ReadonlySet<string>): boolean {
  switch (object.kind) {
    case "address":
    case "neighbour":
    case "fdb":
      return links.has(linkKey(object.ns, object.link));
    case "route":
      return links.has(linkKey(object.ns, object.route.link));
    case "sysctl": {
      const link = linkOfSysctl(object.key);
      return link !== undefined && links.has(linkKey(object.ns, link));
    }
    case "link":
      return (
        (object.link.type === "veth" || object.link.type === "vxlan") &&
        object.link.master !== undefined &&
        links.has(linkKey(object.ns, object.link.master))
      );
    case "netns":
    case "nft-table":
    case "nft-element":
      return false;
  }
}
