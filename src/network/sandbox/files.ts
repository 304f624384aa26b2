import { createHash } from "node:crypto";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";

/**
 * Writes a file that a container sees, in place (it is bind-mounted, so its inode must stay), unless somebody has edited it
 * since we last did: a hash of what we wrote lies beside it.
 */
export async function writeUnlessEdited(directory: string, name: string, text: string): Promise<void> {
  const path = join(directory, name);
  const hashPath = `${path}.hash`;
  const [now, recorded] = await Promise.all([readOrUndefined(path), readOrUndefined(hashPath)]);
  const ours = recorded?.split("\n") ?? [];
  if (now !== undefined && now !== "" && recorded !== undefined && !ours.includes(hashOf(now))) return;
  // Both hashes count until the file is written, or a crash in between would look like somebody's edit.
  const hashes = now === undefined || now === text ? [hashOf(text)] : [hashOf(text), hashOf(now)];
  if (hashes.join("\n") !== recorded) await writeFile(hashPath, hashes.join("\n"), { mode: 0o644 });
  if (now !== text) await writeFile(path, text, { mode: 0o644 });
}

export async function ensureDirectory(directory: string): Promise<void> {
  await mkdir(directory, { recursive: true, mode: 0o710 });
}

export async function readOrUndefined(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, "utf8");
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return undefined;
    throw error;
  }
}

function hashOf(text: string): string {
  return createHash("sha256").update(text).digest("hex");
}
