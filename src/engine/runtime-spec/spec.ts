import { EngineError } from "../../base/errors.ts";
import type { ContainerRecord, HostSpec, MountPoint } from "../model.ts";
import { defaultProfile, isKernelAtLeast, type OciSeccomp, resolveSeccomp } from "../seccomp/profile.ts";
import { resolveCapabilities } from "./capabilities.ts";
import {
  defaultMounts,
  defaultShmBytes,
  deviceRules,
  maskedPaths,
  privateNetworkSysctls,
  readonlyPaths,
} from "./defaults.ts";
import type { OciDevice, OciMount, OciProcess, OciResources, OciSpec } from "./oci.ts";
import { parseSecurityOptions, type SecurityOptions } from "./security.ts";
import type { OciUser } from "./users.ts";

/** What a specification depends on beside the container: this machine. */
export interface HostFacts {
  /** Go's name. */
  readonly architecture: string;
  /** `uname -r`. */
  readonly kernelRelease: string;
  readonly hostname: string;
  readonly capabilities: ReadonlySet<string>;
  readonly cgroupVersion: 1 | 2;
  readonly hasApparmor: boolean;
  readonly cpuCount: number;
  /** For privileged containers. */
  readonly devices: readonly OciDevice[];
}

export interface SpecInput {
  readonly container: ContainerRecord;
  readonly host: HostFacts;
  readonly user: OciUser;
  /** undefined: the host's own network. */
  readonly netnsPath: string | undefined;
  /** Namespaces to join, by type: `pid`, `ipc`. */
  readonly joined: Readonly<Record<string, string>>;
  /** Directory of the `hosts`, `hostname` and `resolv.conf` to mount. */
  readonly filesDirectory: string;
  /** A small init on the host, for `--init`. */
  readonly initPath: string | undefined;
  readonly cgroupParent: string;
  readonly consoleSize?: { readonly height: number; readonly width: number } | undefined;
}

const initDestination = "/sbin/docker-init";

/**
 * The OCI runtime specification of one container: as strict as Docker's. Pure.
 * @throws {EngineError} `invalid` for options that do not hold.
 */
export function buildSpec(input: SpecInput): OciSpec {
  const { container, host } = input;
  const options = container.spec.host;
  const security = parseSecurityOptions(options.securityOptions);
  const process = processSpec(input, security);
  const seccomp = seccompFor(security, options.privileged, host, process.capabilities.bounding);
  const isOpen = options.privileged || security.unmasked;
  return {
    ociVersion: "1.0.2",
    process,
    root: { path: "rootfs", ...(options.readonlyRootfs ? { readonly: true } : {}) },
    ...(options.utsMode === "host" ? {} : { hostname: container.hostname }),
    mounts: mountsOf(input),
    linux: {
      sysctl: sysctlsOf(input),
      resources: resourcesOf(options),
      cgroupsPath: `${input.cgroupParent}/${container.id}`,
      namespaces: namespacesOf(input),
      devices: options.privileged ? host.devices : [],
      ...(seccomp === undefined ? {} : { seccomp }),
      ...(isOpen ? {} : { maskedPaths, readonlyPaths }),
      ...rootfsPropagation(container.mounts),
    },
  };
}

/** The first process; `exec` starts from it too. */
function processSpec(input: SpecInput, security: SecurityOptions): OciProcess {
  const { container, host } = input;
  const options = container.spec.host;
  const capabilities = resolveCapabilities({
    privileged: options.privileged,
    add: options.capAdd,
    drop: options.capDrop,
    available: host.capabilities,
  });
  const command = [container.process.path, ...container.process.args];
  return {
    terminal: container.spec.tty,
    ...(input.consoleSize === undefined ? {} : { consoleSize: input.consoleSize }),
    user: input.user,
    args: usesInit(input) ? [initDestination, "--", ...command] : command,
    env: container.process.env,
    cwd: container.process.workingDirectory === "" ? "/" : container.process.workingDirectory,
    capabilities: { bounding: capabilities, effective: capabilities, permitted: capabilities },
    noNewPrivileges: security.noNewPrivileges,
    // Without a profile of ours loaded there is no default to name.
    ...(host.hasApparmor && security.apparmor !== undefined ? { apparmorProfile: security.apparmor } : {}),
  };
}

function usesInit(input: SpecInput): boolean {
  const options = input.container.spec.host;
  if (!options.init || options.pidMode !== "") return false;
  if (input.initPath === undefined) {
    throw new EngineError("unsupported", 'Cannot use --init: no "docker-init" or "tini" is installed on this host');
  }
  return true;
}

function seccompFor(
  security: SecurityOptions,
  privileged: boolean,
  host: HostFacts,
  bounding: readonly string[],
): OciSeccomp | undefined {
  if (security.seccomp === "unconfined" || (privileged && security.seccomp === "default")) return undefined;
  return resolveSeccomp(security.seccomp === "default" ? defaultProfile : security.seccomp, {
    architecture: host.architecture,
    kernelRelease: host.kernelRelease,
    capabilities: new Set(bounding),
  });
}

function namespacesOf(input: SpecInput): OciSpec["linux"]["namespaces"] {
  const { host: options } = input.container.spec;
  const joined = (type: string) => {
    const path = input.joined[type];
    return path === undefined ? { type } : { type, path };
  };
  return [
    { type: "mount" },
    ...(input.netnsPath === undefined ? [] : [{ type: "network", path: input.netnsPath }]),
    ...(options.utsMode === "host" ? [] : [{ type: "uts" }]),
    ...(options.pidMode === "host" ? [] : [joined("pid")]),
    ...(options.ipcMode === "host" ? [] : [joined("ipc")]),
    ...(input.host.cgroupVersion === 2 && !options.privileged ? [{ type: "cgroup" }] : []),
  ];
}

