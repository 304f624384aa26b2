/**
 * Fault injection for the crash tests: with `WEFT_CRASH_AFTER=name` or `name@N` in the environment the process kills
 * itself (SIGKILL, nothing is flushed) right after the N-th step of that name. Without it a call costs one comparison.
 */
const armed = parse(process.env["WEFT_CRASH_AFTER"]);
let seen = 0;

function parse(text: string | undefined): { readonly name: string; readonly count: number } | undefined {
  if (text === undefined || text === "") return undefined;
  const [name, count] = text.split("@");
  return { name: name as string, count: Number(count ?? "1") };
}

/** Marks that the step `name` of a plan has just been done. Names are the kinds of plan steps, such as `link.ensure`. */
export function crashPoint(name: string): void {
  if (armed === undefined || armed.name !== name) return;
  seen += 1;
  if (seen >= armed.count) process.kill(process.pid, "SIGKILL");
}
