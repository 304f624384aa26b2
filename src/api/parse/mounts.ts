import { EngineError } from "../../base/errors.ts";
import type { MountSpec } from "../../engine/mod.ts";
import { invalid } from "../errors.ts";

const propagations = ["private", "rprivate", "shared", "rshared", "slave", "rslave"];
const accessModes = ["ro", "rw", "z", "Z", "nocopy", "copy", "consistent", "cached", "delegated"];

/** `-v src:dst[:options]`. @throws {EngineError} in Docker's words. */
export function parseBind(text: string): MountSpec {
  const parts = text.split(":");
  // compat: Docker's own status for these is 500; 400 says the same and blames the right side.
  if (parts.length > 3 || parts.some((part) => part === "")) throw invalid(`invalid volume specification: '${text}'`);
  const [source, target, mode] =
    parts.length === 1 ? ["", parts[0] as string, ""] : [parts[0] as string, parts[1] as string, parts[2] ?? ""];
  const words = mode === "" ? [] : mode.split(",");
  const unknown = words.find((word) => !accessModes.includes(word) && !propagations.includes(word));
  if (unknown !== undefined || (words.includes("ro") && words.includes("rw"))) throw invalid(`invalid mode: ${mode}`);
  const type = source.startsWith("/") ? "bind" : "volume";
  if (!target.startsWith("/")) {
    throw invalid(
      `invalid volume specification: '${text}': invalid mount config for type "${type}": invalid mount path: '${target}' mount path must be absolute`,
    );
  }
  refuseRoot(target, type, `invalid volume specification: '${text}': `);
  const propagation = words.find((word) => propagations.includes(word)) ?? "";
  if (type === "volume") {
    if (propagation !== "") throw invalid(`invalid volume specification: '${text}'`);
    checkVolumeName(source);
  }
  return {
    type,
    source: type === "bind" ? cleanPath(source) : source,
    target: cleanPath(target),
    readonly: words.includes("ro"),
    propagation: type === "bind" && propagation === "" ? "rprivate" : propagation,
    createSource: true,
    noCopy: words.includes("nocopy"),
  };
}

export interface MountBody {
  readonly Type: string;
  readonly Source: string;
  readonly Target: string;
  readonly ReadOnly: boolean;
  readonly BindOptions: { readonly Propagation: string; readonly CreateMountpoint: boolean } | undefined;
  readonly VolumeOptions:
    | {
        readonly NoCopy: boolean;
        readonly Subpath: string;
        readonly DriverConfig:
          | { readonly Name: string; readonly Options: Readonly<Record<string, string>> }
          | undefined;
      }
    | undefined;
  readonly TmpfsOptions: { readonly SizeBytes: number; readonly Mode: number } | undefined;
}

/** `--mount` of type bind or volume. */
export function parseMount(mount: MountBody): MountSpec {
  const refuse = (why: string) => invalid(`invalid mount config for type "${mount.Type}": ${why}`);
  if (mount.Type !== "bind" && mount.Type !== "volume") throw refuse("mount type unknown");
  if (mount.Target === "") throw refuse("field Target must not be empty");
  if (!mount.Target.startsWith("/")) throw refuse(`invalid mount path: '${mount.Target}' mount path must be absolute`);
  refuseRoot(mount.Target, mount.Type, "");
  if (mount.Type === "bind") {
    if (mount.Source === "") throw refuse("field Source must not be empty");
    if (!mount.Source.startsWith("/"))
      throw refuse(`invalid mount path: '${mount.Source}' mount path must be absolute`);
    if (mount.VolumeOptions !== undefined) throw refuse("field VolumeOptions must not be specified");
    const propagation = mount.BindOptions?.Propagation ?? "";
    if (propagation !== "" && !propagations.includes(propagation))
      throw refuse(`invalid propagation mode: ${propagation}`);
    return {
      type: "bind",
      source: cleanPath(mount.Source),
      target: cleanPath(mount.Target),
      readonly: mount.ReadOnly,
      propagation: propagation === "" ? "rprivate" : propagation,
      createSource: mount.BindOptions?.CreateMountpoint ?? false,
      noCopy: false,
    };
  }
  if (mount.BindOptions !== undefined) throw refuse("field BindOptions must not be specified");
  const options = mount.VolumeOptions;
  if ((options?.Subpath ?? "") !== "")
    throw new EngineError("unsupported", "volume-subpath is not supported by this version");
  const driver = options?.DriverConfig;
  if (
    driver !== undefined &&
    ((driver.Name !== "" && driver.Name !== "local") || Object.keys(driver.Options).length > 0)
  ) {
    throw new EngineError(
      "unsupported",
      "volume driver options in --mount are not supported by this version; create the volume first",
    );
  }
  if (mount.Source !== "") checkVolumeName(mount.Source);
  return {
    type: "volume",
    source: mount.Source,
    target: cleanPath(mount.Target),
    readonly: mount.ReadOnly,
    propagation: "",
    createSource: true,
    noCopy: options?.NoCopy ?? false,
  };
}

/** `--mount type=tmpfs` in the words of `--tmpfs`. */
export function tmpfsOptions(mount: MountBody): string {
  const options = mount.TmpfsOptions;
  const words = [
    ...(mount.ReadOnly ? ["ro"] : []),
    ...(options !== undefined && options.SizeBytes > 0 ? [`size=${options.SizeBytes}`] : []),
    ...(options !== undefined && options.Mode > 0 ? [`mode=${options.Mode.toString(8)}`] : []),
  ];
  return words.join(",");
}

export function refuseDuplicates(targets: readonly string[]): void {
  const seen = new Set<string>();
  for (const target of targets) {
    if (seen.has(target)) throw invalid(`Duplicate mount point: ${target}`);
    seen.add(target);
  }
}

export function checkVolumeName(name: string): void {
  if (/^[a-zA-Z0-9][a-zA-Z0-9_.-]+$/.test(name) || name === "") return;
  if (name.length === 1)
    throw invalid(`create ${name}: volume name is too short, names should be at least two alphanumeric characters`);
  throw invalid(
    `create ${name}: "${name}" includes invalid characters for a local volume name, only "[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed. If you intended to pass a host directory, use absolute path`,
  );
}

function refuseRoot(target: string, type: string, prefix: string): void {
  if (cleanPath(target) !== "/") return;
  throw invalid(`${prefix}invalid mount config for type "${type}": invalid specification: destination can't be '/'`);
}

function cleanPath(path: string): string {
  const out: string[] = [];
  for (const part of path.split("/")) {
    if (part === "..") out.pop();
    else if (part !== "" && part !== ".") out.push(part);
  }
  return `/${out.join("/")}`;
}
