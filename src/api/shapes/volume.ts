import type { Volume } from "../../engine/mod.ts";

export function volumeJson(volume: Volume): Readonly<Record<string, unknown>> {
  return {
    CreatedAt: volume.createdAt,
    Driver: volume.driver,
    Labels: volume.labels,
    Mountpoint: volume.mountpoint,
    Name: volume.name,
    Options: volume.options,
    Scope: "local",
  };
}
