// The order of the rooms (ARCHITECTURE.md): imports point down, and enter another room through its mod.ts.
import { readFileSync } from "node:fs";
import { dirname, join, normalize } from "node:path";

const rooms = [
  "daemon",
  "cli",
  "ui",
  "lab",
  "api",
  "cluster",
  "engine",
  "network",
  "gossip",
  "kernel",
  "store",
  "wire",
  "base",
];
/** base, and generated or codec modules of wire, are libraries: any file of theirs may be imported. */
const open = new Set(["base", "wire"]);
/** Rooms that may import only these others. */
const narrow: Readonly<Record<string, readonly string[]>> = {
  lab: ["kernel", "base"],
  ui: ["api", "base"],
  cli: ["lab", "base"],
};

function roomOf(path: string): string | undefined {
  const [top, room] = path.split("/");
  return top === "src" ? room : undefined;
}

/** One line per import that breaks the order. */
export function findImportFaults(home: string, files: readonly string[]): readonly string[] {
  const faults: string[] = [];
  for (const file of files.filter(
    (path) => path.startsWith("src/") && path.endsWith(".ts") && !path.startsWith("src/wire/gen/"),
  )) {
    const from = roomOf(file) as string;
    if (!rooms.includes(from)) faults.push(`${file}: room "${from}" is not in the order of tools/imports.ts`);
    let text: string;
    try {
      text = readFileSync(join(home, file), "utf8");
    } catch {
      continue;
    }
    for (const match of text.matchAll(/(?:from|import)\s*\(?"(\.[^"]+)"/g)) {
      const target = normalize(join(dirname(file), match[1] as string));
      const to = roomOf(target);
      if (to === undefined || to === from) continue;
      const down = narrow[from]?.includes(to) ?? rooms.indexOf(to) > rooms.indexOf(from);
      if (!down) faults.push(`${file}: ${from} must not import ${to}`);
      // A folder inside a room may have a door of its own (network/ipam/mod.ts); tests may look behind it.
      else if (!open.has(to) && !target.endsWith("/mod.ts") && !file.endsWith(".test.ts")) {
        faults.push(`${file}: import ${target} through its mod.ts`);
      }
    }
  }
  return faults;
}
