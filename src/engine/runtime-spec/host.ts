import { lstatSync, readdirSync, readFileSync, statSync } from "node:fs";
import { arch, availableParallelism, hostname, release } from "node:os";
import { join } from "node:path";
import { capabilitiesOf } from "./capabilities.ts";
import type { OciDevice } from "./oci.ts";
import type { HostFacts } from "./spec.ts";

const goArchitectures: Readonly<Record<string, string>> = { x64: "amd64", arm64: "arm64", arm: "arm", s390x: "s390x" };

/** Looks at this machine, afresh: devices and host name may change. */
export function observeHost(): HostFacts {
  const bounding = /^CapBnd:\s*([0-9a-f]+)/m.exec(readFileSync("/proc/self/status", "latin1"))?.[1] ?? "0";
  return {
    architecture: goArchitectures[arch()] ?? arch(),
    kernelRelease: release(),
    hostname: hostname(),
    capabilities: capabilitiesOf(bounding),
    cgroupVersion: exists("/sys/fs/cgroup/cgroup.controllers") ? 2 : 1,
    hasApparmor: exists("/sys/kernel/security/apparmor"),
    cpuCount: availableParallelism(),
    get devices() {
      return hostDevices("/dev");
    },
  };
}

/** Directories and files of /dev that are the container's own, not the host's. */
const privateNames = new Set(["pts", "shm", "fd", "mqueue", "console", "ptmx", ".lxc", ".lxd-mounts", ".udev"]);

function hostDevices(directory: string): readonly OciDevice[] {
  return readdirSync(directory).flatMap((name): readonly OciDevice[] => {
    if (privateNames.has(name)) return [];
    const path = join(directory, name);
    const stat = lstatSync(path, { throwIfNoEntry: false });
    if (stat === undefined) return [];
    if (stat.isDirectory()) return hostDevices(path);
    if (!stat.isCharacterDevice() && !stat.isBlockDevice()) return [];
    const { major, minor } = deviceNumbers(stat.rdev);
    const type = stat.isBlockDevice() ? "b" : "c";
    return [{ type, path, major, minor, fileMode: stat.mode & 0o7777, uid: stat.uid, gid: stat.gid }];
  });
}

/** glibc's makedev packing; Node gives the 64-bit number as it is. */
function deviceNumbers(rdev: number): { readonly major: number; readonly minor: number } {
  const value = BigInt(rdev);
  const major = ((value >> 8n) & 0xfffn) | ((value >> 32n) & 0xfffff000n);
  const minor = (value & 0xffn) | ((value >> 12n) & 0xffffff00n);
  return { major: Number(major), minor: Number(minor) };
}

function exists(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false }) !== undefined;
}
