import type { Listener, TlsFiles } from "../api/mod.ts";
import { type Cidr, type IpAddress, tryParseCidr, tryParseIp } from "../base/ip.ts";
import type { LogLevel } from "../base/log.ts";
import type { NetworksConfig } from "../network/mod.ts";
import { options } from "./options.ts";
import { fallbackOf, type Given, type Value } from "./values.ts";

/** The whole configuration, checked. Each room gets its slice. */
export interface DaemonConfig {
  readonly listeners: readonly Listener[];
  readonly dataRoot: string;
  readonly execRoot: string;
  readonly pidFile: string;
  /** Address of an outside containerd; undefined: one of our own. */
  readonly containerdAddress: string | undefined;
  readonly containerdNamespace: string;
  readonly logLevel: LogLevel;
  readonly debug: boolean;
  readonly experimental: boolean;
  readonly labels: readonly string[];
  readonly liveRestore: boolean;
  readonly shutdownTimeoutSeconds: number;
  readonly init: boolean;
  readonly defaultShmSizeBytes: number;
  readonly logDriver: string;
  readonly logOptions: Readonly<Record<string, string>>;
  readonly registry: RegistryConfig;
  readonly networks: NetworksConfig;
  readonly swarmAdvertiseAddress: string;
  /** One sentence for each option that was taken and changes nothing. */
  readonly warnings: readonly string[];
}

export interface RegistryConfig {
  readonly insecureRegistries: readonly string[];
  readonly mirrors: readonly string[];
  readonly maximumConcurrentDownloads: number;
  /** HTTP_PROXY, HTTPS_PROXY, NO_PROXY where given: they go over the daemon's own environment. */
  readonly proxyEnvironment: Readonly<Record<string, string>>;
}

