// Runs every check and test; the last line is "N passed, N failed, N skipped". Arguments name parts: check unit simulation
// integration conformance, or files. Without any, all parts run.
import { spawn } from "node:child_process";
import { globSync } from "node:fs";
import { run } from "node:test";
import { fileURLToPath } from "node:url";
import { runChecks } from "./check.ts";
import { reportTests, type Totals } from "./report.ts";

const home = fileURLToPath(new URL("..", import.meta.url));
const print = (line: string) => process.stdout.write(`${line}\n`);

interface Part {
  readonly name: string;
  readonly run: () => Promise<Totals>;
}

async function nodeTests(patterns: readonly string[], concurrency: number): Promise<Totals> {
  const files = patterns
    .flatMap((pattern) => globSync(pattern, { cwd: home }))
    .sort()
    .map((file) => `${home}${file}`);
  if (files.length === 0) return { passed: 0, failed: 0, skipped: 0 };
  return reportTests(run({ files, concurrency, timeout: 900_000 }), print);
}

/** A script whose last line counts what it checked. */
async function script(path: string): Promise<Totals> {
  const child = spawn(path, { cwd: home, stdio: ["ignore", "pipe", "inherit"], env: process.env });
  let output = "";
  child.stdout.on("data", (chunk: Buffer) => {
    output += String(chunk);
    process.stdout.write(chunk);
  });
  const code = await new Promise<number | null>((resolve, reject) => {
    child.on("error", reject);
    child.on("close", resolve);
  });
  const match = /(\d+) passed, (\d+) failed, (\d+) skipped\s*$/.exec(output);
  if (match === null) {
    print(`not-ok  ${path} ended with ${code} before it counted its checks`);
    return { passed: 0, failed: 1, skipped: 0 };
  }
  return { passed: Number(match[1]), failed: Number(match[2]), skipped: Number(match[3]) };
}

const parts: readonly Part[] = [
  { name: "check", run: async () => ({ ...runChecks(print), skipped: 0 }) },
  { name: "unit", run: () => nodeTests(["src/**/*.test.ts", "tools/*.test.ts"], 2) },
  { name: "simulation", run: () => nodeTests(["test/simulation/**/*.test.ts"], 2) },
  { name: "integration", run: () => nodeTests(["test/integration/**/*.test.ts"], 1) },
  { name: "conformance", run: () => script("test/conformance/run") },
];

async function main(wanted: readonly string[]): Promise<number> {
  const files = wanted.filter((word) => word.endsWith(".ts"));
  const unknown = wanted.filter((word) => !files.includes(word) && !parts.some((part) => part.name === word));
  if (unknown.length > 0) {
    print(`weft test: no part "${unknown[0]}": expected ${parts.map((part) => part.name).join(", ")} or test files`);
    return 1;
  }
  const total = { passed: 0, failed: 0, skipped: 0 };
  const chosen: readonly Part[] =
    files.length > 0
      ? [{ name: "files", run: () => nodeTests(files, 1) }]
      : parts.filter((part) => wanted.length === 0 || wanted.includes(part.name));
  for (const part of chosen) {
    const began = performance.now();
    print(`\n== ${part.name}`);
    const { passed, failed, skipped } = await part.run();
    total.passed += passed;
    total.failed += failed;
    total.skipped += skipped;
    print(
      `== ${part.name}: ${passed} passed, ${failed} failed, ${skipped} skipped in ${((performance.now() - began) / 1000).toFixed(0)} s`,
    );
  }
  print(`\n${total.passed} passed, ${total.failed} failed, ${total.skipped} skipped`);
  return total.failed === 0 && total.passed > 0 ? 0 : 1;
}

process.exitCode = await main(process.argv.slice(2));
