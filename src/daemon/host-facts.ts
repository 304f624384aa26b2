import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { arch, cpus, hostname, machine, release, totalmem } from "node:os";
import { promisify } from "node:util";
import type { HostFacts } from "../api/mod.ts";

const run = promisify(execFile);

/** What `docker version` and `docker info` tell about this machine. */
export async function gatherHostFacts(options: {
  readonly id: string;
  readonly containerdAddress: string;
  readonly containerdVersion: () => Promise<{ readonly version: string; readonly revision: string }>;
}): Promise<HostFacts> {
  const [system, runc, containerd, weftVersion] = await Promise.all([
    operatingSystem(),
    runcVersion(),
    options.containerdVersion(),
    packageVersion(),
  ]);
  return {
    id: options.id,
    hostname: hostname(),
    weftVersion,
    gitCommit: "",
    buildTime: "",
    kernelVersion: release(),
    operatingSystem: system.name,
    osVersion: system.version,
    architecture: { x64: "amd64", arm64: "arm64" }[arch() as string] ?? arch(),
    machine: machine(),
    cpus: cpus().length,
    memoryBytes: totalmem(),
    cgroupVersion: existsSync("/sys/fs/cgroup/cgroup.controllers") ? "2" : "1",
    hasAppArmor: existsSync("/sys/kernel/security/apparmor"),
    containerdVersion: containerd.version.replace(/^v/, ""),
    containerdCommit: containerd.revision,
    containerdAddress: options.containerdAddress,
    runcVersion: runc.version,
    runcCommit: runc.commit,
    snapshotter: "overlayfs",
    storageStatus: [["driver-type", "io.containerd.snapshotter.v1"]],
  };
}

export async function packageVersion(): Promise<string> {
  const text = await readFile(new URL("../../package.json", import.meta.url), "utf8");
  return (JSON.parse(text) as { readonly version: string }).version;
}

async function operatingSystem(): Promise<{ readonly name: string; readonly version: string }> {
  const text = await readFile("/etc/os-release", "utf8").catch(() => "");
  const field = (name: string) => new RegExp(`^${name}="?([^"\\n]*)"?$`, "m").exec(text)?.[1] ?? "";
  return { name: field("PRETTY_NAME") || "Linux", version: field("VERSION_ID") };
}

async function runcVersion(): Promise<{ readonly version: string; readonly commit: string }> {
  const output = await run("runc", ["--version"]).then(
    (result) => result.stdout,
    // `docker version` works on a host without runc; starting a container says what is missing.
    () => "",
  );
  return {
    version: /^runc version (\S+)/m.exec(output)?.[1] ?? "",
    commit: /^commit: (\S+)/m.exec(output)?.[1] ?? "",
  };
}
