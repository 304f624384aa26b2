import { z } from "zod";
import { EngineError } from "../../base/errors.ts";
import { type IpAddress, tryParseIp } from "../../base/ip.ts";
import type { ContainerSpec, HostSpec, MountSpec } from "../../engine/mod.ts";
import type { EndpointRequest } from "../../network/mod.ts";
import { invalid } from "../errors.ts";
import type { ApiVersion } from "../version.ts";
import { endpointBody, parseEndpoint } from "./endpoints.ts";
import {
  anything,
  decodeBody,
  flag,
  integer,
  optionalFlag,
  optionalInteger,
  text,
  textMap,
  textOrTexts,
  textSet,
  texts,
} from "./go-json.ts";
import { parseBind, parseMount, refuseDuplicates, tmpfsOptions } from "./mounts.ts";
import { parseBindings, parseExposed } from "./ports.ts";
import { refuseUnsupported, warnings } from "./unsupported.ts";

const mountBody = z.object({
  Type: text,
  Source: text,
  Target: text,
  ReadOnly: flag,
  BindOptions: z
    .object({ Propagation: text, CreateMountpoint: flag })
    .nullish()
    .transform((value) => value ?? undefined),
  VolumeOptions: z
    .object({
      NoCopy: flag,
      Subpath: text,
      DriverConfig: z
        .object({ Name: text, Options: textMap })
        .nullish()
        .transform((value) => value ?? undefined),
    })
    .nullish()
    .transform((value) => value ?? undefined),
  TmpfsOptions: z
    .object({ SizeBytes: integer, Mode: integer })
    .nullish()
    .transform((value) => value ?? undefined),
});

const portBindings = z
  .record(
    z.string(),
    z
      .array(z.object({ HostIp: text, HostPort: text }))
      .nullish()
      .transform((value) => value ?? []),
  )
  .nullish()
  .transform((value) => value ?? {});

const hostConfigBody = z.object({
  AutoRemove: flag,
  Binds: texts,
  Mounts: z
    .array(mountBody)
    .nullish()
    .transform((value) => value ?? []),
  PortBindings: portBindings,
  PublishAllPorts: flag,
  NetworkMode: text,
  Dns: texts,
  DnsSearch: texts,
  DnsOptions: texts,
  ExtraHosts: texts,
  Links: texts,
  Privileged: flag,
  ReadonlyRootfs: flag,
  CapAdd: textOrTexts,
  CapDrop: textOrTexts,
  SecurityOpt: texts,
  Sysctls: textMap,
  RestartPolicy: z
    .object({ Name: text, MaximumRetryCount: integer })
    .nullish()
    .transform((value) => value ?? { Name: "", MaximumRetryCount: 0 }),
  Memory: integer,
  NanoCpus: integer,
  PidsLimit: optionalInteger,
  ShmSize: integer,
  Init: optionalFlag,
  GroupAdd: texts,
  Tmpfs: textMap,
  PidMode: text,
  IpcMode: text,
  UTSMode: text,
  LogConfig: z
    .object({ Type: text, Config: textMap })
    .nullish()
    .transform((value) => value ?? { Type: "", Config: {} }),
});

const containerBody = z.object({
  Hostname: text,
  Domainname: text,
  User: text,
  AttachStdin: flag,
  AttachStdout: flag,
  AttachStderr: flag,
  ExposedPorts: textSet,
  Tty: flag,
  OpenStdin: flag,
  StdinOnce: flag,
  Env: texts,
  Cmd: textOrTexts,
  Image: text,
  Volumes: textSet,
  WorkingDir: text,
  Entrypoint: textOrTexts,
  MacAddress: text,
  Labels: textMap,
  StopSignal: text,
  StopTimeout: optionalInteger,
  HostConfig: hostConfigBody.nullish(),
  NetworkingConfig: z.object({ EndpointsConfig: z.record(z.string(), endpointBody).nullish() }).nullish(),
});

const keepHostConfig = z.looseObject({ HostConfig: z.looseObject({}).nullish(), NetworkingConfig: anything });

type Body = z.output<typeof containerBody>;
type HostBody = z.output<typeof hostConfigBody>;

