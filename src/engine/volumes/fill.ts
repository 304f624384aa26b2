import { execFile } from "node:child_process";
import { mkdir, readdir, rm, rmdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { layersOf, locate, type SnapshotMount } from "../runtime-spec/rootfs.ts";

const run = promisify(execFile);

/**
 * Copies what an image has at `destination` into an empty volume, owners, modes and links included; a volume that
 * holds something is left alone. The image is mounted read-only while it is looked at, at `scratch`.
 */
export async function fillVolume(options: {
  readonly rootfs: readonly SnapshotMount[];
  readonly destination: string;
  readonly volumePath: string;
  readonly scratch: string;
}): Promise<void> {
  const layers = layersOf(options.rootfs);
  const place = locate(layers, options.destination);
  if (place === undefined || !(await stat(place)).isDirectory()) return;
  if ((await readdir(options.volumePath)).length > 0) return;
  if (layers.length === 1) {
    await copyTree(place, options.volumePath);
    return;
  }
  await mkdir(options.scratch, { recursive: true, mode: 0o700 });
  await run("mount", ["-t", "overlay", "-o", `ro,lowerdir=${layers.join(":")}`, "overlay", options.scratch]);
  try {
    const mounted = locate([options.scratch], options.destination);
    if (mounted !== undefined) await copyTree(mounted, options.volumePath);
  } finally {
    await run("umount", [options.scratch]);
    await rmdir(options.scratch);
  }
}

/** Undoes what a daemon that died while it copied left mounted. */
export async function releaseScratch(directory: string): Promise<void> {
  for (const name of await readdir(directory).catch(() => [])) {
    await run("umount", [join(directory, name)]).catch(() => {});
    await rmdir(join(directory, name));
  }
  await rm(directory, { recursive: true, force: true });
}

/** `.` carries the directory's own owner and mode as well. */
async function copyTree(from: string, to: string): Promise<void> {
  await run("cp", ["-a", "--reflink=auto", `${from}/.`, to]);
}
