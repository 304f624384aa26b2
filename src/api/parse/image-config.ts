import type { ContainerSpec, ImageConfig } from "../../engine/mod.ts";

/**
 * What inspect shows as `Config`: the sent one, filled up from the image as Docker does at creation. Labels are merged for
 * good, since filters look at them.
 */
export function withImageConfig(spec: ContainerSpec, image: ImageConfig): ContainerSpec {
  const sent = spec.rawConfig;
  const labels = { ...image.labels, ...spec.labels };
  const exposed = [...new Set([...image.exposedPorts, ...spec.exposedPorts])];
  const volumes = [...new Set([...image.volumes, ...spec.anonymousVolumes])];
  // An entrypoint of the container's own switches the image's command off.
  const command = spec.command ?? (spec.entrypoint === undefined ? image.command : undefined);
  return {
    ...spec,
    labels,
    rawConfig: {
      ...sent,
      Env: orNull(mergeEnv(image.env, spec.env)),
      Cmd: orNull(command ?? []),
      Entrypoint: orNull(spec.entrypoint ?? image.entrypoint ?? []),
      WorkingDir: spec.workingDirectory === "" ? image.workingDirectory : spec.workingDirectory,
      User: spec.user === "" ? image.user : spec.user,
      Volumes: volumes.length === 0 ? null : Object.fromEntries(volumes.map((target) => [target, {}])),
      ...(exposed.length === 0 ? {} : { ExposedPorts: Object.fromEntries(exposed.map((port) => [port, {}])) }),
      ...(image.stopSignal !== "" && spec.stopSignal === "" ? { StopSignal: image.stopSignal } : {}),
      Labels: labels,
    },
  };
}

/** The container's variables first, then those of the image that it does not set; `KEY` alone removes one. */
function mergeEnv(image: readonly string[], own: readonly string[]): readonly string[] {
  const nameOf = (variable: string) => variable.split("=", 1)[0] as string;
  const names = new Set(own.map(nameOf));
  return [
    ...own.filter((variable) => variable.includes("=")),
    ...image.filter((variable) => !names.has(nameOf(variable))),
  ];
}

function orNull<T>(list: readonly T[]): readonly T[] | null {
  return list.length === 0 ? null : list;
}
