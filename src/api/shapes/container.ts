import { assertNever } from "../../base/errors.ts";
import type { ContainerRecord, ContainerState, MountPoint } from "../../engine/mod.ts";
import type { ApiSettings } from "../rooms.ts";
import { bindingsOf, endpointSettings, type NetworkFacts, visibleEndpoints } from "./endpoint.ts";
import { completeHostConfig } from "./host-config.ts";
import { humanDuration, unixSeconds, zeroTime } from "./time.ts";

export interface InspectFacts extends NetworkFacts {
  readonly settings: ApiSettings;
  readonly snapshotter: string;
  readonly cgroupVersion: "1" | "2";
}

/** `GET /containers/{id}/json`. */
export function containerInspect(record: ContainerRecord, facts: InspectFacts): Readonly<Record<string, unknown>> {
  const directory = `${facts.settings.dataRoot}/containers/${record.id}`;
  return {
    Id: record.id,
    Created: record.createdAt,
    Path: record.process.path,
    Args: record.process.args,
    State: stateOf(record.state),
    Image: record.imageId,
    ResolvConfPath: `${directory}/resolv.conf`,
    HostnamePath: `${directory}/hostname`,
    HostsPath: `${directory}/hosts`,
    LogPath: record.spec.host.logDriver === "json-file" ? `${directory}/${record.id}-json.log` : "",
    Name: `/${record.name}`,
    RestartCount: record.restartCount,
    Driver: facts.snapshotter,
    Platform: "linux",
    MountLabel: "",
    ProcessLabel: "",
    AppArmorProfile: "",
    ExecIDs: null,
    HostConfig: completeHostConfig(record, facts),
    GraphDriver: { Data: null, Name: facts.snapshotter },
    Mounts: record.mounts.map(mountOf),
    Config: configOf(record),
    NetworkSettings: networkSettings(record, facts),
  };
}

/** One element of `GET /containers/json`. */
export function containerSummary(
  record: ContainerRecord,
  facts: NetworkFacts & { readonly nowMs: number },
): Readonly<Record<string, unknown>> {
  return {
    Id: record.id,
    Names: [`/${record.name}`],
    Image: record.spec.image,
    ImageID: record.imageId,
    Command: commandOf(record),
    Created: unixSeconds(record.createdAt),
    Ports: summaryPorts(record, facts),
    Labels: record.spec.labels,
    State: statusName(record.state),
    Status: statusText(record.state, facts.nowMs),
    HostConfig: { NetworkMode: record.spec.networkMode },
    NetworkSettings: { Networks: endpointSettings(record, facts) },
    Mounts: record.mounts.map(mountOf),
  };
}

/** created, running, restarting, exited, dead, removing: `State.Status` and the status filter. */
export function statusName(state: ContainerState): string {
  return isRestarting(state) ? "restarting" : state.kind;
}

/** Between two runs, by its restart policy: shown among those that run. */
export function isRestarting(state: ContainerState): boolean {
  return state.kind === "exited" && state.willRestart === true;
}

/** `Up 3 seconds`, `Exited (0) 2 minutes ago`. */
export function statusText(state: ContainerState, nowMs: number): string {
  switch (state.kind) {
    case "created":
      return "Created";
    case "running":
      return `Up ${humanDuration(nowMs - Date.parse(state.startedAt))}`;
    case "exited":
      return `${isRestarting(state) ? "Restarting" : "Exited"} (${state.exitCode}) ${humanDuration(nowMs - Date.parse(state.finishedAt))} ago`;
    case "dead":
      return "Dead";
    case "removing":
      return "Removal In Progress";
    default:
      return assertNever(state);
  }
}

function stateOf(state: ContainerState): Readonly<Record<string, unknown>> {
  const isOver = state.kind === "exited" || state.kind === "dead" || state.kind === "removing";
  const failure = state.kind === "created" ? state.failure : undefined;
  return {
    Status: statusName(state),
    Running: state.kind === "running" || isRestarting(state),
    Paused: false,
    Restarting: isRestarting(state),
    OOMKilled: state.kind === "exited" && state.oomKilled,
    Dead: state.kind === "dead",
    Pid: state.kind === "running" ? state.pid : 0,
    ExitCode: isOver ? state.exitCode : (failure?.exitCode ?? 0),
    Error: state.kind === "exited" || state.kind === "dead" ? state.error : (failure?.error ?? ""),
    StartedAt: state.kind === "created" || state.startedAt === "" ? zeroTime : state.startedAt,
    FinishedAt: isOver && state.finishedAt !== "" ? state.finishedAt : zeroTime,
  };
}

