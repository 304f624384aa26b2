import { type ContainerRecord, maskedPaths, readonlyPaths } from "../../engine/mod.ts";

// Docker's defaults of a Linux container (28.5 as recorded); shown for what the client left out.
const defaults = {
  Binds: null,
  ContainerIDFile: "",
  LogConfig: { Type: "json-file", Config: {} },
  NetworkMode: "bridge",
  PortBindings: {},
  RestartPolicy: { Name: "no", MaximumRetryCount: 0 },
  AutoRemove: false,
  VolumeDriver: "",
  VolumesFrom: null,
  ConsoleSize: [0, 0],
  CapAdd: null,
  CapDrop: null,
  CgroupnsMode: "host",
  Dns: [],
  DnsOptions: [],
  DnsSearch: [],
  ExtraHosts: null,
  GroupAdd: null,
  IpcMode: "private",
  Cgroup: "",
  Links: null,
  OomScoreAdj: 0,
  PidMode: "",
  Privileged: false,
  PublishAllPorts: false,
  ReadonlyRootfs: false,
  SecurityOpt: null,
  UTSMode: "",
  UsernsMode: "",
  ShmSize: 67108864,
  Runtime: "runc",
  Isolation: "",
  CpuShares: 0,
  Memory: 0,
  NanoCpus: 0,
  CgroupParent: "",
  BlkioWeight: 0,
  BlkioWeightDevice: [],
  BlkioDeviceReadBps: [],
  BlkioDeviceWriteBps: [],
  BlkioDeviceReadIOps: [],
  BlkioDeviceWriteIOps: [],
  CpuPeriod: 0,
  CpuQuota: 0,
  CpuRealtimePeriod: 0,
  CpuRealtimeRuntime: 0,
  CpusetCpus: "",
  CpusetMems: "",
  Devices: [],
  DeviceCgroupRules: null,
  DeviceRequests: null,
  MemoryReservation: 0,
  MemorySwap: 0,
  MemorySwappiness: null,
  OomKillDisable: false,
  PidsLimit: null,
  Ulimits: [],
  CpuCount: 0,
  CpuPercent: 0,
  IOMaximumIOps: 0,
  IOMaximumBandwidth: 0,
  MaskedPaths: maskedPaths,
  ReadonlyPaths: readonlyPaths,
} as const;

/** What was sent, word for word, with Docker's defaults in the places left empty. */
export function completeHostConfig(
  record: ContainerRecord,
  facts: { readonly cgroupVersion: "1" | "2" },
): Readonly<Record<string, unknown>> {
  const { host, networkMode, rawHostConfig: sent } = record.spec;
  const out: Record<string, unknown> = { ...defaults, CgroupnsMode: facts.cgroupVersion === "2" ? "private" : "host" };
  for (const [field, value] of Object.entries(sent)) {
    const isLeftOut = value === null || value === undefined || (value === "" && out[field] !== undefined);
    if (!isLeftOut) out[field] = value;
  }
  out["NetworkMode"] = networkMode;
  out["RestartPolicy"] = { Name: host.restartPolicy.name, MaximumRetryCount: host.restartPolicy.maximumRetryCount };
  out["LogConfig"] = { Type: host.logDriver, Config: host.logOptions };
  out["Links"] = null;
  if (networkMode === "bridge" && host.links.length > 0)
    out["Links"] = host.links.map((link) => linkPath(link, record.name));
  out["ShmSize"] = host.shmSizeBytes;
  if (host.privileged) Object.assign(out, { MaskedPaths: null, ReadonlyPaths: null });
  return out;
}

/** `other:alias`, as Docker tells it: `/other:/me/alias`. */
function linkPath(link: string, name: string): string {
  const [other = "", alias = other] = link.split(":");
  return `/${other.replace(/^\//, "")}:/${name}/${alias.slice(alias.lastIndexOf("/") + 1)}`;
}