export interface Defaults {
  readonly shmSizeBytes: number;
  readonly logDriver: string;
  /** Those of `logDriver`; the container's own win. */
  readonly logOptions: Readonly<Record<string, string>>;
  readonly init: boolean;
}

/**
 * `POST /containers/create`. Pure; what depends on the image or on existing networks is checked by the rooms.
 *
 * @throws {EngineError} in Docker's words; `unsupported` for what would be unsafe to ignore.
 */
export function parseContainer(
  json: unknown,
  version: ApiVersion,
  defaults: Defaults,
): { readonly spec: ContainerSpec; readonly warnings: readonly string[] } {
  const body = decodeBody(containerBody, json);
  if (Object.keys(json as object).length === 0) throw invalid("config cannot be empty in order to create a container");
  const raw = keepHostConfig.parse(json);
  const rawHost = raw.HostConfig ?? {};
  refuseUnsupported(rawHost);
  const host = body.HostConfig ?? hostConfigBody.parse({});
  const networkMode = host.NetworkMode === "" || host.NetworkMode === "default" ? "bridge" : host.NetworkMode;
  checkConfig(body);
  checkModes(body, host, networkMode);
  const { HostConfig: _host, NetworkingConfig: _networking, ...rawConfig } = raw;
  const spec: ContainerSpec = {
    image: body.Image,
    hostname: body.Hostname,
    domainname: body.Domainname,
    user: body.User,
    tty: body.Tty,
    openStdin: body.OpenStdin,
    stdinOnce: body.StdinOnce,
    attachStdin: body.AttachStdin,
    attachStdout: body.AttachStdout,
    attachStderr: body.AttachStderr,
    env: body.Env,
    entrypoint: body.Entrypoint,
    command: body.Cmd,
    workingDirectory: body.WorkingDir,
    labels: body.Labels,
    stopSignal: body.StopSignal,
    stopTimeoutSeconds: body.StopTimeout,
    exposedPorts: parseExposed([...body.ExposedPorts, ...Object.keys(host.PortBindings)]).filter(
      (port, at, all) => all.indexOf(port) === at,
    ),
    anonymousVolumes: body.Volumes,
    host: parseHost(host, defaults),
    networkMode,
    endpoints: parseEndpoints(body, networkMode, version),
    rawConfig,
    rawHostConfig: { ...rawHost, NetworkMode: networkMode },
  };
  return {
    spec,
    warnings: warnings(rawHost, { isHostNetwork: networkMode === "host", hasPorts: spec.host.publish.length > 0 }),
  };
}

function parseHost(host: HostBody, defaults: Defaults): HostSpec {
  const mounts: MountSpec[] = host.Binds.map(parseBind);
  const tmpfs: Record<string, string> = { ...host.Tmpfs };
  for (const mount of host.Mounts) {
    if (mount.Type === "tmpfs") {
      if (!mount.Target.startsWith("/")) {
        throw invalid(
          `invalid mount config for type "tmpfs": invalid mount path: '${mount.Target}' mount path must be absolute`,
        );
      }
      tmpfs[mount.Target] = tmpfsOptions(mount);
    } else mounts.push(parseMount(mount));
  }
  for (const target of Object.keys(tmpfs)) {
    if (!target.startsWith("/")) throw invalid(`invalid mount path: '${target}' mount path must be absolute`);
  }
  refuseDuplicates([...mounts.map((mount) => mount.target), ...Object.keys(tmpfs)]);
  const logDriver = host.LogConfig.Type === "" ? defaults.logDriver : host.LogConfig.Type;
  return {
    autoRemove: host.AutoRemove,
    mounts,
    publish: parseBindings(host.PortBindings),
    publishAll: host.PublishAllPorts,
    dns: { servers: host.Dns.map(parseDns), search: host.DnsSearch, options: host.DnsOptions },
    extraHosts: host.ExtraHosts,
    links: host.Links,
    privileged: host.Privileged,
    readonlyRootfs: host.ReadonlyRootfs,
    capAdd: parseCapabilities("CapAdd", host.CapAdd ?? []),
    capDrop: parseCapabilities("CapDrop", host.CapDrop ?? []),
    securityOptions: host.SecurityOpt,
    sysctls: host.Sysctls,
    restartPolicy: {
      name: host.RestartPolicy.Name === "" ? "no" : host.RestartPolicy.Name,
      maximumRetryCount: host.RestartPolicy.MaximumRetryCount,
    },
    memoryBytes: host.Memory,
    nanoCpus: host.NanoCpus,
    pidsLimit: host.PidsLimit,
    shmSizeBytes: host.ShmSize === 0 ? defaults.shmSizeBytes : host.ShmSize,
    init: host.Init ?? defaults.init,
    groupAdd: host.GroupAdd,
    tmpfs,
    pidMode: host.PidMode,
    ipcMode: host.IpcMode,
    utsMode: host.UTSMode,
    logDriver,
    logOptions: { ...(logDriver === defaults.logDriver ? defaults.logOptions : {}), ...host.LogConfig.Config },
  };
}

