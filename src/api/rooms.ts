import type { Clock } from "../base/clock.ts";
import type { Log } from "../base/log.ts";
import type { Swarm } from "../cluster/mod.ts";
import type { Containers, Images, Volumes } from "../engine/mod.ts";
import type { Networks } from "../network/mod.ts";
import type { EventLog } from "./event-log.ts";

/** What routes act on; `daemon/` builds it. */
export interface Rooms {
  readonly containers: Containers;
  readonly images: Images;
  readonly volumes: Volumes;
  readonly networks: Networks;
  readonly swarm: Swarm;
  readonly events: EventLog;
  readonly host: HostFacts;
  /** Read at every use: SIGHUP changes them. */
  readonly settings: () => ApiSettings;
  readonly clock: Clock;
  readonly log: Log;
}

/** What `docker version` and `docker info` tell about this machine and this build; gathered once at start. */
export interface HostFacts {
  /** UUID of this installation. */
  readonly id: string;
  readonly hostname: string;
  readonly weftVersion: string;
  readonly gitCommit: string;
  readonly buildTime: string;
  readonly kernelVersion: string;
  readonly operatingSystem: string;
  readonly osVersion: string;
  /** Docker's word for `version`: amd64, arm64. */
  readonly architecture: string;
  /** `uname -m`, for `info`: x86_64, aarch64. */
  readonly machine: string;
  readonly cpus: number;
  readonly memoryBytes: number;
  readonly cgroupVersion: "1" | "2";
  readonly hasAppArmor: boolean;
  readonly containerdVersion: string;
  readonly containerdCommit: string;
  readonly containerdAddress: string;
  readonly runcVersion: string;
  readonly runcCommit: string;
  /** containerd's snapshotter, shown as the storage driver. */
  readonly snapshotter: string;
  readonly storageStatus: readonly (readonly [string, string])[];
}

export interface ApiSettings {
  readonly debug: boolean;
  readonly labels: readonly string[];
  readonly dataRoot: string;
  readonly execRoot: string;
  readonly defaultRuntime: string;
  readonly loggingDriver: string;
  /** For containers that use this driver. */
  readonly loggingOptions: Readonly<Record<string, string>>;
  readonly liveRestore: boolean;
  readonly experimental: boolean;
  readonly insecureRegistries: readonly string[];
  readonly registryMirrors: readonly string[];
  readonly httpProxy: string;
  readonly httpsProxy: string;
  readonly noProxy: string;
  readonly defaultShmSizeBytes: number;
  readonly init: boolean;
  readonly addressPools: readonly { readonly base: string; readonly size: number }[];
  /** Taken where `swarm init` and `swarm join` name none; may be empty. */
  readonly swarmAdvertiseAddress: string;
  readonly warnings: readonly string[];
}
