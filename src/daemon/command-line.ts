import { type Option, options } from "./options.ts";
import { type Given, parseValue, type Value } from "./values.ts";

const byName = new Map(options.map((option) => [option.name, option]));
const byShort = new Map(
  options.flatMap((option) => (option.short === undefined ? [] : [[option.short, option] as const])),
);

/**
 * Reads the command line as dockerd (pflag) does: `--name value`, `--name=value`, `-n value`, `-nvalue`, flags without a
 * value or with `=false`.
 *
 * @throws {SyntaxError} in dockerd's words.
 */
export function parseCommandLine(args: readonly string[]): Given {
  const given = new Map<string, Value>();
  const rest = [...args];
  const take = (option: Option, inline: string | undefined, needs: string) => {
    const text = inline ?? (option.kind === "flag" ? "true" : rest.shift());
    if (text === undefined) throw new SyntaxError(`flag needs an argument: ${needs}`);
    given.set(option.name, parseValue(option, text, given.get(option.name)));
  };
  for (let word = rest.shift(); word !== undefined; word = rest.shift()) {
    if (word.startsWith("--")) {
      const at = word.indexOf("=");
      const name = at < 0 ? word.slice(2) : word.slice(2, at);
      const option = byName.get(name);
      if (option === undefined) throw new SyntaxError(`unknown flag: --${name}`);
      take(option, at < 0 ? undefined : word.slice(at + 1), `--${name}`);
    } else if (word.startsWith("-") && word.length > 1) {
      takeShort(word, take);
    } else {
      throw new SyntaxError(`"weftd" accepts no arguments: ${JSON.stringify(word)}`);
    }
  }
  return given;
}

/** `-D`, `-DH unix://…`, `-l debug`, `-ldebug`. */
function takeShort(word: string, take: (option: Option, inline: string | undefined, needs: string) => void): void {
  for (let i = 1; i < word.length; i++) {
    const letter = word[i] as string;
    const option = byShort.get(letter);
    if (option === undefined) throw new SyntaxError(`unknown shorthand flag: '${letter}' in ${word}`);
    if (option.kind === "flag") {
      take(option, undefined, "");
      continue;
    }
    const inline = word.slice(i + 1).replace(/^=/, "");
    take(option, inline === "" ? undefined : inline, `'${letter}' in ${word}`);
    return;
  }
}
