import type { DnsOptions, EndpointRequest, PortBinding, PortPublish } from "../network/mod.ts";

/** What was asked for: `POST /containers/create`, parsed. Fields that later issues add go here. */
export interface ContainerSpec {
  /** As the user typed it. */
  readonly image: string;
  readonly hostname: string;
  readonly domainname: string;
  readonly user: string;
  readonly tty: boolean;
  readonly openStdin: boolean;
  readonly stdinOnce: boolean;
  readonly attachStdin: boolean;
  readonly attachStdout: boolean;
  readonly attachStderr: boolean;
  /** `KEY=value`, or `KEY` alone to remove the image's. */
  readonly env: readonly string[];
  /** undefined: the image's; empty: none. */
  readonly entrypoint: readonly string[] | undefined;
  readonly command: readonly string[] | undefined;
  readonly workingDirectory: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly stopSignal: string;
  readonly stopTimeoutSeconds: number | undefined;
  /** `80/tcp`. */
  readonly exposedPorts: readonly string[];
  readonly anonymousVolumes: readonly string[];
  readonly host: HostSpec;
  /** `HostConfig.NetworkMode` as typed: `default`, `bridge`, `host`, `none`, `container:ID`, a network. */
  readonly networkMode: string;
  readonly endpoints: readonly EndpointRequest[];
  /** The parsed API bodies, kept word for word so that inspect gives back what was sent. */
  readonly rawConfig: Readonly<Record<string, unknown>>;
  readonly rawHostConfig: Readonly<Record<string, unknown>>;
}

export interface HostSpec {
  readonly autoRemove: boolean;
  /** `src:dst[:options]` and `--mount`, made one. */
  readonly mounts: readonly MountSpec[];
  readonly publish: readonly PortPublish[];
  readonly publishAll: boolean;
  readonly dns: DnsOptions;
  readonly extraHosts: readonly string[];
  readonly links: readonly string[];
  readonly privileged: boolean;
  readonly readonlyRootfs: boolean;
  readonly capAdd: readonly string[];
  readonly capDrop: readonly string[];
  readonly securityOptions: readonly string[];
  readonly sysctls: Readonly<Record<string, string>>;
  readonly restartPolicy: { readonly name: string; readonly maximumRetryCount: number };
  readonly memoryBytes: number;
  readonly nanoCpus: number;
  readonly pidsLimit: number | undefined;
  readonly shmSizeBytes: number;
  readonly init: boolean;
  readonly groupAdd: readonly string[];
  readonly tmpfs: Readonly<Record<string, string>>;
  readonly pidMode: string;
  readonly ipcMode: string;
  readonly utsMode: string;
  readonly logDriver: string;
  readonly logOptions: Readonly<Record<string, string>>;
}

export interface MountSpec {
  readonly type: "bind" | "volume" | "tmpfs";
  /** Host path (bind) or volume name (volume; empty: anonymous). */
  readonly source: string;
  readonly target: string;
  readonly readonly: boolean;
  readonly propagation: string;
  /** `-v` makes a missing bind source; `--mount` refuses it. */
  readonly createSource: boolean;
  readonly noCopy: boolean;
}

/** Stored as `container/<id>`: spec, what we assigned, and the last state we know. */
export interface ContainerRecord {
  readonly id: string;
  readonly name: string;
  readonly createdAt: string;
  readonly spec: ContainerSpec;
  /** Config digest `sha256:…` of the image it was made from, and the image's own config merged at creation. */
  readonly imageId: string;
  readonly process: ProcessConfig;
  readonly hostname: string;
  readonly mounts: readonly MountPoint[];
  readonly state: ContainerState;
  /** Sandbox of the current or last run; undefined before the first start. */
  readonly sandboxId: string | undefined;
  /** For `container:ID`: the container whose sandbox is shared. */
  readonly sandboxOwner: string | undefined;
  readonly restartCount: number;
  /** `docker stop` or `kill` ended it: restart policies leave it alone, `unless-stopped` over a restart of weftd as well. */
  readonly stoppedByUser?: boolean;
  /** A removal that has begun: what it takes along when weftd dies on the way. */
  readonly removeVolumes?: boolean;
}

export interface ProcessConfig {
  readonly path: string;
  readonly args: readonly string[];
  readonly env: readonly string[];
  readonly workingDirectory: string;
  readonly user: string;
}

export interface MountPoint {
  readonly type: "bind" | "volume" | "tmpfs";
  readonly name: string;
  readonly source: string;
  readonly destination: string;
  readonly driver: string;
  readonly mode: string;
  readonly readonly: boolean;
  readonly propagation: string;
}

export type ContainerState =
  /** Never ran; `failure` says why the last start did not get to the process. */
  | { readonly kind: "created"; readonly failure?: { readonly exitCode: number; readonly error: string } }
  | { readonly kind: "running"; readonly pid: number; readonly startedAt: string }
  | {
      readonly kind: "exited";
      readonly exitCode: number;
      readonly startedAt: string;
      readonly finishedAt: string;
      readonly oomKilled: boolean;
      readonly error: string;
      /** A restart policy will start it again. */
      readonly willRestart?: boolean;
    }
  | {
      readonly kind: "dead";
      readonly startedAt: string;
      readonly finishedAt: string;
      readonly exitCode: number;
      readonly error: string;
    }
  | { readonly kind: "removing"; readonly exitCode: number; readonly startedAt: string; readonly finishedAt: string };

export interface ImageSummary {
  /** `sha256:<config digest>`. */
  readonly id: string;
  readonly repoTags: readonly string[];
  readonly repoDigests: readonly string[];
  readonly createdAt: string;
  readonly sizeBytes: number;
  readonly labels: Readonly<Record<string, string>>;
}

/** The OCI image configuration, as far as the engine and inspect use it. */
export interface ImageDetail extends ImageSummary {
  readonly architecture: string;
  readonly os: string;
  readonly author: string;
  readonly comment: string;
  readonly config: ImageConfig;
  /** Uncompressed layer digests, base first. */
  readonly diffIds: readonly string[];
  /** containerd snapshot that holds the top layer; parent of containers' snapshots. */
  readonly chainId: string;
  readonly rawConfig: Readonly<Record<string, unknown>>;
}

export interface ImageConfig {
  readonly env: readonly string[];
  readonly entrypoint: readonly string[] | undefined;
  readonly command: readonly string[] | undefined;
  readonly workingDirectory: string;
  readonly user: string;
  readonly exposedPorts: readonly string[];
  readonly volumes: readonly string[];
  readonly labels: Readonly<Record<string, string>>;
  readonly stopSignal: string;
}

export interface Volume {
  readonly name: string;
  readonly driver: string;
  readonly mountpoint: string;
  readonly createdAt: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly options: Readonly<Record<string, string>>;
  readonly anonymous: boolean;
}

export type { PortBinding };
