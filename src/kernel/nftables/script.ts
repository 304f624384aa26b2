import { createHash } from "node:crypto";
import type { NftElement, NftTable } from "../model.ts";
import type { NftStep } from "../ops.ts";

/** Table comment that says whose it is and what it was made from: an unchanged table is found again after a restart. */
export function tableComment(table: NftTable): string {
  return `weft:${createHash("sha256").update(table.body).digest("hex").slice(0, 32)}`;
}

/** Deleting what may not be there: nft learnt `destroy` only in 1.0.7. */
function destroyTable({ family, name }: Pick<NftTable, "family" | "name">): string {
  return `add table ${family} ${name}\ndelete table ${family} ${name}`;
}

/**
 * One transaction for a step. Elements that leave go first, then tables, then the elements that come, `carried` with them: those
 * of a replaced table that nobody wants to lose. Pure.
 */
export function transaction(
  step: Pick<NftStep, "removeElements" | "removeTables" | "ensureTables" | "ensureElements">,
  carried: readonly NftElement[],
  isThere: (table: NftTable) => boolean = () => true,
): string {
  const anew = new Set(step.ensureTables.map(tableId));
  const leaving = step.removeElements.filter((element) => !anew.has(tableIdOf(element)));
  const coming = new Map([...carried, ...step.ensureElements].map((element) => [elementId(element), element]));
  return [
    ...elementCommands("delete", leaving),
    ...step.removeTables.map(destroyTable),
    ...step.ensureTables.flatMap((table) => [
      // A deletion makes the kernel wait for a grace period when the socket closes: not for nothing.
      ...(isThere(table) ? [destroyTable(table)] : []),
      `table ${table.family} ${table.name} {\ncomment "${tableComment(table)}"\n${table.body}\n}`,
    ]),
    ...elementCommands("add", [...coming.values()]),
  ].join("\n");
}

/** One command per set. */
function elementCommands(verb: "add" | "delete", elements: readonly NftElement[]): readonly string[] {
  const sets = Map.groupBy(elements, ({ family, table, set }) => `${family} ${table} ${set}`);
  return [...sets].map(([set, members]) => {
    const list = members.map(({ key, value }) =>
      value === undefined || verb === "delete" ? key : `${key} : ${value}`,
    );
    return `${verb} element ${set} { ${list.join(", ")} }`;
  });
}

export function tableId(table: Pick<NftTable, "family" | "name">): string {
  return `${table.family} ${table.name}`;
}

export function tableIdOf(element: NftElement): string {
  return `${element.family} ${element.table}`;
}

/** Equal for two spellings of one key, as far as nft's own output differs from what it was given. */
export function elementId(element: NftElement): string {
  return `${tableIdOf(element)} ${element.set} ${canonicalKey(element.key)}`;
}

/** nft prints marks and the like in hex with leading zeros, and takes names with and without quotes. */
export function canonicalKey(key: string): string {
  return key
    .trim()
    .split(/\s+\.\s+/)
    .map((part) => {
      const bare = part.replace(/^"(.*)"$/, "$1");
      return /^0x[0-9a-f]+$/i.test(bare) ? String(Number.parseInt(bare, 16)) : bare.toLowerCase();
    })
    .join(" . ");
}
