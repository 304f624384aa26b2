import { addedRules, withdrawnNames } from "./amendments.ts";
import profile from "./profile.json" with { type: "json" };

/** One rule of a Docker seccomp profile; conditions decide whether it is part of a container's filter. */
export interface ProfileRule {
  readonly names: readonly string[];
  readonly action: string;
  readonly errnoRet?: number;
  readonly args?: readonly SeccompArgument[] | null;
  readonly includes?: RuleCondition;
  readonly excludes?: RuleCondition;
}

export interface RuleCondition {
  readonly arches?: readonly string[];
  readonly caps?: readonly string[];
  readonly minKernel?: string;
}

export interface SeccompArgument {
  readonly index: number;
  readonly value: number;
  readonly valueTwo?: number;
  readonly op: string;
}

/** A profile in Docker's format, as `--security-opt seccomp=FILE` takes it. */
export interface SeccompProfile {
  readonly defaultAction: string;
  readonly defaultErrnoRet?: number;
  readonly architectures?: readonly string[];
  readonly archMap?: readonly { readonly architecture: string; readonly subArchitectures: readonly string[] }[];
  readonly syscalls: readonly ProfileRule[];
}

/** `linux.seccomp` of the OCI runtime specification. */
export interface OciSeccomp {
  readonly defaultAction: string;
  readonly defaultErrnoRet?: number;
  readonly architectures?: readonly string[];
  readonly syscalls: readonly {
    readonly names: readonly string[];
    readonly action: string;
    readonly errnoRet?: number;
    readonly args?: readonly SeccompArgument[];
  }[];
}

export interface SeccompTarget {
  /** Go's name: `amd64`, `arm64`. */
  readonly architecture: string;
  /** `uname -r`. */
  readonly kernelRelease: string;
  /** The container's bounding set, `CAP_…`. */
  readonly capabilities: ReadonlySet<string>;
}

/** Go's architecture -> libseccomp's; the profile names families by the latter. */
const seccompNames: Readonly<Record<string, string>> = {
  amd64: "SCMP_ARCH_X86_64",
  arm64: "SCMP_ARCH_AARCH64",
  arm: "SCMP_ARCH_ARM",
  s390x: "SCMP_ARCH_S390X",
  ppc64le: "SCMP_ARCH_PPC64LE",
};

const eperm = 1;

/** What containers get that ask for nothing else: Docker's default. */
export const defaultProfile: SeccompProfile = {
  ...(profile as unknown as SeccompProfile),
  defaultErrnoRet: eperm,
  syscalls: [
    ...(profile as unknown as SeccompProfile).syscalls.flatMap((rule) => {
      const names = rule.names.filter((name) => !withdrawnNames.has(name));
      return names.length === 0 ? [] : [{ ...rule, names }];
    }),
    ...addedRules,
  ],
};

/** The filter of one container: the rules of `from` whose conditions hold for it. Pure. */
export function resolveSeccomp(from: SeccompProfile, target: SeccompTarget): OciSeccomp {
  const family = from.archMap?.find((entry) => entry.architecture === seccompNames[target.architecture]);
  const architectures = family === undefined ? from.architectures : [family.architecture, ...family.subArchitectures];
  return {
    defaultAction: from.defaultAction,
    ...(from.defaultErrnoRet === undefined ? {} : { defaultErrnoRet: from.defaultErrnoRet }),
    ...(architectures === undefined ? {} : { architectures }),
    syscalls: from.syscalls
      .filter((rule) => isIncluded(rule.includes, target) && !isExcluded(rule.excludes, target))
      .map((rule) => ({
        names: rule.names,
        action: rule.action,
        ...(rule.errnoRet === undefined ? {} : { errnoRet: rule.errnoRet }),
        ...(rule.args === undefined || rule.args === null || rule.args.length === 0 ? {} : { args: rule.args }),
      })),
  };
}

/** All conditions must hold. */
function isIncluded(condition: RuleCondition | undefined, target: SeccompTarget): boolean {
  if (condition === undefined) return true;
  const { arches, caps, minKernel } = condition;
  if (arches !== undefined && !arches.includes(target.architecture)) return false;
  if (caps !== undefined && !caps.every((name) => target.capabilities.has(name))) return false;
  return minKernel === undefined || isKernelAtLeast(target.kernelRelease, minKernel);
}

/** One condition is enough. */
function isExcluded(condition: RuleCondition | undefined, target: SeccompTarget): boolean {
  if (condition === undefined) return false;
  const { arches, caps, minKernel } = condition;
  if (arches?.includes(target.architecture)) return true;
  if (caps?.some((name) => target.capabilities.has(name))) return true;
  return minKernel !== undefined && isKernelAtLeast(target.kernelRelease, minKernel);
}

/** Compares `major.minor`; a release that does not parse counts as old. */
export function isKernelAtLeast(release: string, wanted: string): boolean {
  const parse = (text: string) => /^(\d+)\.(\d+)/.exec(text)?.slice(1, 3).map(Number) ?? [0, 0];
  const [major = 0, minor = 0] = parse(release);
  const [wantedMajor = 0, wantedMinor = 0] = parse(wanted);
  return major > wantedMajor || (major === wantedMajor && minor >= wantedMinor);
}
