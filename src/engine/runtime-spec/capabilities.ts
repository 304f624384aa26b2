import { EngineError } from "../../base/errors.ts";

/** Bit number = position (linux/capability.h, kernel 5.9 and later). */
export const knownCapabilities = [
  "CAP_CHOWN",
  "CAP_DAC_OVERRIDE",
  "CAP_DAC_READ_SEARCH",
  "CAP_FOWNER",
  "CAP_FSETID",
  "CAP_KILL",
  "CAP_SETGID",
  "CAP_SETUID",
  "CAP_SETPCAP",
  "CAP_LINUX_IMMUTABLE",
  "CAP_NET_BIND_SERVICE",
  "CAP_NET_BROADCAST",
  "CAP_NET_ADMIN",
  "CAP_NET_RAW",
  "CAP_IPC_LOCK",
  "CAP_IPC_OWNER",
  "CAP_SYS_MODULE",
  "CAP_SYS_RAWIO",
  "CAP_SYS_CHROOT",
  "CAP_SYS_PTRACE",
  "CAP_SYS_PACCT",
  "CAP_SYS_ADMIN",
  "CAP_SYS_BOOT",
  "CAP_SYS_NICE",
  "CAP_SYS_RESOURCE",
  "CAP_SYS_TIME",
  "CAP_SYS_TTY_CONFIG",
  "CAP_MKNOD",
  "CAP_LEASE",
  "CAP_AUDIT_WRITE",
  "CAP_AUDIT_CONTROL",
  "CAP_SETFCAP",
  "CAP_MAC_OVERRIDE",
  "CAP_MAC_ADMIN",
  "CAP_SYSLOG",
  "CAP_WAKE_ALARM",
  "CAP_BLOCK_SUSPEND",
  "CAP_AUDIT_READ",
  "CAP_PERFMON",
  "CAP_BPF",
  "CAP_CHECKPOINT_RESTORE",
] as const;

/** What Docker leaves to root in a container. */
export const defaultCapabilities: readonly string[] = [
  "CAP_CHOWN",
  "CAP_DAC_OVERRIDE",
  "CAP_FSETID",
  "CAP_FOWNER",
  "CAP_MKNOD",
  "CAP_NET_RAW",
  "CAP_SETGID",
  "CAP_SETUID",
  "CAP_SETFCAP",
  "CAP_SETPCAP",
  "CAP_NET_BIND_SERVICE",
  "CAP_SYS_CHROOT",
  "CAP_KILL",
  "CAP_AUDIT_WRITE",
];

/** The capabilities that `mask` (a line of /proc/PID/status, in hex) holds. */
export function capabilitiesOf(maskHex: string): ReadonlySet<string> {
  const mask = BigInt(`0x${maskHex}`);
  return new Set(knownCapabilities.filter((_, bit) => ((mask >> BigInt(bit)) & 1n) === 1n));
}

export interface CapabilityRequest {
  readonly privileged: boolean;
  readonly add: readonly string[];
  readonly drop: readonly string[];
  /** What this host can give at all: a weftd inside a container or a trimmed virtual machine may lack some. */
  readonly available: ReadonlySet<string>;
}

/**
 * The set a container's first process gets, in a stable order.
 * @throws {EngineError} `invalid` for a name that is no capability.
 */
export function resolveCapabilities(request: CapabilityRequest): readonly string[] {
  const add = normalise(request.add, "CapAdd");
  const drop = normalise(request.drop, "CapDrop");
  const everything = knownCapabilities.filter((name) => request.available.has(name));
  if (request.privileged) return everything;
  const base = add.has("ALL") ? everything : drop.has("ALL") ? [] : defaultCapabilities;
  const kept = base.filter((name) => !drop.has(name));
  const added = [...add].filter((name) => name !== "ALL" && !kept.includes(name));
  return [...kept, ...added];
}

/** Accepts `net_admin`, `NET_ADMIN`, `CAP_NET_ADMIN`, `all`. */
function normalise(names: readonly string[], field: string): ReadonlySet<string> {
  const out = new Set<string>();
  for (const name of names) {
    const upper = name.toUpperCase();
    const full = upper === "ALL" || upper.startsWith("CAP_") ? upper : `CAP_${upper}`;
    if (full !== "ALL" && !(knownCapabilities as readonly string[]).includes(full)) {
      // compat:
      throw new EngineError("invalid", `invalid ${field}: unknown capability: "${full}"`);
    }
    out.add(full);
  }
  return out;
}
