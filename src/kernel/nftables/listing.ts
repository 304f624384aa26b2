import type { NftElement, NftTable } from "../model.ts";

/**
 * Elements of the named sets and maps in what `nft list table` prints. Sets that fill themselves from packets (dynamic, or with a
 * timeout) are left out: nobody's desired state names their elements. Pure.
 */
export function elementsInListing(table: Pick<NftTable, "family" | "name">, listing: string): readonly NftElement[] {
  const elements: NftElement[] = [];
  // A set's body has no braces of its own but those of `elements`.
  const sets = /^\t(?:set|map) (\S+) \{\n((?:\t\t.*\n)*?)\t\}/gm;
  for (const [, set, body] of listing.matchAll(sets)) {
    if (set === undefined || body === undefined || /^\t\t(flags .*\b(dynamic|timeout)\b|timeout )/m.test(body))
      continue;
    const list = /^\t\telements = \{([\s\S]*)\}/m.exec(body)?.[1];
    for (const item of list?.split(",") ?? []) {
      const [key, value] = splitItem(item);
      if (key === "") continue;
      const element = { family: table.family, table: table.name, set, key };
      elements.push(value === undefined ? element : { ...element, value });
    }
  }
  return elements;
}

/** `key` or `key : value`; the colons of IPv6 and MAC addresses have no spaces around them. */
function splitItem(item: string): readonly [key: string, value: string | undefined] {
  const text = item.trim();
  const at = text.indexOf(" : ");
  return at < 0 ? [text, undefined] : [text.slice(0, at), text.slice(at + 3)];
}
