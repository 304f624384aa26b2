import { existsSync, renameSync, rmSync } from "node:fs";
import { EngineError } from "../../base/errors.ts";

/** How much of a container's output is kept. */
export interface LogLimits {
  /** A file that has reached this is put aside; undefined: never. */
  readonly maximumBytes: number | undefined;
  /** The one being written included. */
  readonly maximumFiles: number;
}

interface Driver {
  readonly limits: LogLimits;
  /** How Docker names itself when it refuses an option. */
  readonly title: string;
  readonly options: readonly string[];
}

const drivers: Readonly<Record<string, Driver>> = {
  "json-file": {
    limits: { maximumBytes: undefined, maximumFiles: 1 },
    title: "json-file log driver",
    options: ["max-size", "max-file", "compress", "labels", "labels-regex", "env", "env-regex", "tag"],
  },
  local: {
    limits: { maximumBytes: 20 * 1000 * 1000, maximumFiles: 5 },
    title: "log driver local",
    options: ["max-size", "max-file", "compress"],
  },
};

/** Accepted, so that a daemon.json made for Docker works, and told about. */
const withoutEffect = new Set(["compress", "labels", "labels-regex", "env", "env-regex", "tag"]);

/**
 * `--log-opt` of a driver that keeps files.
 * @throws {EngineError} `invalid` in Docker's words.
 */
export function parseLogLimits(driverName: string, options: Readonly<Record<string, string>>): LogLimits {
  const driver = drivers[driverName];
  if (driver === undefined) return { maximumBytes: undefined, maximumFiles: 1 };
  for (const name of Object.keys(options)) {
    // compat:
    if (!driver.options.includes(name))
      throw new EngineError("invalid", `unknown log opt '${name}' for ${driver.title}`);
  }
  const size = options["max-size"];
  const files = options["max-file"];
  return {
    maximumBytes: size === undefined ? driver.limits.maximumBytes : parseSize(size),
    maximumFiles: files === undefined ? driver.limits.maximumFiles : parseCount(files),
  };
}

export function logWarnings(options: Readonly<Record<string, string>>): readonly string[] {
  return Object.keys(options)
    .filter((name) => withoutEffect.has(name))
    .map((name) => `--log-opt ${name} has no effect in this version`);
}

/** Go's units.FromHumanSize: thousands. `-1` is no limit. */
function parseSize(text: string): number | undefined {
  if (text === "-1") return undefined;
  const match = /^(\d+(?:\.\d+)?)\s*([kmgtp]?)(?:i?b)?$/i.exec(text);
  // compat:
  if (match === null) throw new EngineError("invalid", `invalid size: '${text}'`);
  const power = ["", "k", "m", "g", "t", "p"].indexOf((match[2] ?? "").toLowerCase());
  const bytes = Math.floor(Number(match[1]) * 1000 ** power);
  // compat:
  if (bytes <= 0) throw new EngineError("invalid", "max-size must be a positive number");
  return bytes;
}

function parseCount(text: string): number {
  const count = /^[+-]?\d+$/.test(text) ? Number(text) : Number.NaN;
  // compat:
  if (Number.isNaN(count)) {
    throw new EngineError("invalid", `strconv.Atoi: parsing ${JSON.stringify(text)}: invalid syntax`);
  }
  // compat:
  if (count < 1) throw new EngineError("invalid", "max-file cannot be less than 1");
  return count;
}

/** Where a file is after `age` rotations: `x.log`, `x.log.1`, … */
export function rotatedPath(path: string, age: number): string {
  return age === 0 ? path : `${path}.${age}`;
}

/** Makes room at `path`. Readers keep what they have open: files are renamed and removed, never cut. */
export function rotate(path: string, maximumFiles: number): void {
  for (let age = maximumFiles - 1; age > 0; age--) {
    if (existsSync(rotatedPath(path, age - 1))) renameSync(rotatedPath(path, age - 1), rotatedPath(path, age));
  }
  if (maximumFiles === 1) rmSync(path, { force: true });
}
