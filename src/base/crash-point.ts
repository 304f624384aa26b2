import { appendFileSync } from "node:fs";

/**
 * Fault injection for the crash tests: with `WEFT_CRASH_AFTER=name` or `name@N` in the environment the process kills
 * itself (SIGKILL, nothing is flushed) right after the N-th step of that name; with `WEFT_CRASH_TRACE=file` it writes the
 * name of each kind of step there when it is first done. Without either a call costs one comparison.
 */
const armed = parse(process.env["WEFT_CRASH_AFTER"]);
const traceFile = process.env["WEFT_CRASH_TRACE"];
const idle = armed === undefined && traceFile === undefined;
const traced = new Set<string>();
let seen = 0;

function parse(text: string | undefined): { readonly name: string; readonly count: number } | undefined {
  if (text === undefined || text === "") return undefined;
  const [name = "", count = "1"] = text.split("@");
  return { name, count: Number(count) };
}

/** Marks that the step `name` of a plan has just been done. Names are the kinds of plan steps, such as `link.ensure`. */
export function crashPoint(name: string): void {
  if (idle) return;
  if (traceFile !== undefined && !traced.has(name)) {
    traced.add(name);
    appendFileSync(traceFile, `${name}\n`);
  }
  if (armed?.name !== name) return;
  seen += 1;
  if (seen >= armed.count) process.kill(process.pid, "SIGKILL");
}
