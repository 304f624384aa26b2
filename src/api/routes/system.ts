import { type Call, json, type Reply, type Route } from "../call.ts";
import type { Rooms } from "../rooms.ts";
import { containerSummary } from "../shapes/container.ts";
import { imageSummary } from "../shapes/image.ts";
import { infoJson } from "../shapes/info.ts";
import { volumeJson } from "../shapes/volume.ts";
import { currentVersion, formatVersion, minimumVersion } from "../version.ts";
import { networkFinder } from "./network-finder.ts";

export const systemRoutes: readonly Route[] = [
  { method: "GET", path: "/_ping", handle: ping },
  { method: "HEAD", path: "/_ping", handle: ping },
  { method: "GET", path: "/version", handle: version },
  { method: "GET", path: "/info", handle: info },
  { method: "GET", path: "/system/df", handle: diskUsage },
];

function ping(_call: Call, rooms: Rooms): Reply {
  const swarm = rooms.swarm.info();
  const role = swarm.controlAvailable ? "/manager" : swarm.state === "active" ? "/worker" : "";
  return {
    kind: "text",
    status: 200,
    text: "OK",
    headers: {
      // Version 1 is the classic builder: the CLI must not look for BuildKit in an engine that builds nothing.
      "Builder-Version": "1",
      "Cache-Control": "no-cache, no-store, must-revalidate",
      Pragma: "no-cache",
      Swarm: `${swarm.state}${role}`,
    },
  };
}

function version(_call: Call, { host, settings }: Rooms): Reply {
  const engine = {
    Version: host.weftVersion,
    ApiVersion: formatVersion(currentVersion),
    MinAPIVersion: formatVersion(minimumVersion),
    GitCommit: host.gitCommit,
    GoVersion: "",
    Os: "linux",
    Arch: host.architecture,
    KernelVersion: host.kernelVersion,
    BuildTime: host.buildTime,
  };
  const { Version: engineVersion, MinAPIVersion, ...rest } = engine;
  return json({
    Platform: { Name: "Weft" },
    Components: [
      {
        Name: "Engine",
        Version: engineVersion,
        Details: { ...rest, MinAPIVersion, Experimental: String(settings().experimental) },
      },
      { Name: "containerd", Version: host.containerdVersion, Details: { GitCommit: host.containerdCommit } },
      { Name: "runc", Version: host.runcVersion, Details: { GitCommit: host.runcCommit } },
    ],
    ...engine,
  });
}

async function info(_call: Call, rooms: Rooms): Promise<Reply> {
  const [images, tls] = await Promise.all([rooms.images.list(), ownTls(rooms)]);
  return json(
    infoJson({
      host: rooms.host,
      settings: rooms.settings(),
      containers: rooms.containers.list(),
      images: images.length,
      swarm: rooms.swarm.info(),
      tls,
      listeners: rooms.events.listeners,
      now: rooms.clock.wall(),
    }),
  );
}

/** The certificate issuer, as a manager's own node record knows it. */
export async function ownTls(rooms: Rooms) {
  const { controlAvailable, nodeId } = rooms.swarm.info();
  if (!controlAvailable) return undefined;
  const node = await rooms.swarm.findNode(nodeId).catch(() => undefined);
  return node?.description?.tlsInfo;
}

async function diskUsage(call: Call, rooms: Rooms): Promise<Reply> {
  const [images, volumes, findNetwork] = await Promise.all([
    rooms.images.list(),
    rooms.volumes.list(),
    networkFinder(rooms),
  ]);
  const records = rooms.containers.list();
  const nowMs = rooms.clock.wall().getTime();
  return json({
    LayersSize: images.reduce((sum, image) => sum + image.sizeBytes, 0),
    Images: images.map((image) => imageSummary(image, records.filter((record) => record.imageId === image.id).length)),
    Containers: records.map((record) =>
      containerSummary(record, {
        sandbox: record.sandboxId === undefined ? undefined : rooms.networks.sandbox(record.sandboxId),
        findNetwork,
        version: call.version,
        nowMs,
      }),
    ),
    Volumes: volumes.map((volume) => ({
      ...volumeJson(volume),
      UsageData: {
        // -1: not measured; walking a volume's files on every `df` is not worth it.
        Size: -1,
        RefCount: records.filter((record) => record.mounts.some((mount) => mount.name === volume.name)).length,
      },
    })),
    BuildCache: [],
  });
}
