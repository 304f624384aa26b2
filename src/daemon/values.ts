import type { Option } from "./options.ts";

export type Value = boolean | string | number | readonly string[] | Readonly<Record<string, string>>;

/** Names of options with what was given for them; nothing for those that were not. */
export type Given = ReadonlyMap<string, Value>;

/** Reads one value of the command line. @throws {SyntaxError} in pflag's words. */
export function parseValue(option: Option, text: string, before: Value | undefined): Value {
  const refuse = (why: string) =>
    new SyntaxError(`invalid argument ${JSON.stringify(text)} for "${shown(option)}" flag: ${why}`);
  switch (option.kind) {
    case "flag":
      if (["1", "t", "T", "true", "TRUE", "True"].includes(text)) return true;
      if (["0", "f", "F", "false", "FALSE", "False"].includes(text)) return false;
      throw refuse(`strconv.ParseBool: parsing ${JSON.stringify(text)}: invalid syntax`);
    case "integer":
      if (!/^-?\d{1,15}$/.test(text)) throw refuse(`strconv.ParseInt: parsing ${JSON.stringify(text)}: invalid syntax`);
      return Number(text);
    case "text":
      return text;
    case "list":
      return [...((before as readonly string[] | undefined) ?? []), text];
    case "map": {
      const at = text.indexOf("=");
      if (at <= 0) throw refuse(`invalid value: must be key=value`);
      return { ...(before as Readonly<Record<string, string>> | undefined), [text.slice(0, at)]: text.slice(at + 1) };
    }
  }
}

/** The value when nothing is given. */
export function fallbackOf(option: Option): Value {
  switch (option.kind) {
    case "flag":
      return option.fallback === "true";
    case "integer":
      return Number(option.fallback);
    case "text":
      return option.fallback;
    case "list":
      return [];
    case "map":
      return {};
  }
}

export function shown(option: Option): string {
  return option.short === undefined ? `--${option.name}` : `-${option.short}, --${option.name}`;
}
