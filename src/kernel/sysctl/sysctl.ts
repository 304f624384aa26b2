import { errno } from "../ffi/errno.ts";
import { closeFd, openFile, openFlags, readFile, writeFile } from "../ffi/libc.ts";
import { inNamespace } from "../ffi/namespace.ts";
import { KernelError } from "../kernel.ts";

/** Directories of /proc/sys/net that exist only where the kernel has the feature. */
const optional = ["net/ipv6", "net/bridge", "net/netfilter"];

/** `net.ipv4.conf.all.rp_filter`, or with slashes where a part has a dot in it: `net/ipv4/conf/eth0.100/rp_filter`. Pure. */
export function sysctlPath(key: string): string {
  const path = key.includes("/") ? key : key.replaceAll(".", "/");
  if (!/^[^/]+(\/[^/]+)+$/.test(path) || path.split("/").includes("..")) {
    throw new SyntaxError(`invalid sysctl key ${JSON.stringify(key)}`);
  }
  return path;
}

/**
 * Reads, and writes only a different value. /proc/sys/net shows the namespace of the thread that opens the file, hence FFI
 * inside the namespace and not `fs`. Where the kernel lacks the whole feature (no IPv6, no bridge filtering) there is nothing to
 * set, and that is fine.
 *
 * @throws {KernelError} ENOENT when the key alone does not exist, EINVAL when the value is refused.
 */
export function ensureSysctl(namespaceFd: number, key: string, value: string): void {
  const step = `set sysctl "${key}" to "${value}"`;
  const path = sysctlPath(key);
  inNamespace(namespaceFd, () => {
    let current: string;
    try {
      current = read(step, path);
    } catch (error) {
      if (!(error instanceof KernelError) || error.errno !== errno.ENOENT) throw error;
      if (optional.some((directory) => path.startsWith(`${directory}/`) && !exists(directory))) return;
      throw error;
    }
    if (sameValue(current, value)) return;
    const fd = openFile(step, `/proc/sys/${path}`, openFlags.writeOnly);
    try {
      writeFile(step, fd, new TextEncoder().encode(value));
    } finally {
      closeFd(fd);
    }
  });
}

/** @throws {KernelError} ENOENT */
export function readSysctl(namespaceFd: number, key: string): string {
  return inNamespace(namespaceFd, () => read(`read sysctl "${key}"`, sysctlPath(key)));
}

function read(step: string, path: string): string {
  const fd = openFile(step, `/proc/sys/${path}`, openFlags.readOnly);
  try {
    return new TextDecoder().decode(readFile(step, fd, 4096)).trimEnd();
  } finally {
    closeFd(fd);
  }
}

function exists(directory: string): boolean {
  try {
    closeFd(openFile("look for sysctls", `/proc/sys/${directory}`, openFlags.readOnly));
    return true;
  } catch {
    return false;
  }
}

/** The kernel separates several numbers by tabs. */
function sameValue(a: string, b: string): boolean {
  return a.trim().split(/\s+/).join(" ") === b.trim().split(/\s+/).join(" ");
}
