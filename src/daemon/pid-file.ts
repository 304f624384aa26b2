import { mkdir, open, readFile, unlink } from "node:fs/promises";
import { dirname } from "node:path";
import { EngineError } from "../base/errors.ts";

/**
 * Writes our process id into `path`, and takes it away when disposed. A file that a dead process left is replaced.
 *
 * @throws {EngineError} `conflict` when another weftd lives there; the message names it.
 */
export async function claimPidFile(path: string, what: string): Promise<AsyncDisposable> {
  await mkdir(dirname(path), { recursive: true });
  for (let attempt = 0; attempt < 3; attempt++) {
    try {
      const file = await open(path, "wx", 0o644);
      await file.writeFile(String(process.pid));
      await file.close();
      return { [Symbol.asyncDispose]: () => release(path) };
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
    }
    const owner = await livingOwner(path);
    if (owner !== undefined) {
      throw new EngineError("conflict", `weftd is already running as process ${owner}: it holds the ${what} ${path}`);
    }
    await unlink(path).catch(ignoreMissing);
  }
  throw new EngineError("conflict", `cannot claim the ${what} ${path}: another weftd is starting`);
}

/** Process ids are used again, above all after a reboot: what counts is that the process is a weftd. */
async function livingOwner(path: string): Promise<number | undefined> {
  const pid = Number((await readFile(path, "utf8").catch(() => "")).trim());
  if (!Number.isInteger(pid) || pid <= 0 || pid === process.pid) return undefined;
  const command = await readFile(`/proc/${pid}/cmdline`, "utf8").catch(() => "");
  return /daemon\/main\.ts/.test(command) ? pid : undefined;
}

async function release(path: string): Promise<void> {
  const owner = await readFile(path, "utf8").catch(() => "");
  if (Number(owner) === process.pid) await unlink(path).catch(ignoreMissing);
}

function ignoreMissing(error: NodeJS.ErrnoException): void {
  if (error.code !== "ENOENT") throw error;
}
