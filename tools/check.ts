// The static checks: format and lint, types, imports between rooms, lockfile, conformance copy, lint fixture. Each prints one line.
import { spawnSync } from "node:child_process";
import { copyFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { findImportFaults } from "./imports.ts";

const home = fileURLToPath(new URL("..", import.meta.url));
// Biome's own package lists binaries for systems we do not run on; its two Linux packages are the dependency.
const biome = `${home}node_modules/@biomejs/cli-linux-${process.arch}/biome`;

/** The tools are started with this Node, whatever `node` the path holds. */
const env = {
  ...process.env,
  PATH: `${fileURLToPath(new URL(".", `file://${process.execPath}`))}:${process.env["PATH"]}`,
};

interface Check {
  readonly name: string;
  /** Lines of what is wrong; none: the check passed. */
  readonly run: () => readonly string[];
}

function command(...args: readonly string[]): readonly string[] {
  const [file, ...rest] = args;
  const done = spawnSync(file as string, rest, { cwd: home, encoding: "utf8", env });
  return done.status === 0 ? [] : `${done.stdout}${done.stderr}`.trimEnd().split("\n");
}

function trackedFiles(): readonly string[] {
  const done = spawnSync("git", ["ls-files", "-co", "--exclude-standard"], { cwd: home, encoding: "utf8" });
  return done.stdout.split("\n").filter((path) => path !== "");
}

/** The linter's type-aware rules are young: a fixture of faults must go on being flagged. */
function lintFixture(): readonly string[] {
  const directory = mkdtempSync(join(tmpdir(), "weft-lint-"));
  try {
    const config = JSON.parse(readFileSync(`${home}biome.json`, "utf8")) as Record<string, unknown>;
    const standalone = { ...config, $schema: undefined, files: { includes: ["**"] }, vcs: undefined };
    writeFileSync(join(directory, "biome.json"), JSON.stringify(standalone));
    copyFileSync(`${home}test/lint-fixture/faults.txt`, join(directory, "faults.ts"));
    const done = spawnSync(biome, ["lint", "--max-diagnostics=100", "."], {
      cwd: directory,
      encoding: "utf8",
      env,
    });
    const output = `${done.stdout}${done.stderr}`;
    return ["noFloatingPromises", "noMisusedPromises", "useExhaustiveSwitchCases", "noExplicitAny", "noEnum"]
      .filter((rule) => !output.includes(`/${rule}`))
      .map((rule) => `test/lint-fixture/faults.txt: ${rule} flagged nothing`);
  } finally {
    rmSync(directory, { recursive: true });
  }
}

/** A lockfile must not name the registry it was made with. */
function lockfile(): readonly string[] {
  const text = readFileSync(`${home}package-lock.json`, "utf8");
  return text.includes('"resolved"') ? ["package-lock.json holds download addresses; see .npmrc"] : [];
}

/** The walkthrough may grow, never shrink: every check listed in checks.txt is still in it, by name. */
function walkthrough(): readonly string[] {
  const script = readFileSync(`${home}test/conformance/walkthrough`, "utf8");
  const present = new Set(Array.from(script.matchAll(/(?:check|fails|prints)\s+"([^"]*)"/g), (match) => match[1]));
  const wanted = readFileSync(`${home}test/conformance/checks.txt`, "utf8").trimEnd().split("\n");
  return wanted
    .filter((name) => !present.has(name))
    .map((name) => `test/conformance/walkthrough lost the check "${name}"`);
}

const checks: readonly Check[] = [
  { name: "format and lint", run: () => command(biome, "check", "--error-on-warnings", ".") },
  { name: "lint fixture", run: lintFixture },
  { name: "types", run: () => command(`${home}node_modules/.bin/tsc`, "--pretty", "false") },
  { name: "imports between rooms", run: () => findImportFaults(home, trackedFiles()) },
  { name: "lockfile", run: lockfile },
  { name: "conformance checks", run: walkthrough },
  {
    name: "shell scripts",
    run: () =>
      ["weft", "weftd"].flatMap((path) => command("sh", "-n", path)).concat(command("bash", "-n", "tools/rootfs")),
  },
];

/** Runs them all; returns how many passed and failed. */
export function runChecks(print: (line: string) => void): { passed: number; failed: number } {
  let passed = 0;
  let failed = 0;
  for (const check of checks) {
    const faults = check.run();
    if (faults.length === 0) passed += 1;
    else failed += 1;
    print(`${faults.length === 0 ? "ok     " : "not-ok "} ${check.name}`);
    for (const fault of faults.slice(0, 60)) print(`      | ${fault}`);
  }
  return { passed, failed };
}

if (import.meta.main) {
  const { failed } = runChecks((line) => process.stdout.write(`${line}\n`));
  process.exitCode = failed === 0 ? 0 : 1;
}