function parseEndpoints(body: Body, networkMode: string, version: ApiVersion): readonly EndpointRequest[] {
  const configs = new Map(
    Object.entries(body.NetworkingConfig?.EndpointsConfig ?? {}).map(([name, endpoint]) => [
      name === "default" ? "bridge" : name,
      endpoint,
    ]),
  );
  if (version < 44 && configs.size > 1) {
    throw invalid(
      `Container cannot be created with multiple network endpoints: ${[...configs.keys()].sort((a, b) => a.localeCompare(b)).join(", ")}`,
    );
  }
  if (["host", "none"].includes(networkMode) || networkMode.startsWith("container:")) return [];
  // The network of NetworkMode comes first: it gives eth0 and, unless priorities say otherwise, the default route.
  const names = [networkMode, ...[...configs.keys()].filter((name) => name !== networkMode)];
  return names.map((name, i) => {
    const sent = configs.get(name);
    const hasOldMac = i === 0 && body.MacAddress !== "" && (sent?.MacAddress ?? "") === "";
    const endpoint = hasOldMac ? { ...emptyEndpoint, ...sent, MacAddress: body.MacAddress } : sent;
    try {
      return parseEndpoint(name, endpoint);
    } catch (error) {
      if (!(error instanceof EngineError)) throw error;
      throw new EngineError(error.code, `invalid config for network ${name}: ${error.message}`, { cause: error });
    }
  });
}

const emptyEndpoint = {
  IPAMConfig: undefined,
  Links: [],
  Aliases: [],
  MacAddress: "",
  DriverOpts: {},
  GwPriority: 0,
} as const;

function checkConfig(body: Body): void {
  for (const variable of body.Env) {
    if (variable === "" || variable.startsWith("=")) throw invalid(`invalid environment variable: ${variable}`);
  }
  if (body.WorkingDir !== "" && !body.WorkingDir.startsWith("/")) {
    throw invalid(`the working directory '${body.WorkingDir}' is invalid, it needs to be an absolute path`);
  }
  for (const target of body.Volumes) {
    if (!target.startsWith("/"))
      throw invalid(
        `invalid volume specification: '${target}': invalid mount path: '${target}' mount path must be absolute`,
      );
  }
  if (body.StopSignal !== "" && !isSignal(body.StopSignal)) throw invalid(`invalid signal: ${body.StopSignal}`);
}

// Docker's runconfig.validateNetMode; the order decides which text is seen first.
function checkModes(body: Body, host: HostBody, networkMode: string): void {
  const isContainer = networkMode.startsWith("container:");
  const isHost = networkMode === "host";
  const refuse = (why: string) => invalid(`conflicting options: ${why}`);
  if (isContainer && networkMode === "container:") throw invalid("invalid container format container:<name|id>");
  if (host.UTSMode === "host" && body.Hostname !== "") throw refuse("hostname and the UTS mode");
  if (isContainer && body.Hostname !== "") throw refuse("hostname and the network mode");
  if (host.Links.length > 0 && (isContainer || isHost)) {
    throw refuse(
      `${isHost ? "host" : "container"} type networking can't be used with links. This would result in undefined behavior`,
    );
  }
  if (isContainer && host.Dns.length > 0) throw refuse("dns and the network mode");
  if (isContainer && host.ExtraHosts.length > 0) throw refuse("custom host-to-IP mapping and the network mode");
  if ((isContainer || isHost) && body.MacAddress !== "") throw refuse("mac-address and the network mode");
  if (isContainer && (Object.keys(host.PortBindings).length > 0 || host.PublishAllPorts)) {
    throw refuse("port publishing and the container type network mode");
  }
  if (isContainer && body.ExposedPorts.length > 0) throw refuse("port exposing and the container type network mode");
  checkHost(host);
}

