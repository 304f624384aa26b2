/**
 * Containers, images, volumes, exec and logs on this host. containerd runs the processes, so they outlive weftd; this room
 * decides what they look like and follows their lives. Networking is asked of `network/`.
 */
export {
  type Containerd,
  type ContainerdOptions,
  type ContainerdProcess,
  type ContainerdProcessOptions,
  openContainerd,
  startContainerd,
} from "./containerd/mod.ts";
export { type ContainersOptions, type HostContainers, openContainers } from "./containers/open.ts";
export type * from "./engine.ts";
export { openImages } from "./images/mod.ts";
export type * from "./model.ts";
export { maskedPaths, readonlyPaths } from "./runtime-spec/defaults.ts";
export { type HostVolumes, openVolumes, type VolumesOptions } from "./volumes/open.ts";
