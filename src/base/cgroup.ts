import { createHash } from "node:crypto";
import { readdirSync, readFileSync, rmdirSync, statSync } from "node:fs";
import { join } from "node:path";

const mountPoint = "/sys/fs/cgroup";
const parentPattern = /^\/weft-[0-9a-f]{12}$/;

/** The cgroup above all containers of the weftd with this exec root: daemons on one machine never share one. */
export function cgroupParentOf(execRoot: string): string {
  return `/weft-${createHash("sha256").update(execRoot).digest("hex").slice(0, 12)}`;
}

/** Ids of the processes below a `cgroupParentOf`: containers' processes, also those that lost their daemon and their shim. */
export function processesInCgroups(parent: string): readonly number[] {
  const paths = hierarchies().flatMap((hierarchy) => {
    const path = join(hierarchy, parent);
    return childrenOf(path).map((name) => join(path, name));
  });
  return [...new Set(paths.flatMap(processesBelow))];
}

function processesBelow(path: string): readonly number[] {
  const own = processesIn(path)
    .split("\n")
    .map(Number)
    .filter((pid) => pid > 0);
  return [...own, ...childrenOf(path).flatMap((name) => processesBelow(join(path, name)))];
}

/**
 * Removes what no process is in of a `cgroupParentOf`, in every hierarchy; what is in use stays whole. Safe to repeat.
 * @throws {TypeError} for any other path.
 */
export function removeUnusedCgroups(parent: string): void {
  if (!parentPattern.test(parent)) throw new TypeError(`not a cgroup of ours: ${parent}`);
  for (const hierarchy of hierarchies()) {
    const path = join(hierarchy, parent);
    for (const name of childrenOf(path)) removeIfUnused(join(path, name));
    removeIfUnused(path);
  }
}

/** Version 2 has one, version 1 one for each controller. */
function hierarchies(): readonly string[] {
  return [mountPoint, ...childrenOf(mountPoint).map((name) => join(mountPoint, name))];
}

function removeIfUnused(path: string): void {
  if (isUsed(path)) return;
  // Only what the first look found empty: a cgroup that gets a process meanwhile refuses to go.
  for (const name of childrenOf(path)) removeIfUnused(join(path, name));
  try {
    rmdirSync(path);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code !== "ENOENT" && code !== "EBUSY" && code !== "ENOTEMPTY") throw error;
  }
}

function isUsed(path: string): boolean {
  return processesIn(path) !== "" || childrenOf(path).some((name) => isUsed(join(path, name)));
}

function processesIn(path: string): string {
  try {
    return readFileSync(join(path, "cgroup.procs"), "utf8").trim();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT" || (error as NodeJS.ErrnoException).code === "ENODEV")
      return "";
    // A threaded one, which does not list processes, is somebody's.
    return "unknown";
  }
}

function childrenOf(path: string): readonly string[] {
  if (statSync(path, { throwIfNoEntry: false }) === undefined) return [];
  return readdirSync(path, { withFileTypes: true })
    .filter((entry) => entry.isDirectory())
    .map(({ name }) => name);
}