function checkHost(host: HostBody): void {
  const { Name: name, MaximumRetryCount: retries } = host.RestartPolicy;
  if (!["", "no", "always", "on-failure", "unless-stopped"].includes(name)) {
    throw invalid(
      `invalid restart policy: unknown policy '${name}'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'`,
    );
  }
  if (retries < 0) throw invalid("invalid restart policy: maximum retry count cannot be negative");
  if (retries > 0 && name !== "on-failure") {
    throw invalid("invalid restart policy: maximum retry count can only be used with 'on-failure'");
  }
  if (host.AutoRemove && name !== "" && name !== "no")
    throw invalid("can't create 'AutoRemove' container with restart policy");
  if (host.Memory < 0 || (host.Memory > 0 && host.Memory < 6 * 1024 * 1024))
    throw invalid("Minimum memory limit allowed is 6MB");
  if (host.NanoCpus < 0) throw invalid("range of CPUs is from 0.01 to the number available");
  if (host.ShmSize < 0) throw invalid("SHM size can not be less than 0");
  for (const entry of host.ExtraHosts) {
    const at = entry.search(/[:=]/);
    if (at <= 0) throw invalid(`bad format for add-host: ${JSON.stringify(entry)}`);
    const address = entry.slice(at + 1).replace(/^\[(.*)\]$/, "$1");
    if (address !== "host-gateway" && tryParseIp(address) === undefined) {
      throw invalid(`invalid IP address in add-host: ${JSON.stringify(address)}`);
    }
  }
  const driver = host.LogConfig.Type;
  if (!["", "json-file", "local", "none"].includes(driver)) {
    throw invalid(`logger: no log driver named '${driver}' is registered`);
  }
}

function parseDns(server: string): IpAddress {
  const address = tryParseIp(server);
  if (address === undefined) throw invalid(`${server} is not an ip address`);
  return address;
}

const capabilities = new Set(
  (
    "AUDIT_CONTROL AUDIT_READ AUDIT_WRITE BLOCK_SUSPEND BPF CHECKPOINT_RESTORE CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER " +
    "FSETID IPC_LOCK IPC_OWNER KILL LEASE LINUX_IMMUTABLE MAC_ADMIN MAC_OVERRIDE MKNOD NET_ADMIN NET_BIND_SERVICE " +
    "NET_BROADCAST NET_RAW PERFMON SETFCAP SETGID SETPCAP SETUID SYSLOG SYS_ADMIN SYS_BOOT SYS_CHROOT SYS_MODULE SYS_NICE " +
    "SYS_PACCT SYS_PTRACE SYS_RAWIO SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG WAKE_ALARM"
  ).split(" "),
);

/** Normal form `CAP_NET_ADMIN`, or `ALL`. */
function parseCapabilities(field: string, names: readonly string[]): readonly string[] {
  return names.map((name) => {
    const upper = name.toUpperCase();
    if (upper === "ALL") return upper;
    const bare = upper.replace(/^CAP_/, "");
    if (!capabilities.has(bare)) throw invalid(`invalid ${field}: unknown capability: "CAP_${bare}"`);
    return `CAP_${bare}`;
  });
}

const signals =
  "ABRT ALRM BUS CHLD CLD CONT FPE HUP ILL INT IO IOT KILL PIPE POLL PROF PWR QUIT SEGV STKFLT STOP SYS TERM TRAP TSTP TTIN TTOU URG USR1 USR2 VTALRM WINCH XCPU XFSZ".split(
    " ",
  );

export function isSignal(name: string): boolean {
  if (/^\d{1,2}$/.test(name)) return Number(name) >= 1 && Number(name) <= 64;
  const bare = name.toUpperCase().replace(/^SIG/, "");
  return signals.includes(bare) || /^RTM(IN(\+([1-9]|1[0-5]))?|AX(-([1-9]|1[0-4]))?)$/.test(bare);
}
