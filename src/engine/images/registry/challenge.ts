/** What a registry asks for in `WWW-Authenticate` (RFC 9110 section 11.6.1). */
export interface Challenge {
  /** Lower case: `bearer`, `basic`. */
  readonly scheme: string;
  readonly parameters: Readonly<Record<string, string>>;
}

const maxHeaderLength = 8192;
const token = /[!#$%&'*+.^_`|~0-9A-Za-z-]+/y;
const space = /[ \t]*/y;

/** All challenges of one header value, in order. Total: what does not parse ends the list. Pure. */
export function parseChallenges(header: string): readonly Challenge[] {
  const text = header.slice(0, maxHeaderLength);
  const challenges: { scheme: string; parameters: Record<string, string> }[] = [];
  let at = 0;
  const take = (pattern: RegExp): string => {
    pattern.lastIndex = at;
    const found = pattern.exec(text)?.[0] ?? "";
    at += found.length;
    return found;
  };
  while (at < text.length) {
    take(space);
    const word = take(token);
    if (word === "") {
      if (text[at] !== ",") break;
      at += 1;
      continue;
    }
    const afterWord = at;
    take(space);
    const current = challenges.at(-1);
    // `name=` belongs to the challenge before; a word alone begins a new one.
    if (text[at] !== "=" || current === undefined) {
      at = afterWord;
      challenges.push({ scheme: word.toLowerCase(), parameters: {} });
      continue;
    }
    at += 1;
    take(space);
    const value = text[at] === '"' ? quoted() : take(token);
    if (value === undefined) break;
    current.parameters[word.toLowerCase()] = value;
  }
  return challenges;

  function quoted(): string | undefined {
    let value = "";
    for (let i = at + 1; i < text.length; i++) {
      if (text[i] === '"') {
        at = i + 1;
        return value;
      }
      if (text[i] === "\\") i += 1;
      value += text[i] ?? "";
    }
    return undefined;
  }
}
