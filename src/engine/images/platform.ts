import { EngineError } from "../../base/errors.ts";

/** What an image was built for. */
export interface Platform {
  readonly os: string;
  readonly architecture: string;
  readonly variant: string;
}

const operatingSystems = new Set([
  "aix",
  "android",
  "darwin",
  "dragonfly",
  "freebsd",
  "illumos",
  "linux",
  "netbsd",
  "openbsd",
  "plan9",
  "solaris",
  "windows",
]);
const architectures = new Set([
  "386",
  "amd64",
  "arm",
  "arm64",
  "loong64",
  "mips",
  "mips64",
  "mips64le",
  "mipsle",
  "ppc64",
  "ppc64le",
  "riscv64",
  "s390x",
  "wasm",
]);
const aliases: Readonly<Record<string, string>> = {
  x86_64: "amd64",
  "x86-64": "amd64",
  i386: "386",
  aarch64: "arm64",
  armhf: "arm",
  armel: "arm",
};
const nodeArchitectures: Readonly<Record<string, string>> = { x64: "amd64", ia32: "386" };

/** `processArch` is Node's word for this machine's processor. */
export function hostPlatform(processArch: string): Platform {
  return normalise({ os: "linux", architecture: nodeArchitectures[processArch] ?? processArch, variant: "" });
}

/**
 * Parses `os`, `arch`, `os/arch` or `os/arch/variant`; what is missing comes from the host.
 *
 * @throws {EngineError} `invalid` for an unknown word.
 */
export function parsePlatform(text: string, host: Platform): Platform {
  const parts = text.toLowerCase().split("/");
  const [first = "", second, variant] = parts;
  if (parts.length > 3 || parts.some((part) => !/^[a-z0-9_.-]+$/.test(part))) {
    throw new EngineError("invalid", `${JSON.stringify(text)} is an invalid component: invalid argument`);
  }
  if (second !== undefined) return normalise({ os: first, architecture: second, variant: variant ?? "" });
  if (operatingSystems.has(first)) return { ...host, os: first };
  const architecture = aliases[first] ?? first;
  if (architectures.has(architecture)) return normalise({ os: host.os, architecture, variant: "" });
  // compat: containerd/platforms
  throw new EngineError(
    "invalid",
    `${JSON.stringify(text)}: unknown operating system or architecture: invalid argument`,
  );
}

export function platformString(platform: Platform): string {
  return [platform.os, platform.architecture, platform.variant].filter((part) => part !== "").join("/");
}

/**
 * Picks what runs best on `wanted`: the same variant first, then (arm) the newest older variant, then (amd64) 32-bit.
 * Pure; undefined when nothing fits.
 */
export function selectPlatform<T>(candidates: readonly (readonly [Platform, T])[], wanted: Platform): T | undefined {
  let best: { rank: number; value: T } | undefined;
  for (const [platform, value] of candidates) {
    const rank = suitability(normalise(platform), wanted);
    if (rank > 0 && (best === undefined || rank > best.rank)) best = { rank, value };
  }
  return best?.value;
}

/** 0: cannot run; greater is better. */
function suitability(platform: Platform, wanted: Platform): number {
  if (platform.os !== wanted.os) return 0;
  if (platform.architecture === wanted.architecture) {
    if (platform.variant === wanted.variant) return 100;
    const [has, can] = [variantNumber(platform.variant), variantNumber(wanted.variant)];
    return has <= can ? 50 + has : 0;
  }
  if (wanted.architecture === "arm64" && platform.architecture === "arm") return 10 + variantNumber(platform.variant);
  return wanted.architecture === "amd64" && platform.architecture === "386" ? 1 : 0;
}

function variantNumber(variant: string): number {
  return variant === "" ? 0 : Number.parseInt(variant.replace(/^v/, ""), 10) || 0;
}

function normalise(platform: Platform): Platform {
  const os = platform.os === "macos" ? "darwin" : platform.os;
  const architecture = aliases[platform.architecture] ?? platform.architecture;
  let { variant } = platform;
  if (architecture === "arm64" && (variant === "8" || variant === "v8")) variant = "";
  if (architecture === "arm") variant = variant === "" ? "v7" : variant.startsWith("v") ? variant : `v${variant}`;
  if (architecture === "amd64" && variant === "v1") variant = "";
  return { os, architecture, variant };
}
