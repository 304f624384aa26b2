import { randomBytes, randomUUID } from "node:crypto";
import { open, readFile, rename } from "node:fs/promises";
import { EngineError } from "../base/errors.ts";

/**
 * The key that seals secret values in the store; made at the first start. It is a file readable by root alone, beside the
 * store: it protects copies of the database (backups, support bundles), not a host whose root is taken.
 */
export async function sealKey(path: string): Promise<Uint8Array> {
  const key = await readOrMake(path, () => randomBytes(32));
  if (key.length !== 32)
    throw new EngineError("internal", `the seal key ${path} is damaged: ${key.length} bytes, expected 32`);
  return key;
}

/** What `docker info` shows as ID. */
export async function engineId(path: string): Promise<string> {
  return (await readOrMake(path, () => Buffer.from(randomUUID()))).toString("utf8").trim();
}

/** Whole or not at all: written beside, synced, renamed. */
async function readOrMake(path: string, make: () => Buffer): Promise<Buffer> {
  try {
    return await readFile(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
  }
  const value = make();
  const file = await open(`${path}.new`, "w", 0o600);
  try {
    await file.writeFile(value);
    await file.sync();
  } finally {
    await file.close();
  }
  await rename(`${path}.new`, path);
  return value;
}
