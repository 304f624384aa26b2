import { EngineError } from "../../base/errors.ts";

type Raw = Readonly<Record<string, unknown>>;

/**
 * Host settings that this version does not have and whose silent absence would surprise: a missing device, a missing
 * user namespace, another runtime. `harmless` says which values mean "not used".
 */
const refused: readonly {
  readonly field: string;
  readonly option: string;
  readonly harmless: (value: unknown) => boolean;
}[] = [
  { field: "Devices", option: "--device", harmless: isEmpty },
  { field: "DeviceRequests", option: "--gpus", harmless: isEmpty },
  { field: "DeviceCgroupRules", option: "--device-cgroup-rule", harmless: isEmpty },
  { field: "VolumesFrom", option: "--volumes-from", harmless: isEmpty },
  { field: "VolumeDriver", option: "--volume-driver", harmless: (value) => isEmpty(value) || value === "local" },
  { field: "StorageOpt", option: "--storage-opt", harmless: isEmpty },
  { field: "UsernsMode", option: "--userns", harmless: (value) => isEmpty(value) || value === "host" },
  { field: "Isolation", option: "--isolation", harmless: (value) => isEmpty(value) || value === "default" },
];

/** @throws {EngineError} for the first setting that cannot be honoured. */
export function refuseUnsupported(raw: Raw): void {
  const runtime = raw["Runtime"];
  if (!isEmpty(runtime) && runtime !== "runc" && runtime !== "io.containerd.runc.v2") {
    throw new EngineError("invalid", `unknown or invalid runtime name: ${String(runtime)}`);
  }
  for (const { field, option, harmless } of refused) {
    if (!harmless(raw[field])) throw new EngineError("unsupported", `${option} is not supported by this version`);
  }
}

/** Limits that are kept and shown but not applied. */
const notApplied: readonly (readonly [field: string, option: string])[] = [
  ["BlkioWeight", "--blkio-weight"],
  ["BlkioDeviceReadBps", "--device-read-bps"],
  ["BlkioDeviceWriteBps", "--device-write-bps"],
  ["BlkioDeviceReadIOps", "--device-read-iops"],
  ["BlkioDeviceWriteIOps", "--device-write-iops"],
  ["CpuPeriod", "--cpu-period"],
  ["CpuQuota", "--cpu-quota"],
  ["CpuRealtimePeriod", "--cpu-rt-period"],
  ["CpuRealtimeRuntime", "--cpu-rt-runtime"],
  ["CpuShares", "--cpu-shares"],
  ["CpusetCpus", "--cpuset-cpus"],
  ["CpusetMems", "--cpuset-mems"],
  ["CgroupParent", "--cgroup-parent"],
  ["MemoryReservation", "--memory-reservation"],
  ["OomKillDisable", "--oom-kill-disable"],
  ["OomScoreAdj", "--oom-score-adj"],
  ["Ulimits", "--ulimit"],
];

export function warnings(
  raw: Raw,
  facts: { readonly isHostNetwork: boolean; readonly hasPorts: boolean },
): readonly string[] {
  const out = notApplied
    .filter(([field]) => !isEmpty(raw[field]))
    .map(([, option]) => `${option} is not applied by this version`);
  // compat: Docker's own warning.
  if (facts.isHostNetwork && facts.hasPorts) out.push("Published ports are discarded when using host network mode");
  return out;
}

function isEmpty(value: unknown): boolean {
  if (value === undefined || value === null || value === "" || value === 0 || value === false) return true;
  if (Array.isArray(value)) return value.length === 0;
  return typeof value === "object" && Object.keys(value).length === 0;
}
