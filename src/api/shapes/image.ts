import type { ImageDetail, ImageSummary } from "../../engine/mod.ts";
import { unixSeconds } from "./time.ts";

/** One element of `GET /images/json`. */
export function imageSummary(image: ImageSummary, containers: number): Readonly<Record<string, unknown>> {
  return {
    Containers: containers,
    Created: unixSeconds(image.createdAt),
    Id: image.id,
    Labels: Object.keys(image.labels).length === 0 ? null : image.labels,
    ParentId: "",
    RepoDigests: image.repoDigests,
    RepoTags: image.repoTags,
    SharedSize: -1,
    Size: image.sizeBytes,
  };
}

/** `GET /images/{name}/json`. */
export function imageInspect(image: ImageDetail, snapshotter: string): Readonly<Record<string, unknown>> {
  const { config } = image;
  const set = (names: readonly string[]) =>
    names.length === 0 ? null : Object.fromEntries(names.map((name) => [name, {}]));
  return {
    Id: image.id,
    RepoTags: image.repoTags,
    RepoDigests: image.repoDigests,
    Parent: "",
    Comment: image.comment,
    Created: image.createdAt,
    DockerVersion: "",
    Author: image.author,
    Architecture: image.architecture,
    Os: image.os,
    Size: image.sizeBytes,
    GraphDriver: { Data: null, Name: snapshotter },
    RootFS: { Type: "layers", Layers: image.diffIds },
    Metadata: { LastTagTime: "0001-01-01T00:00:00Z" },
    Config: {
      Cmd: config.command ?? null,
      Entrypoint: config.entrypoint ?? null,
      Env: config.env.length === 0 ? null : config.env,
      ...(config.exposedPorts.length === 0 ? {} : { ExposedPorts: set(config.exposedPorts) }),
      Labels: Object.keys(config.labels).length === 0 ? null : config.labels,
      OnBuild: null,
      User: config.user,
      Volumes: set(config.volumes),
      WorkingDir: config.workingDirectory,
      ...(config.stopSignal === "" ? {} : { StopSignal: config.stopSignal }),
    },
  };
}
