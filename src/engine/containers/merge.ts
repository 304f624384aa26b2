import { EngineError } from "../../base/errors.ts";
import type { ContainerSpec, ImageConfig, ProcessConfig } from "../model.ts";
import { defaultPath } from "../runtime-spec/defaults.ts";

/**
 * What will run: the image's configuration under what the user asked for, as Docker merges them. Pure.
 *
 * @throws {EngineError} `invalid` when nothing is left to run, or the directory is relative.
 */
export function mergeProcess(spec: ContainerSpec, image: ImageConfig, hostname: string): ProcessConfig {
  const command = commandOf(spec, image);
  const [path, ...args] = command;
  // compat:
  if (path === undefined || path === "") throw new EngineError("invalid", "no command specified");
  const workingDirectory = spec.workingDirectory !== "" ? spec.workingDirectory : image.workingDirectory;
  if (workingDirectory !== "" && !workingDirectory.startsWith("/")) {
    // compat:
    throw new EngineError(
      "invalid",
      `the working directory '${workingDirectory}' is invalid, it needs to be an absolute path`,
    );
  }
  return {
    path,
    args,
    env: mergeEnv([defaultPath, `HOSTNAME=${hostname}`, ...(spec.tty ? ["TERM=xterm"] : [])], image.env, spec.env),
    workingDirectory: workingDirectory === "" ? "/" : workingDirectory,
    user: spec.user !== "" ? spec.user : image.user,
  };
}

/** An entry point of the user's takes the image's command away with the image's entry point. */
function commandOf(spec: ContainerSpec, image: ImageConfig): readonly string[] {
  const given = spec.command ?? [];
  if (spec.entrypoint !== undefined) {
    // `--entrypoint ""` arrives as one empty word: no entry point at all.
    const entrypoint = spec.entrypoint.length === 1 && spec.entrypoint[0] === "" ? [] : spec.entrypoint;
    return [...entrypoint, ...given];
  }
  const entrypoint = image.entrypoint ?? [];
  return [...entrypoint, ...(given.length > 0 ? given : (image.command ?? []))];
}

/** Later lists win, in place; `KEY` alone takes the variable away. */
export function mergeEnv(...lists: readonly (readonly string[])[]): readonly string[] {
  const merged = new Map<string, string>();
  for (const entry of lists.flat()) {
    const at = entry.indexOf("=");
    if (at < 0) merged.delete(entry);
    else merged.set(entry.slice(0, at), entry);
  }
  return [...merged.values()];
}

/** Labels, exposed ports and volumes add up; the user's label wins. */
export function mergeLabels(spec: ContainerSpec, image: ImageConfig): Readonly<Record<string, string>> {
  return { ...image.labels, ...spec.labels };
}
