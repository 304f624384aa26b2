import { readFile } from "node:fs/promises";
import { messageOf } from "../base/errors.ts";
import { fileOnlyKeys, type Option, options } from "./options.ts";
import type { Given, Value } from "./values.ts";

const proxyNames = ["http-proxy", "https-proxy", "no-proxy"];

/**
 * Reads daemon.json. A file that is not there counts as empty unless it was named.
 *
 * @throws {SyntaxError} in dockerd's words: broken JSON, unknown keys, wrong types, what was also given as a flag.
 */
export async function readConfigFile(
  path: string,
  facts: { readonly isNamed: boolean; readonly flags: Given },
): Promise<Given> {
  let text: string;
  try {
    text = await readFile(path, "utf8");
  } catch (error) {
    if (!facts.isNamed && (error as NodeJS.ErrnoException).code === "ENOENT") return new Map();
    throw inFile(
      path,
      `open ${path}: ${(error as NodeJS.ErrnoException).code === "ENOENT" ? "no such file or directory" : messageOf(error)}`,
    );
  }
  return parseConfigFile(path, text, facts.flags);
}

export function parseConfigFile(path: string, text: string, flags: Given): Given {
  const json = withProxies(path, parseObject(path, text));
  const known = new Map(options.flatMap((option) => (option.key === undefined ? [] : [[option.key, option] as const])));
  for (const option of options) if (proxyNames.includes(option.name)) known.set(option.name, option);
  const fileOnly = new Map(fileOnlyKeys.map(({ key, status }) => [key, status]));
  const unknown = Object.keys(json).filter((key) => !known.has(key) && !fileOnly.has(key));
  if (unknown.length > 0) {
    throw inFile(path, `the following directives don't match any configuration option: ${unknown.join(", ")}`);
  }
  const conflicts: string[] = [];
  const given = new Map<string, Value>();
  for (const [key, value] of Object.entries(json)) {
    const status = fileOnly.get(key);
    if (status?.kind === "refused") throw inFile(path, `"${key}" is not supported: ${status.why}`);
    const option = known.get(key);
    if (option === undefined) continue;
    const flag = flags.get(option.name);
    if (flag !== undefined) conflicts.push(`${key}: (from flag: ${goText(flag)}, from file: ${goText(value)})`);
    given.set(option.name, toValue(path, option, key, value));
  }
  if (conflicts.length > 0) {
    throw inFile(
      path,
      `the following directives are specified both as a flag and in the configuration file: ${conflicts.join(", ")}`,
    );
  }
  return given;
}

function parseObject(path: string, text: string): Readonly<Record<string, unknown>> {
  if (text.trim() === "") return {};
  let value: unknown;
  try {
    // compat: editors on Windows write a byte order mark; dockerd skips it as well.
    value = JSON.parse(text.replace(/^\uFEFF/, ""));
  } catch (error) {
    throw inFile(path, `invalid JSON: ${messageOf(error)}`);
  }
  if (typeof value !== "object" || value === null || Array.isArray(value))
    throw inFile(path, "it must hold one JSON object");
  return value as Readonly<Record<string, unknown>>;
}

function toValue(path: string, option: Option, key: string, value: unknown): Value {
  const refuse = (wanted: string) => inFile(path, `"${key}" must be ${wanted}, found ${JSON.stringify(value)}`);
  const isMap = typeof value === "object" && value !== null && !Array.isArray(value);
  switch (option.kind) {
    case "flag":
      if (typeof value !== "boolean") throw refuse("true or false");
      return value;
    case "integer":
      if (!Number.isInteger(value)) throw refuse("a whole number");
      return value as number;
    case "text":
      // compat: sizes may be given as a number of bytes.
      if (typeof value === "number" && option.placeholder === "bytes") return String(value);
      if (typeof value !== "string") throw refuse("a text");
      return value;
    case "list":
      if (option.name === "default-address-pool") return poolTexts(value, refuse);
      if (isMap) return Object.keys(value);
      if (!Array.isArray(value) || value.some((item) => typeof item !== "string")) throw refuse("a list of texts");
      return value as string[];
    case "map":
      if (!isMap) throw refuse("an object");
      return Object.fromEntries(Object.entries(value).map(([name, item]) => [name, String(item)]));
  }
}

/** `[{"base":"10.0.0.0/8","size":24}]` in the words of the flag. */
function poolTexts(value: unknown, refuse: (wanted: string) => SyntaxError): readonly string[] {
  const wanted = 'a list of {"base": "10.0.0.0/8", "size": 24}';
  if (!Array.isArray(value)) throw refuse(wanted);
  return value.map((pool: unknown) => {
    const { base, size } = (pool ?? {}) as { readonly base?: unknown; readonly size?: unknown };
    if (typeof base !== "string" || typeof size !== "number") throw refuse(wanted);
    return `base=${base},size=${size}`;
  });
}

/** `"proxies": {"http-proxy": …}` becomes the three options of that name, which have no key of their own. */
function withProxies(path: string, json: Readonly<Record<string, unknown>>): Readonly<Record<string, unknown>> {
  const { proxies, ...rest } = json;
  if (proxies === undefined) return json;
  if (typeof proxies !== "object" || proxies === null) throw inFile(path, '"proxies" must be an object');
  const unknown = Object.keys(proxies).filter((key) => !proxyNames.includes(key));
  if (unknown.length > 0) {
    throw inFile(path, `the following directives don't match any configuration option: ${unknown.join(", ")}`);
  }
  return { ...rest, ...proxies };
}

/** As Go prints it. */
function goText(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(goText).join(" ")}]`;
  if (typeof value === "object" && value !== null) {
    return `map[${Object.entries(value)
      .map(([key, item]) => `${key}:${goText(item)}`)
      .join(" ")}]`;
  }
  return String(value);
}

function inFile(path: string, why: string): SyntaxError {
  return new SyntaxError(`unable to configure the Docker daemon with file ${path}: ${why}`);
}
