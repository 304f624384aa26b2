import { constants } from "node:os";
import { EngineError } from "../../base/errors.ts";

/**
 * The `config` object of an image configuration, as JSON names it. Only what a Dockerfile instruction can set; absent means
 * not set.
 */
export interface ConfigJson {
  readonly Cmd?: readonly string[];
  readonly Entrypoint?: readonly string[];
  readonly Env?: readonly string[];
  readonly ExposedPorts?: Readonly<Record<string, object>>;
  readonly Healthcheck?: Readonly<Record<string, unknown>>;
  readonly Labels?: Readonly<Record<string, string>>;
  readonly OnBuild?: readonly string[];
  readonly StopSignal?: string;
  readonly User?: string;
  readonly Volumes?: Readonly<Record<string, object>>;
  readonly WorkingDir?: string;
}

interface Instruction {
  /** Upper case. */
  readonly word: string;
  readonly rest: string;
}

type Change = (config: ConfigJson, rest: string) => ConfigJson;

const shell = ["/bin/sh", "-c"] as const;
const maxPorts = 65_536;

/**
 * Applies `docker import --change` instructions to an empty configuration. Pure.
 *
 * @throws {EngineError} `invalid` in the reference engine's words.
 */
export function applyChanges(changes: readonly string[]): ConfigJson {
  let config: ConfigJson = {};
  for (const { word, rest } of parseInstructions(changes.join("\n"))) {
    const change = table[word];
    if (change === undefined) throw invalid(`${word} is not a valid change command`);
    config = change(config, rest);
  }
  return config;
}

// compat: the instructions that dockerd takes for import and commit; the others would need a build.
const table: Readonly<Record<string, Change>> = {
  CMD: (config, rest) => ({ ...config, Cmd: commandLine(rest) }),
  ENTRYPOINT: (config, rest) => ({ ...config, Entrypoint: commandLine(rest) }),
  ENV: (config, rest) => ({
    ...config,
    Env: namesAndValues("ENV", rest).reduce(
      (env, [name, value]) => setEnv(env, name, expand(value, config)),
      [...(config.Env ?? [])],
    ),
  }),
  EXPOSE: (config, rest) => {
    const ports = words("EXPOSE", rest).flatMap((word) => exposedPorts(expand(word, config)));
    return { ...config, ExposedPorts: { ...config.ExposedPorts, ...asSet(ports) } };
  },
  HEALTHCHECK: (config, rest) => ({ ...config, Healthcheck: healthcheck(rest) }),
  LABEL: (config, rest) => {
    const labels = namesAndValues("LABEL", rest).map(([name, value]) => [expand(name, config), expand(value, config)]);
    return { ...config, Labels: { ...config.Labels, ...Object.fromEntries(labels) } };
  },
  ONBUILD: (config, rest) => ({ ...config, OnBuild: [...(config.OnBuild ?? []), onBuild(rest)] }),
  STOPSIGNAL: (config, rest) => ({ ...config, StopSignal: stopSignal(expand(one("STOPSIGNAL", rest), config)) }),
  USER: (config, rest) => ({ ...config, User: expand(one("USER", rest), config) }),
  VOLUME: (config, rest) => {
    const volumes = (jsonStrings(rest) ?? words("VOLUME", rest)).map((volume) => expand(volume, config).trim());
    if (volumes.length === 0) throw invalid("VOLUME requires at least one argument");
    if (volumes.includes("")) throw invalid("VOLUME specified can not be an empty string");
    return { ...config, Volumes: { ...config.Volumes, ...asSet(volumes) } };
  },
  WORKDIR: (config, rest) => {
    const path = expand(one("WORKDIR", rest), config);
    const from = path.startsWith("/") ? "" : (config.WorkingDir ?? "");
    return { ...config, WorkingDir: cleanPath(`${from}/${path}`) };
  },
};