function mountOf(mount: MountPoint): Readonly<Record<string, unknown>> {
  return {
    Type: mount.type,
    ...(mount.type === "volume" ? { Name: mount.name } : {}),
    Source: mount.source,
    Destination: mount.destination,
    ...(mount.type === "volume" ? { Driver: mount.driver } : {}),
    Mode: mount.mode,
    RW: !mount.readonly,
    Propagation: mount.propagation,
  };
}

/** What the client sent and the image added; see parse/image-config.ts. Unknown fields are left out, as Docker does. */
function configOf(record: ContainerRecord): Readonly<Record<string, unknown>> {
  const out: Record<string, unknown> = { ...configDefaults };
  for (const [field, value] of Object.entries(record.spec.rawConfig)) {
    if (configFields.has(field) && value !== undefined) out[field] = value;
  }
  return { ...out, Hostname: record.hostname, Image: record.spec.image, Labels: record.spec.labels };
}

const configDefaults = {
  Hostname: "",
  Domainname: "",
  User: "",
  AttachStdin: false,
  AttachStdout: false,
  AttachStderr: false,
  Tty: false,
  OpenStdin: false,
  StdinOnce: false,
  Env: null,
  Cmd: null,
  Image: "",
  Volumes: null,
  WorkingDir: "",
  Entrypoint: null,
  OnBuild: null,
  Labels: {},
} as const;
const configFields = new Set([
  ...Object.keys(configDefaults),
  "ExposedPorts",
  "StopSignal",
  "StopTimeout",
  "Healthcheck",
  "Shell",
]);

function networkSettings(record: ContainerRecord, facts: InspectFacts): Readonly<Record<string, unknown>> {
  const { sandbox } = facts;
  const isRunning = record.state.kind === "running";
  // compat: the top-level fields repeat the default bridge's and are empty for every other network.
  const onBridge = isRunning ? visibleEndpoints(sandbox).find((e) => e.networkName === "bridge") : undefined;
  return {
    Bridge: "",
    SandboxID: isRunning ? (record.sandboxId ?? "") : "",
    SandboxKey: isRunning ? (sandbox?.netnsPath ?? "") : "",
    Ports: inspectPorts(record, facts),
    HairpinMode: false,
    LinkLocalIPv6Address: "",
    LinkLocalIPv6PrefixLen: 0,
    SecondaryIPAddresses: null,
    SecondaryIPv6Addresses: null,
    EndpointID: onBridge?.id ?? "",
    Gateway: onBridge?.gateway ?? "",
    GlobalIPv6Address: onBridge?.ipv6?.address ?? "",
    GlobalIPv6PrefixLen: onBridge?.ipv6?.prefix ?? 0,
    IPAddress: onBridge?.ipv4?.address ?? "",
    IPPrefixLen: onBridge?.ipv4?.prefix ?? 0,
    IPv6Gateway: onBridge?.gateway6 ?? "",
    MacAddress: onBridge?.mac ?? "",
    Networks: endpointSettings(record, facts),
  };
}

function inspectPorts(record: ContainerRecord, facts: NetworkFacts): Readonly<Record<string, unknown>> {
  if (record.state.kind !== "running") return {};
  const out: Record<string, { HostIp: string; HostPort: string }[] | null> = {};
  for (const exposed of record.spec.exposedPorts) out[exposed] = null;
  for (const binding of bindingsOf(facts.sandbox)) {
    const key = `${binding.containerPort}/${binding.protocol}`;
    const list = out[key] ?? [];
    list.push({ HostIp: binding.hostAddress, HostPort: String(binding.hostPort) });
    out[key] = list;
  }
  return out;
}

function summaryPorts(record: ContainerRecord, facts: NetworkFacts): readonly unknown[] {
  if (record.state.kind !== "running") return [];
  const bound = bindingsOf(facts.sandbox);
  const isBound = (exposed: string) => bound.some((b) => `${b.containerPort}/${b.protocol}` === exposed);
  return [
    ...bound.map((b) => ({
      IP: b.hostAddress,
      PrivatePort: b.containerPort,
      PublicPort: b.hostPort,
      Type: b.protocol,
    })),
    ...record.spec.exposedPorts
      .filter((exposed) => !isBound(exposed))
      .map((exposed) => {
        const [port, protocol] = exposed.split("/");
        return { PrivatePort: Number(port), Type: protocol };
      }),
  ];
}

/** As a shell would need it: arguments with spaces are quoted. */
function commandOf(record: ContainerRecord): string {
  const args = record.process.args.map((arg) => (/[\s'"]/.test(arg) ? `'${arg.replaceAll("'", "'\\''")}'` : arg));
  return [record.process.path, ...args].join(" ");
}