/** Flags over daemon.json over defaults. @throws {SyntaxError} naming the option and the value. */
export function buildConfig(flags: Given, file: Given): DaemonConfig {
  const given = new Map([...file, ...flags]);
  const warnings = checkStatus(given);
  const get = new Reader(given);
  const debug = get.flag("debug");
  const logLevel = get.oneOf("log-level", ["debug", "info", "warn", "error", "fatal"]);
  const runtime = get.text("default-runtime");
  if (runtime !== "runc") throw get.refuse("default-runtime", "only runc is supported");
  const tls = tlsFiles(get);
  const hosts = get.list("host");
  return {
    listeners: (hosts.length === 0 ? ["unix:///var/run/docker.sock"] : hosts).map((host) => parseHost(host, tls, get)),
    dataRoot: get.path("data-root"),
    execRoot: get.path("exec-root"),
    pidFile: get.path("pidfile"),
    containerdAddress: get.text("containerd") === "" ? undefined : get.path("containerd"),
    containerdNamespace: get.text("containerd-namespace"),
    logLevel: debug ? "debug" : logLevel,
    debug,
    experimental: get.flag("experimental"),
    labels: parseLabels(get),
    liveRestore: get.flag("live-restore"),
    shutdownTimeoutSeconds: get.integer("shutdown-timeout", -1, 86_400),
    init: get.flag("init"),
    defaultShmSizeBytes: parseBytes(get, "default-shm-size"),
    logDriver: get.oneOf("log-driver", ["json-file", "local", "none"]),
    logOptions: get.map("log-opt"),
    registry: {
      insecureRegistries: get.list("insecure-registry").map((entry) => entry.replace(/^https?:\/\//, "")),
      mirrors: get.list("registry-mirror").map((mirror) => parseMirror(get, mirror)),
      maximumConcurrentDownloads: get.integer("max-concurrent-downloads", 1, 1000),
      proxyEnvironment: parseProxies(get),
    },
    networks: parseNetworks(get),
    swarmAdvertiseAddress: get.text("swarm-default-advertise-addr"),
    warnings,
  };
}

/** @throws {SyntaxError} for what may not be ignored; returns warnings for what is. */
function checkStatus(given: Given): readonly string[] {
  const warnings: string[] = [];
  for (const option of options) {
    const value = given.get(option.name);
    if (value === undefined || sameValue(value, fallbackOf(option))) continue;
    if (option.status.kind === "refused") {
      throw new SyntaxError(`--${option.name} is not supported: ${option.status.why}`);
    }
    if (option.status.kind === "no-effect") warnings.push(`--${option.name} has no effect: ${option.status.why}`);
  }
  return warnings;
}

class Reader {
  readonly #given: Given;

  constructor(given: Given) {
    this.#given = given;
  }

  flag(name: string): boolean {
    return this.#value(name) as boolean;
  }

  text(name: string): string {
    return this.#value(name) as string;
  }

  list(name: string): readonly string[] {
    return this.#value(name) as readonly string[];
  }

  map(name: string): Readonly<Record<string, string>> {
    return this.#value(name) as Readonly<Record<string, string>>;
  }

  integer(name: string, least: number, most: number): number {
    const value = this.#value(name) as number;
    if (value < least || value > most) throw this.refuse(name, `it must be between ${least} and ${most}`);
    return value;
  }

  path(name: string): string {
    const value = this.text(name);
    if (!value.startsWith("/")) throw this.refuse(name, "it must be an absolute path");
    return value.length > 1 ? value.replace(/\/+$/, "") : value;
  }

  oneOf<T extends string>(name: string, words: readonly T[]): T {
    const value = this.text(name);
    const found = words.find((word) => word === value);
    if (found === undefined) throw this.refuse(name, `it must be one of ${words.join(", ")}`);
    return found;
  }

  cidr(name: string): Cidr | undefined {
    const value = this.text(name);
    if (value === "") return undefined;
    const parsed = tryParseCidr(value);
    if (parsed === undefined || value.includes(":"))
      throw this.refuse(name, "it must be an IPv4 address with its prefix, as in 10.1.0.1/16");
    return parsed;
  }

  ip(name: string): IpAddress | undefined {
    const value = this.text(name);
    if (value === "") return undefined;
    const parsed = tryParseIp(value);
    if (parsed === undefined) throw this.refuse(name, "it must be an IP address");
    return parsed;
  }

  refuse(name: string, why: string): SyntaxError {
    return new SyntaxError(`invalid value ${JSON.stringify(this.#value(name))} for --${name}: ${why}`);
  }

  #value(name: string): Value {
    const option = options.find((one) => one.name === name);
    if (option === undefined) throw new TypeError(`no option is called ${name}`);
    return this.#given.get(name) ?? fallbackOf(option);
  }
}

function parseHost(host: string, tls: TlsFiles | undefined, get: Reader): Listener {
  const refuse = (why: string) => new SyntaxError(`invalid value ${JSON.stringify(host)} for --host: ${why}`);
  const [scheme, rest] = host.includes("://") ? (host.split("://", 2) as [string, string]) : ["tcp", host];
  switch (scheme) {
    case "unix": {
      const path = rest === "" ? "/var/run/docker.sock" : rest;
      if (!path.startsWith("/")) throw refuse("the socket's path must be absolute");
      // sun_path, the terminating zero included.
      if (Buffer.byteLength(path) > 107) throw refuse("the socket's path is longer than 107 bytes");
      return { kind: "unix", path, group: get.text("group") };
    }
    case "tcp": {
      const match = /^(?:\[([0-9a-fA-F:.]+)\]|([^:/[\]]*))(?::(\d{1,5}))?\/?$/.exec(rest);
      const port = match?.[3] === undefined ? (tls === undefined ? 2375 : 2376) : Number(match[3]);
      if (match === null || port > 65535) throw refuse("it must be tcp://ADDRESS:PORT");
      if (tls?.clientCaFile === undefined && !get.flag("insecure-tcp-without-tls")) {
        throw refuse(
          "without --tlsverify everybody who reaches the port is root on this host; " +
            "give --tlsverify, or --insecure-tcp-without-tls if that is really wanted",
        );
      }
      const address = match[1] ?? match[2] ?? "";
      return { kind: "tcp", host: address === "" ? "127.0.0.1" : address, port, tls };
    }
    case "fd":
      throw refuse("sockets handed over by systemd are not supported; use unix://");
    default:
      throw refuse("it must be unix:// or tcp://");
  }
}

function tlsFiles(get: Reader): TlsFiles | undefined {
  const verifies = get.flag("tlsverify");
  if (!verifies && !get.flag("tls")) return undefined;
  return {
    certificateFile: get.path("tlscert"),
    keyFile: get.path("tlskey"),
    clientCaFile: verifies ? get.path("tlscacert") : undefined,
  };
}

function parseLabels(get: Reader): readonly string[] {
  const labels = get.list("label");
  const values = new Map<string, string>();
  for (const label of labels) {
    const at = label.indexOf("=");
    // compat: dockerd's words.
    if (at <= 0) throw new SyntaxError(`bad attribute format: ${label}`);
    const [key, value] = [label.slice(0, at), label.slice(at + 1)];
    if (values.has(key) && values.get(key) !== value) {
      throw new SyntaxError(`conflict labels for ${key}=${value} and ${key}=${values.get(key)}`);
    }
    values.set(key, value);
  }
  return [...values].map(([key, value]) => `${key}=${value}`);
}

function parseNetworks(get: Reader): NetworksConfig {
  const bridge = get.text("bridge");
  if (bridge !== "" && get.text("bip") !== "") {
    throw new SyntaxError("you specified -b & --bip, mutually exclusive options. Please specify only one");
  }
  if (Buffer.byteLength(bridge) > 15 || /[\s/]/.test(bridge)) throw get.refuse("bridge", "it is no name of a device");
  if (bridge === "none") throw get.refuse("bridge", "a host without default bridge is not supported yet");
  return {
    bridgeName: bridge === "" ? undefined : bridge,
    bip: get.cidr("bip"),
    fixedCidr: get.cidr("fixed-cidr"),
    defaultGateway: get.ip("default-gateway"),
    mtuBytes: get.integer("mtu", 68, 65535),
    defaultAddressPools: parsePools(get),
    dns: { servers: parseDns(get), search: get.list("dns-search"), options: get.list("dns-opt") },
    icc: get.flag("icc"),
    ipMasquerade: get.flag("ip-masq"),
    defaultPublishAddress: get.text("ip") === "0.0.0.0" ? undefined : get.ip("ip"),
    ipForward: get.flag("ip-forward"),
  };
}

function parseDns(get: Reader): readonly IpAddress[] {
  return get
    .list("dns")
    .flatMap((entry) => entry.split(","))
    .map((entry) => {
      const address = tryParseIp(entry.trim());
      if (address === undefined)
        throw new SyntaxError(`invalid value ${JSON.stringify(entry)} for --dns: it must be an IP address`);
      return address;
    });
}

function parsePools(get: Reader): NetworksConfig["defaultAddressPools"] {
  const texts = get.list("default-address-pool");
  if (texts.length === 0) return undefined;
  return texts.map((text) => {
    const refuse = (why: string) =>
      new SyntaxError(`invalid value ${JSON.stringify(text)} for --default-address-pool: ${why}`);
    const fields = new Map(text.split(",").map((field) => field.split("=", 2) as [string, string]));
    const unknown = [...fields.keys()].find((key) => key !== "base" && key !== "size");
    if (unknown !== undefined) throw refuse(`unexpected key '${unknown}'`);
    const base = tryParseCidr(fields.get("base") ?? "");
    const size = Number(fields.get("size") ?? "NaN");
    if (base === undefined) throw refuse("base must be a subnet");
    const most = base.address.includes(":") ? 128 : 32;
    if (!Number.isInteger(size) || size < base.prefix || size > most)
      throw refuse(`size must be between ${base.prefix} and ${most}`);
    return { base, size };
  });
}

function parseMirror(get: Reader, mirror: string): string {
  if (!URL.canParse(mirror) || !/^https?:$/.test(new URL(mirror).protocol)) {
    throw get.refuse("registry-mirror", `${JSON.stringify(mirror)} is no http or https URL`);
  }
  return mirror.endsWith("/") ? mirror : `${mirror}/`;
}

function parseProxies(get: Reader): Readonly<Record<string, string>> {
  const out: Record<string, string> = {};
  for (const name of ["http-proxy", "https-proxy"]) {
    const url = get.text(name);
    if (url === "") continue;
    if (!URL.canParse(url)) throw get.refuse(name, "it must be a URL");
    out[name.toUpperCase().replace("-", "_")] = url;
  }
  if (get.text("no-proxy") !== "") out["NO_PROXY"] = get.text("no-proxy");
  return out;
}

/** `64MiB`, `64m`, `67108864`. */
function parseBytes(get: Reader, name: string): number {
  const match = /^(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?$/i.exec(get.text(name));
  if (match === null) throw get.refuse(name, "it must be a size such as 64MiB");
  const powers: Readonly<Record<string, number>> = { "": 0, k: 1, m: 2, g: 3, t: 4 };
  return Math.trunc(Number(match[1]) * 1024 ** (powers[(match[2] ?? "").toLowerCase()] ?? 0));
}

function sameValue(a: Value, b: Value): boolean {
  return JSON.stringify(a) === JSON.stringify(b);
}

/** What SIGHUP may change; everything else stays as it was at start. */
export function reloaded(running: DaemonConfig, fresh: DaemonConfig): DaemonConfig {
  return {
    ...running,
    debug: fresh.debug,
    logLevel: fresh.logLevel,
    labels: fresh.labels,
    liveRestore: fresh.liveRestore,
    shutdownTimeoutSeconds: fresh.shutdownTimeoutSeconds,
    registry: fresh.registry,
    warnings: fresh.warnings,
  };
}