function sysctlsOf(input: SpecInput): Readonly<Record<string, string>> {
  const { spec } = input.container;
  // Those of interfaces need interfaces: net.* of the user is network/'s, once they are there.
  const own = Object.entries(spec.host.sysctls).filter(([name]) => !name.startsWith("net."));
  const isPrivate = input.netnsPath !== undefined && !spec.networkMode.startsWith("container:");
  return {
    ...(isPrivate ? privateNetworkSysctls : {}),
    ...(spec.domainname === "" || spec.host.utsMode === "host" ? {} : { "kernel.domainname": spec.domainname }),
    ...Object.fromEntries(own),
  };
}

function resourcesOf(options: HostSpec): OciResources {
  const periodUs = 100_000;
  return {
    devices: options.privileged ? [{ allow: true, access: "rwm" }] : deviceRules,
    // As much swap again as memory, Docker's default.
    ...(options.memoryBytes > 0 ? { memory: { limit: options.memoryBytes, swap: options.memoryBytes * 2 } } : {}),
    ...(options.nanoCpus > 0
      ? { cpu: { period: periodUs, quota: Math.trunc((options.nanoCpus * periodUs) / 1e9) } }
      : {}),
    ...(options.pidsLimit !== undefined && options.pidsLimit > 0 ? { pids: { limit: options.pidsLimit } } : {}),
  };
}

function mountsOf(input: SpecInput): readonly OciMount[] {
  const { container } = input;
  const options = container.spec.host;
  const wanted = [
    ...container.mounts.map((mount) => userMount(mount, input.host)),
    ...Object.entries(options.tmpfs).map(([path, text]) => tmpfsMount(path, text)),
    ...(usesInit(input) ? [bind(input.initPath ?? "", initDestination, ["ro", "rprivate"])] : []),
  ];
  const taken = new Set(wanted.map((mount) => mount.destination));
  const files = ["resolv.conf", "hostname", "hosts"].map((name) =>
    bind(`${input.filesDirectory}/${name}`, `/etc/${name}`, ["rprivate"]),
  );
  const standard = [...defaultMounts.map((mount) => adjusted(mount, options)), shmMount(options)].filter(
    // A user's own /dev brings what it wants below it.
    (mount) => !(taken.has("/dev") && mount.destination.startsWith("/dev/")),
  );
  const ours = [...standard, ...files].filter((mount) => !taken.has(mount.destination));
  const ownMounts = options.readonlyRootfs ? ours.map(asReadonly) : ours;
  // Parents before what is mounted inside them; the kernel's own file systems come first anyway.
  const depth = (mount: OciMount) => mount.destination.split("/").filter((part) => part !== "").length;
  return [...ownMounts, ...[...wanted].sort((a, b) => depth(a) - depth(b))];
}

function adjusted(mount: OciMount, options: HostSpec): OciMount {
  if (options.ipcMode === "host" && mount.destination === "/dev/mqueue") {
    return bind("/dev/mqueue", "/dev/mqueue", ["nosuid", "noexec", "nodev"]);
  }
  if (options.privileged && !options.readonlyRootfs && (mount.type === "sysfs" || mount.type === "cgroup")) {
    return { ...mount, options: mount.options.filter((option) => option !== "ro") };
  }
  return mount;
}

function shmMount(options: HostSpec): OciMount {
  if (options.ipcMode === "host") return bind("/dev/shm", "/dev/shm", ["rprivate"]);
  const bytes = options.shmSizeBytes > 0 ? options.shmSizeBytes : defaultShmBytes;
  return {
    destination: "/dev/shm",
    type: "tmpfs",
    source: "shm",
    options: ["nosuid", "noexec", "nodev", "mode=1777", `size=${bytes}`],
  };
}

const alwaysWritable = new Set(["/proc", "/dev", "/dev/pts", "/dev/shm", "/dev/mqueue"]);

function asReadonly(mount: OciMount): OciMount {
  if (alwaysWritable.has(mount.destination) || mount.options.includes("ro")) return mount;
  return { ...mount, options: [...mount.options, "ro"] };
}

function userMount(mount: MountPoint, host: HostFacts): OciMount {
  if (mount.type === "tmpfs") return tmpfsMount(mount.destination, mount.readonly ? "ro" : "");
  const propagation = mount.propagation === "" ? "rprivate" : mount.propagation;
  // Read-only all the way down where the kernel can (mount_setattr, 5.12), as Docker does since 25.
  const readonly = mount.readonly ? (isKernelAtLeast(host.kernelRelease, "5.12") ? ["ro", "rro"] : ["ro"]) : [];
  return bind(mount.source, mount.destination, [...readonly, propagation]);
}

function tmpfsMount(destination: string, text: string): OciMount {
  const own = text.split(",").filter((option) => option !== "");
  const opposite: Readonly<Record<string, string>> = { noexec: "exec", nosuid: "suid", nodev: "dev" };
  const strict = Object.keys(opposite).filter((name) => !own.includes(name) && !own.includes(opposite[name] as string));
  return { destination, type: "tmpfs", source: "tmpfs", options: [...strict, ...own] };
}

function bind(source: string, destination: string, options: readonly string[]): OciMount {
  return { destination, type: "bind", source, options: ["rbind", ...options] };
}

/** A shared or slave mount needs a root that lets events through. */
function rootfsPropagation(mounts: readonly MountPoint[]): { readonly rootfsPropagation?: string } {
  const kinds = mounts.map((mount) => mount.propagation.replace(/^r/, ""));
  if (kinds.includes("shared")) return { rootfsPropagation: "shared" };
  return kinds.includes("slave") ? { rootfsPropagation: "rslave" } : {};
}
