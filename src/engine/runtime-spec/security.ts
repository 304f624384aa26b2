import { EngineError } from "../../base/errors.ts";
import type { SeccompProfile } from "../seccomp/profile.ts";

/** `--security-opt`, parsed. */
export interface SecurityOptions {
  readonly noNewPrivileges: boolean;
  readonly seccomp: "default" | "unconfined" | SeccompProfile;
  /** undefined: the engine's default where the kernel has AppArmor. */
  readonly apparmor: string | undefined;
  /** `systempaths=unconfined`: nothing is masked or read-only. */
  readonly unmasked: boolean;
}

/** @throws {EngineError} `invalid` in Docker's words. */
export function parseSecurityOptions(options: readonly string[]): SecurityOptions {
  let noNewPrivileges = false;
  let seccomp: SecurityOptions["seccomp"] = "default";
  let apparmor: string | undefined;
  let unmasked = false;
  for (const option of options) {
    if (option === "no-new-privileges") {
      noNewPrivileges = true;
      continue;
    }
    // `:` is the old separator.
    const at = option.indexOf("=") >= 0 ? option.indexOf("=") : option.indexOf(":");
    const key = at < 0 ? option : option.slice(0, at);
    const value = at < 0 ? "" : option.slice(at + 1);
    // compat:
    if (at < 0) throw new EngineError("invalid", `invalid --security-opt 1: "${option}"`);
    switch (key) {
      case "no-new-privileges":
        noNewPrivileges = value === "true" || value === "1";
        break;
      case "seccomp":
        seccomp = value === "unconfined" ? "unconfined" : value === "builtin" ? "default" : parseProfile(value);
        break;
      case "apparmor":
        apparmor = value;
        break;
      case "systempaths":
        unmasked = value === "unconfined";
        break;
      case "label":
      case "writable-cgroups":
        break;
      default:
        // compat:
        throw new EngineError("invalid", `invalid --security-opt 2: "${option}"`);
    }
  }
  return { noNewPrivileges, seccomp, apparmor, unmasked };
}

function parseProfile(text: string): SeccompProfile {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new EngineError("invalid", `Decoding seccomp profile failed: ${String(cause)}`, { cause });
  }
  const profile = value as SeccompProfile;
  const isProfile =
    typeof profile === "object" && profile !== null && typeof profile.defaultAction === "string" && hasRules(profile);
  if (!isProfile)
    throw new EngineError("invalid", "Decoding seccomp profile failed: defaultAction and syscalls expected");
  return profile;
}

function hasRules(profile: SeccompProfile): boolean {
  return Array.isArray(profile.syscalls) && profile.syscalls.every((rule) => Array.isArray(rule.names));
}