/** Logical lines: comments and blank lines gone, `\` at the end of a line joins the next. */
function parseInstructions(text: string): readonly Instruction[] {
  const instructions: Instruction[] = [];
  let open = "";
  const lines = text.split(/\r?\n/);
  for (const [index, line] of lines.entries()) {
    if (/^\s*(#|$)/.test(line) && !(open !== "" && index === lines.length - 1)) continue;
    const joined = open + line;
    if (/\\[ \t]*$/.test(joined) && index < lines.length - 1) {
      open = joined.replace(/\\[ \t]*$/, "");
      continue;
    }
    open = "";
    const [, word = "", rest = ""] = /^\s*(\S+)\s*([\s\S]*?)\s*$/.exec(joined) ?? [];
    if (word !== "") instructions.push({ word: word.toUpperCase(), rest });
  }
  return instructions;
}

function commandLine(rest: string): readonly string[] {
  return jsonStrings(rest) ?? (rest === "" ? [] : [...shell, rest]);
}

function jsonStrings(rest: string): readonly string[] | undefined {
  if (!rest.startsWith("[")) return undefined;
  try {
    const json: unknown = JSON.parse(rest);
    return Array.isArray(json) && json.every((item) => typeof item === "string") ? json : undefined;
  } catch {
    // compat: what is no JSON is a shell command that begins with a bracket.
    return undefined;
  }
}

function one(word: string, rest: string): string {
  if (rest === "") throw invalid(`${word} requires exactly one argument`);
  return rest;
}

function words(word: string, rest: string): readonly string[] {
  if (rest === "") throw invalid(`${word} requires at least one argument`);
  return rest.split(/\s+/);
}

/** `a=b c="d e"`, or the old form `a b c` that sets `a` to `b c`. */
function namesAndValues(word: string, rest: string): readonly (readonly [string, string])[] {
  if (rest === "") throw invalid(`${word} requires at least one argument`);
  const parts = splitQuoted(rest);
  if (!(parts[0] as string).includes("=")) {
    const [, name = "", value = ""] = /^(\S+)\s+([\s\S]*)$/.exec(rest) ?? [];
    if (name === "") throw invalid(`${word} must have two arguments`);
    return [[name, value]];
  }
  return parts.map((part) => {
    const at = part.indexOf("=");
    if (at === -1) {
      throw invalid(`Syntax error - can't find = in ${JSON.stringify(part)}. Must be of the form: name=value`);
    }
    if (at === 0) throw invalid(`${word} names can not be blank`);
    return [part.slice(0, at), part.slice(at + 1)] as const;
  });
}

/** Splits at blanks outside quotes; quotes and backslashes stay, for `expand` to take off. */
function splitQuoted(text: string): readonly string[] {
  const parts: string[] = [];
  let part = "";
  let quote = "";
  for (let i = 0; i < text.length; i++) {
    const c = text[i] as string;
    if (quote === "" && /\s/.test(c)) {
      if (part !== "") parts.push(part);
      part = "";
      continue;
    }
    part += c;
    if (c === "\\" && quote !== "'" && i + 1 < text.length) part += text[++i];
    else if (quote === "" && (c === '"' || c === "'")) quote = c;
    else if (c === quote) quote = "";
  }
  return part === "" ? parts : [...parts, part];
}

/** Takes quotes off and replaces `$NAME`, `${NAME}`, `${NAME:-word}` and `${NAME:+word}` from the environment so far. */
function expand(text: string, config: ConfigJson): string {
  const environment = new Map((config.Env ?? []).map((entry) => splitOnce(entry)));
  return expandIn(text, environment);
}

function expandIn(text: string, environment: ReadonlyMap<string, string>): string {
  let out = "";
  let quote = "";
  for (let i = 0; i < text.length; i++) {
    const c = text[i] as string;
    if (quote === "'") {
      if (c === "'") quote = "";
      else out += c;
    } else if (c === "\\" && i + 1 < text.length) {
      const next = text[++i] as string;
      out += quote === '"' && !'"$\\'.includes(next) ? `\\${next}` : next;
    } else if (c === "$") {
      const [whole, value] = variable(text.slice(i), environment);
      out += value;
      i += whole.length - 1;
    } else if (c === quote) quote = "";
    else if (quote === "" && (c === '"' || c === "'")) quote = c;
    else out += c;
  }
  return out;
}

function variable(text: string, environment: ReadonlyMap<string, string>): readonly [string, string] {
  const plain = /^\$([A-Za-z_][A-Za-z0-9_]*)/.exec(text);
  if (plain !== null) return [plain[0], environment.get(plain[1] as string) ?? ""];
  const braced = /^\$\{([A-Za-z_][A-Za-z0-9_]*)(?::([-+])([^}]*))?\}/.exec(text);
  if (braced === null) return ["$", "$"];
  const [whole, name = "", operator, word = ""] = braced;
  const value = environment.get(name) ?? "";
  if (operator === "-") return [whole, value === "" ? expandIn(word, environment) : value];
  if (operator === "+") return [whole, value === "" ? "" : expandIn(word, environment)];
  return [whole, value];
}

function setEnv(env: readonly string[], name: string, value: string): string[] {
  const entry = `${name}=${value}`;
  const at = env.findIndex((old) => splitOnce(old)[0] === name);
  return at === -1 ? [...env, entry] : env.with(at, entry);
}

function splitOnce(entry: string): readonly [string, string] {
  const at = entry.indexOf("=");
  return at === -1 ? [entry, ""] : [entry.slice(0, at), entry.slice(at + 1)];
}

function exposedPorts(word: string): readonly string[] {
  const [range = "", protocol = "tcp"] = word.split("/");
  const [, first = "", last = first] = /^(\d+)(?:-(\d+))?$/.exec(range) ?? [];
  const [from, to] = [Number(first), Number(last)];
  if (first === "" || from >= maxPorts || to >= maxPorts || to < from) throw invalid(`Invalid containerPort: ${range}`);
  if (!["tcp", "udp", "sctp"].includes(protocol.toLowerCase())) throw invalid(`Invalid proto: ${protocol}`);
  return Array.from({ length: to - from + 1 }, (_, i) => `${from + i}/${protocol.toLowerCase()}`);
}

function onBuild(rest: string): string {
  const trigger = one("ONBUILD", rest).split(/\s+/)[0]?.toUpperCase() ?? "";
  if (trigger === "ONBUILD") throw invalid("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed");
  if (trigger === "FROM" || trigger === "MAINTAINER") throw invalid(`${trigger} isn't allowed as an ONBUILD trigger`);
  return rest;
}

function stopSignal(name: string): string {
  const number = Number(name);
  if (Number.isInteger(number) && number >= 1 && number <= 64) return name;
  const bare = name.toUpperCase().replace(/^SIG/, "");
  if (`SIG${bare}` in constants.signals || /^RTM(IN(\+\d{1,2})?|AX(-\d{1,2})?)$/.test(bare)) return name;
  throw invalid(`invalid signal: ${name}`);
}

const healthOptions: Readonly<Record<string, string>> = {
  interval: "Interval",
  timeout: "Timeout",
  "start-period": "StartPeriod",
  "start-interval": "StartInterval",
  retries: "Retries",
};

function healthcheck(rest: string): Readonly<Record<string, unknown>> {
  const options: Record<string, unknown> = {};
  let text = rest;
  for (let flag = /^--([a-z-]+)=(\S+)\s*/.exec(text); flag !== null; flag = /^--([a-z-]+)=(\S+)\s*/.exec(text)) {
    const [whole, name = "", value = ""] = flag;
    const field = healthOptions[name];
    if (field === undefined) throw invalid(`unknown flag: ${name}`);
    options[field] = name === "retries" ? retries(value) : durationNs(value);
    text = text.slice(whole.length);
  }
  const [, kind = "", command = ""] = /^(\S+)\s*([\s\S]*)$/.exec(text) ?? [];
  if (kind === "") throw invalid("HEALTHCHECK requires at least one argument");
  switch (kind.toUpperCase()) {
    case "NONE":
      if (command !== "") throw invalid("HEALTHCHECK NONE takes no arguments");
      return { Test: ["NONE"] };
    case "CMD": {
      if (command === "") throw invalid("Missing command after HEALTHCHECK CMD");
      const exec = jsonStrings(command);
      return { ...options, Test: exec === undefined ? ["CMD-SHELL", command] : ["CMD", ...exec] };
    }
    default:
      throw invalid(`Unknown type ${JSON.stringify(kind.toUpperCase())} in HEALTHCHECK (try CMD)`);
  }
}

function retries(value: string): number {
  if (!/^\d+$/.test(value)) throw invalid(`--retries must be at least 0 (not ${value})`);
  return Number(value);
}

const unitNs: Readonly<Record<string, number>> = { ns: 1, us: 1e3, µs: 1e3, ms: 1e6, s: 1e9, m: 60e9, h: 3600e9 };

/** Go's duration syntax, `1m30s`, in nanoseconds. */
function durationNs(text: string): number {
  if (!/^(\d+(\.\d+)?(ns|us|µs|ms|s|m|h))+$/.test(text))
    throw invalid(`time: invalid duration ${JSON.stringify(text)}`);
  let total = 0;
  for (const [, value, unit] of text.matchAll(/(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h)/g)) {
    total += Number(value) * (unitNs[unit as string] as number);
  }
  return Math.round(total);
}

function cleanPath(path: string): string {
  const parts: string[] = [];
  for (const part of path.split("/")) {
    if (part === "..") parts.pop();
    else if (part !== "" && part !== ".") parts.push(part);
  }
  return `/${parts.join("/")}`;
}

function asSet(names: readonly string[]): Record<string, object> {
  return Object.fromEntries(names.map((name) => [name, {}]));
}

function invalid(message: string): EngineError {
  return new EngineError("invalid", message);
}
