import { mkdirSync, statSync } from "node:fs";
import { EngineError, messageOf } from "../../base/errors.ts";
import type { ContainerSpec, ImageConfig, MountPoint, MountSpec, Volume } from "../model.ts";
import type { HostVolumes } from "../volumes/open.ts";

/** The mounts of a container in force, and what of the image belongs into its volumes. */
export interface ResolvedMounts {
  readonly mounts: readonly MountPoint[];
  /** Volumes to fill with what the image has at the place, unless they hold something already. */
  readonly toFill: readonly { readonly volume: Volume; readonly destination: string }[];
}

/** What was asked for, and the image's `VOLUME`s, with a name chosen for each anonymous volume. */
export interface WantedMounts {
  readonly mounts: readonly MountSpec[];
  readonly anonymous: readonly string[];
}

/**
 * Pure but for the names.
 * @throws {EngineError} `invalid` in Docker's words.
 */
export function wantedMounts(spec: ContainerSpec, image: ImageConfig, newName: () => string): WantedMounts {
  const explicit = spec.host.mounts;
  for (const mount of explicit) checkMount(mount);
  const taken = new Set([...explicit.map((mount) => mount.target), ...Object.keys(spec.host.tmpfs)]);
  const implied = [...new Set([...spec.anonymousVolumes, ...image.volumes])]
    .filter((target) => !taken.has(target))
    .map((target): MountSpec => ({ ...bareVolume, target }));
  const anonymous: string[] = [];
  const mounts = [...explicit, ...implied].map((mount) => {
    if (mount.type !== "volume" || mount.source !== "") return mount;
    const source = newName();
    anonymous.push(source);
    return { ...mount, source };
  });
  return { mounts, anonymous };
}

/**
 * Makes the volumes and bind sources.
 * @throws {EngineError} `invalid` in Docker's words.
 */
export async function resolveMounts(wanted: WantedMounts, volumes: HostVolumes): Promise<ResolvedMounts> {
  const mounts: MountPoint[] = [];
  const toFill: { volume: Volume; destination: string }[] = [];
  for (const mount of wanted.mounts) {
    if (mount.type !== "volume") {
      if (mount.type === "bind") ensureBindSource(mount);
      mounts.push(pointOf(mount, mount.source, "", ""));
      continue;
    }
    const volume = wanted.anonymous.includes(mount.source)
      ? await volumes.createAnonymous(mount.source)
      : await volumes.create({ name: mount.source, driver: "local", labels: {}, options: {} });
    if (!mount.noCopy) toFill.push({ volume, destination: mount.target });
    mounts.push(pointOf(mount, volume.mountpoint, volume.name, volume.driver));
  }
  return { mounts, toFill };
}

const bareVolume = {
  type: "volume",
  source: "",
  target: "",
  readonly: false,
  propagation: "",
  createSource: true,
  noCopy: false,
} as const;

/**
 * `-v` makes a missing source directory; `--mount` wants it to be there.
 * @throws {EngineError} `invalid`.
 */
export function ensureBindSource(mount: MountSpec): void {
  if (statSync(mount.source, { throwIfNoEntry: false }) !== undefined) return;
  if (!mount.createSource) {
    // compat:
    throw new EngineError(
      "invalid",
      `invalid mount config for type "bind": bind source path does not exist: ${mount.source}`,
    );
  }
  try {
    mkdirSync(mount.source, { recursive: true, mode: 0o755 });
  } catch (cause) {
    // compat:
    throw new EngineError("internal", `error while creating mount source path '${mount.source}': ${messageOf(cause)}`, {
      cause,
    });
  }
}

function checkMount(mount: MountSpec): void {
  const refuse = (text: string) => {
    // compat:
    throw new EngineError("invalid", `invalid mount config for type "${mount.type}": ${text}`);
  };
  if (mount.target === "") refuse("field Target must not be empty");
  if (!mount.target.startsWith("/")) refuse(`invalid mount path: '${mount.target}' mount path must be absolute`);
  if (mount.target.split("/").every((part) => part === "" || part === ".")) {
    refuse("invalid specification: destination can't be '/'");
  }
  if (mount.type === "bind" && mount.source === "") refuse("field Source must not be empty");
  if (mount.type === "bind" && !mount.source.startsWith("/")) {
    refuse(`invalid mount path: '${mount.source}' mount path must be absolute`);
  }
}

function pointOf(mount: MountSpec, source: string, name: string, driver: string): MountPoint {
  return {
    type: mount.type,
    name,
    source,
    destination: mount.target,
    driver,
    mode: mount.readonly ? "ro" : "",
    readonly: mount.readonly,
    propagation: mount.type === "bind" && mount.propagation === "" ? "rprivate" : mount.propagation,
  };
}
