import type { SwarmInfo } from "../../cluster/mod.ts";
import type { ContainerRecord } from "../../engine/mod.ts";
import type { NodeTLSInfo } from "../../wire/gen/swarm_types_pb.ts";
import type { ApiSettings, HostFacts } from "../rooms.ts";
import { swarmInfoJson } from "./swarm.ts";

export interface InfoFacts {
  readonly host: HostFacts;
  readonly settings: ApiSettings;
  readonly containers: readonly ContainerRecord[];
  readonly images: number;
  readonly swarm: SwarmInfo;
  readonly tls: NodeTLSInfo | undefined;
  readonly listeners: number;
  readonly now: Date;
}

/** `GET /info`, complete enough for every line that `docker info` prints. */
export function infoJson(facts: InfoFacts): Readonly<Record<string, unknown>> {
  const { host, settings } = facts;
  const running = facts.containers.filter((container) => container.state.kind === "running").length;
  return {
    ID: host.id,
    Containers: facts.containers.length,
    ContainersRunning: running,
    ContainersPaused: 0,
    ContainersStopped: facts.containers.length - running,
    Images: facts.images,
    Driver: host.snapshotter,
    DriverStatus: host.storageStatus,
    Plugins: {
      Volume: ["local"],
      Network: ["bridge", "host", "null", "overlay"],
      Authorization: null,
      Log: ["json-file", "local", "none"],
    },
    MemoryLimit: true,
    SwapLimit: true,
    CpuCfsPeriod: true,
    CpuCfsQuota: true,
    CPUShares: true,
    CPUSet: true,
    PidsLimit: true,
    IPv4Forwarding: true,
    Debug: settings.debug,
    NFd: 0,
    OomKillDisable: host.cgroupVersion === "1",
    NGoroutines: 0,
    SystemTime: facts.now.toISOString(),
    LoggingDriver: settings.loggingDriver,
    CgroupDriver: "cgroupfs",
    CgroupVersion: host.cgroupVersion,
    NEventsListener: facts.listeners,
    KernelVersion: host.kernelVersion,
    OperatingSystem: host.operatingSystem,
    OSVersion: host.osVersion,
    OSType: "linux",
    Architecture: host.machine,
    IndexServerAddress: "https://index.docker.io/v1/",
    RegistryConfig: registryConfig(settings),
    NCPU: host.cpus,
    MemTotal: host.memoryBytes,
    GenericResources: null,
    DockerRootDir: settings.dataRoot,
    HttpProxy: settings.httpProxy,
    HttpsProxy: settings.httpsProxy,
    NoProxy: settings.noProxy,
    Name: host.hostname,
    Labels: settings.labels,
    ExperimentalBuild: settings.experimental,
    ServerVersion: host.weftVersion,
    Runtimes: { "io.containerd.runc.v2": { path: "runc" }, runc: { path: "runc" } },
    DefaultRuntime: settings.defaultRuntime,
    Swarm: swarmInfoJson(facts.swarm, facts.tls),
    LiveRestoreEnabled: settings.liveRestore,
    Isolation: "",
    InitBinary: "docker-init",
    ContainerdCommit: { ID: host.containerdCommit, Expected: host.containerdCommit },
    RuncCommit: { ID: host.runcCommit, Expected: host.runcCommit },
    InitCommit: { ID: "N/A", Expected: "N/A" },
    SecurityOptions: [
      ...(host.hasAppArmor ? ["name=apparmor"] : []),
      "name=seccomp,profile=builtin",
      ...(host.cgroupVersion === "2" ? ["name=cgroupns"] : []),
    ],
    FirewallBackend: { Driver: "nftables" },
    ...(settings.addressPools.length === 0
      ? {}
      : { DefaultAddressPools: settings.addressPools.map((pool) => ({ Base: pool.base, Size: pool.size })) }),
    Containerd: { Address: host.containerdAddress, Namespaces: { Containers: "moby", Plugins: "plugins.moby" } },
    Warnings: settings.warnings.length === 0 ? null : settings.warnings,
  };
}

function registryConfig(settings: ApiSettings): Readonly<Record<string, unknown>> {
  const mirrors = settings.registryMirrors;
  const isRange = (entry: string) => entry.includes("/");
  return {
    IndexConfigs: {
      "docker.io": { Name: "docker.io", Mirrors: mirrors, Secure: true, Official: true },
      ...Object.fromEntries(
        settings.insecureRegistries
          .filter((entry) => !isRange(entry))
          .map((name) => [name, { Name: name, Mirrors: [], Secure: false, Official: false }]),
      ),
    },
    InsecureRegistryCIDRs: ["::1/128", "127.0.0.0/8", ...settings.insecureRegistries.filter(isRange)],
    Mirrors: mirrors.length === 0 ? null : mirrors,
  };
}
