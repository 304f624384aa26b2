import type { run } from "node:test";

export interface Totals {
  readonly passed: number;
  readonly failed: number;
  readonly skipped: number;
}

/** Prints one line a test (leaf tests only), failures with their reason, skips with theirs, and counts them. */
export async function reportTests(events: ReturnType<typeof run>, print: (line: string) => void): Promise<Totals> {
  const total = { passed: 0, failed: 0, skipped: 0 };
  const output = new Map<string, string[]>();
  for await (const event of events) {
    if (event.type === "test:stdout" || event.type === "test:stderr") {
      const lines = output.get(event.data.file) ?? [];
      lines.push(event.data.message);
      output.set(event.data.file, lines.slice(-200));
    }
    if (event.type !== "test:pass" && event.type !== "test:fail") continue;
    const { name, file, details, skip } = event.data;
    const failed = event.type === "test:fail";
    // Suites and files repeat what their tests said, unless they failed on their own.
    const isGroup = details.type === "suite" || name === file;
    const cause = failed ? details.error : undefined;
    if (isGroup && (!failed || /subtest/.test(String(cause?.message)))) continue;
    const where = file === undefined ? "" : ` (${file.replace(/^.*\/(?=(src|test|tools)\/)/, "")})`;
    if (skip !== undefined && skip !== false) {
      total.skipped += 1;
      print(`skip    ${name}${where}${typeof skip === "string" ? `: ${skip}` : ""}`);
    } else if (failed) {
      total.failed += 1;
      print(`not-ok  ${name}${where}`);
      const reason =
        cause?.cause instanceof Error ? (cause.cause.stack ?? cause.cause.message) : String(cause?.cause ?? cause);
      for (const line of reason.split("\n").slice(0, 40)) print(`      | ${line}`);
      for (const line of (output.get(file ?? "") ?? []).join("").trimEnd().split("\n").slice(-20))
        if (line !== "") print(`      > ${line}`);
    } else {
      total.passed += 1;
      print(`ok      ${name}${where}`);
    }
  }
  return total;
}
