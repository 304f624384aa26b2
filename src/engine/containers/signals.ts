import { constants } from "node:os";
import { EngineError } from "../../base/errors.ts";

const realTimeFirst = 34;
const realTimeLast = 64;

/**
 * `TERM`, `SIGTERM`, `15`, `RTMIN+3`.
 * @throws {EngineError} `invalid` in Docker's words.
 */
export function parseSignal(text: string): number {
  const found = lookup(text.trim().toUpperCase());
  if (found !== undefined) return found;
  // compat:
  throw new EngineError("invalid", `invalid signal: ${text}`);
}

function lookup(text: string): number | undefined {
  if (/^\d+$/.test(text)) {
    const number = Number(text);
    return number >= 1 && number <= realTimeLast ? number : undefined;
  }
  const name = text.startsWith("SIG") ? text.slice(3) : text;
  const realTime = /^RT(MIN|MAX)(?:([+-])(\d{1,2}))?$/.exec(name);
  if (realTime !== null) {
    const base = realTime[1] === "MIN" ? realTimeFirst : realTimeLast;
    const number = base + (realTime[2] === "-" ? -1 : 1) * Number(realTime[3] ?? 0);
    return number >= realTimeFirst && number <= realTimeLast ? number : undefined;
  }
  return (constants.signals as Readonly<Record<string, number | undefined>>)[`SIG${name}`];
}
