import { closeSync, constants, fstatSync, lstatSync, openSync, readlinkSync, readSync } from "node:fs";
import { join } from "node:path";

/**
 * A container's file system as the directories that make it up, uppermost first: overlay layers before the container
 * runs, `/proc/PID/root` afterwards. Looked at without mounting it; links are followed inside it only.
 */
export type RootfsLayers = readonly string[];

const maximumFileBytes = 4 << 20;
const maximumLinks = 40;

/** A mount as containerd returns it. */
export interface SnapshotMount {
  readonly type: string;
  readonly source: string;
  readonly options: readonly string[];
}

/** The directories behind a snapshot's mounts, uppermost first. */
export function layersOf(mounts: readonly SnapshotMount[]): RootfsLayers {
  const mount = mounts[0];
  if (mount === undefined) return [];
  if (mount.type !== "overlay") return [mount.source];
  const option = (name: string) => mount.options.find((text) => text.startsWith(`${name}=`))?.slice(name.length + 1);
  const upper = option("upperdir");
  return [...(upper === undefined ? [] : [upper]), ...(option("lowerdir")?.split(":") ?? [])];
}

/**
 * The real place of a path inside the root file system, with every symbolic link resolved against its root, so that
 * `/etc -> /` of a hostile image leads nowhere else; undefined when there is nothing.
 */
export function locate(layers: RootfsLayers, path: string): string | undefined {
  let pending = path.split("/").filter(isStep);
  let resolved: string[] = [];
  for (let links = 0; pending.length > 0; ) {
    const [name, ...rest] = pending as [string, ...string[]];
    pending = rest;
    if (name === "..") {
      resolved.pop();
      continue;
    }
    const found = find(layers, [...resolved, name]);
    if (found === undefined) return undefined;
    if (found.link === undefined) {
      resolved.push(name);
      continue;
    }
    links += 1;
    if (links > maximumLinks) return undefined;
    if (found.link.startsWith("/")) resolved = [];
    pending = [...found.link.split("/").filter(isStep), ...pending];
  }
  return resolved.length === 0 ? layers[0] : find(layers, resolved)?.path;
}

/** Contents of a small regular file; empty when it is missing, too large, or something else. */
export function readTextFile(layers: RootfsLayers, path: string): string {
  const place = locate(layers, path);
  if (place === undefined) return "";
  let fd = -1;
  try {
    // A running container may swap the file under us: no link is followed, no FIFO waited for.
    fd = openSync(place, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  } catch {
    return "";
  }
  try {
    const stat = fstatSync(fd);
    if (!stat.isFile() || stat.size > maximumFileBytes) return "";
    const buffer = Buffer.alloc(stat.size);
    return buffer.toString("utf8", 0, readSync(fd, buffer, 0, buffer.length, 0));
  } finally {
    closeSync(fd);
  }
}

const isStep = (part: string) => part !== "" && part !== ".";

/** The uppermost entry of that name whose parents were not whited out above it. */
function find(
  layers: RootfsLayers,
  parts: readonly string[],
): { readonly path: string; readonly link: string | undefined } | undefined {
  for (const layer of layers) {
    const state = entryIn(layer, parts);
    if (state === "absent") continue;
    if (state === "hidden") return undefined;
    return state;
  }
  return undefined;
}

function entryIn(
  layer: string,
  parts: readonly string[],
): "absent" | "hidden" | { readonly path: string; readonly link: string | undefined } {
  let path = layer;
  for (const [index, name] of parts.entries()) {
    path = join(path, name);
    const stat = lstatSync(path, { throwIfNoEntry: false });
    if (stat === undefined) return "absent";
    // Overlay's mark for "deleted here": a character device 0:0.
    if (stat.isCharacterDevice() && stat.rdev === 0) return "hidden";
    const isLast = index === parts.length - 1;
    if (isLast) return { path, link: stat.isSymbolicLink() ? readlinkSync(path) : undefined };
    if (!stat.isDirectory()) return "hidden";
  }
  return { path, link: undefined };
}
