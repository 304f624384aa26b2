import { errno } from "../ffi/errno.ts";
import { KernelError } from "../kernel.ts";
import type { NftElement, NftTable } from "../model.ts";
import type { Namespaces } from "../netns/namespaces.ts";
import { describeStep, type NftStep, type StepContext } from "../ops.ts";
import type { NftContext } from "./context.ts";
import type { NftContexts } from "./contexts.ts";
import { elementsInListing } from "./listing.ts";
import { elementId, tableComment, tableId, tableIdOf, transaction } from "./script.ts";
import { commentOf } from "./tables.ts";

/** Applies nftables steps, each as one transaction. */
export class NftApplier {
  readonly #namespaces: Namespaces;
  readonly #contexts: NftContexts;

  constructor(namespaces: Namespaces, contexts: NftContexts) {
    this.#namespaces = namespaces;
    this.#contexts = contexts;
  }

  apply(step: NftStep, context: StepContext): Promise<void> {
    return this.#contexts.use(step.ns, async (nft) => {
      const { tables, carried, isThere } = this.#replacing(nft, step, context);
      const work = { ...step, ensureTables: tables };
      const claimed = tables.flatMap((table) => context.elementsOf(step.ns, table));
      const leaving = new Set(step.removeElements.map(elementId));
      const kept = claimed.filter((element) => !leaving.has(elementId(element)));
      const script = transaction(work, [...carried, ...kept], isThere);
      if (script === "") return;
      try {
        await nft.run(describeStep(step), script);
      } catch (error) {
        if (!(error instanceof KernelError)) throw error;
        const second = transaction(this.#asItIs(nft, work), kept, isThere);
        if (second === script) throw error;
        if (second !== "") await nft.run(describeStep(step), second);
      }
    });
  }

  /**
   * The tables that really have to be replaced, and the elements in them that no unit has claimed yet: after a restart they belong
   * to units that are still to come, and must not go missing until then.
   */
  #replacing(
    nft: NftContext,
    step: NftStep,
    context: StepContext,
  ): {
    readonly tables: readonly NftTable[];
    readonly carried: readonly NftElement[];
    readonly isThere: (table: NftTable) => boolean;
  } {
    if (step.ensureTables.length === 0) return { tables: [], carried: [], isThere: () => false };
    const socket = this.#namespaces.get(step.ns).netfilter();
    const tables: NftTable[] = [];
    const carried: NftElement[] = [];
    const absent = new Set<string>();
    const leaving = new Set(step.removeElements.map(elementId));
    for (const table of step.ensureTables) {
      const comment = commentOf(socket, table);
      if (comment === tableComment(table)) continue;
      tables.push(table);
      if (comment === undefined) {
        absent.add(tableId(table));
        continue;
      }
      const claimed = new Set(context.elementsOf(step.ns, table).map(elementId));
      const listing = nft.query(describeStep(step), `list table ${tableId(table)}`) ?? "";
      for (const element of elementsInListing(table, listing)) {
        const id = elementId(element);
        if (!leaving.has(id) && !claimed.has(id)) carried.push(element);
      }
    }
    return { tables, carried, isThere: (table) => !absent.has(tableId(table)) };
  }

  /** The same step once it is known which elements are there: only those are deleted, and those with another value as well. */
  #asItIs(nft: NftContext, step: NftStep): NftStep {
    const isThere = ({ family, table, set, key }: NftElement) =>
      this.#query(nft, `get element ${family} ${table} ${set} { ${key} }`) !== undefined;
    const anew = new Set(step.ensureTables.map(tableId));
    const candidates = [...step.removeElements, ...step.ensureElements.filter(({ value }) => value !== undefined)];
    const unique = new Map(candidates.map((element) => [elementId(element), element]));
    const present = [...unique.values()].filter((element) => !anew.has(tableIdOf(element)) && isThere(element));
    return { ...step, removeElements: present };
  }

  #query(nft: NftContext, command: string): string | undefined {
    try {
      return nft.query(command, command);
    } catch (error) {
      // The set or its table may be missing, or have another type by now.
      if (error instanceof KernelError && error.errno === errno.EINVAL) return undefined;
      throw error;
    }
  }
}
