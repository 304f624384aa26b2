import { createHash } from "node:crypto";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

// Synchronous on purpose: these are a few hundred bytes in the page cache, some 0.1 ms for all of them; through libuv's pool the
// same takes 5 to 20 ms on a busy host, more than all of a container's networking.

/**
 * Writes a file that a container sees, in place (it is bind-mounted, so its inode must stay), unless somebody has edited it
 * since we last did: a hash of what we wrote lies beside it.
 */
export function writeUnlessEdited(directory: string, name: string, text: string): void {
  const path = join(directory, name);
  const hashPath = `${path}.hash`;
  const [now, recorded] = [readOrUndefined(path), readOrUndefined(hashPath)];
  const ours = recorded?.split("\n") ?? [];
  if (now !== undefined && now !== "" && recorded !== undefined && !ours.includes(hashOf(now))) return;
  // Both hashes count until the file is written, or a crash in between would look like somebody's edit.
  const hashes = now === undefined || now === text ? [hashOf(text)] : [hashOf(text), hashOf(now)];
  if (hashes.join("\n") !== recorded) writeFileSync(hashPath, hashes.join("\n"), { mode: 0o644 });
  if (now !== text) writeFileSync(path, text, { mode: 0o644 });
}

export function ensureDirectory(directory: string): void {
  mkdirSync(directory, { recursive: true, mode: 0o710 });
}

export function readOrUndefined(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return undefined;
    throw error;
  }
}

function hashOf(text: string): string {
  return createHash("sha256").update(text).digest("hex");
}
