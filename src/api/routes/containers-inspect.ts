import { type Call, json, type Reply, type Route } from "../call.ts";
import type { Rooms } from "../rooms.ts";
import { containerInspect } from "../shapes/container.ts";
import { networkFinder } from "./network-finder.ts";

export const containerInspectRoutes: readonly Route[] = [
  { method: "GET", path: "/containers/{id}/json", handle: inspect },
];

async function inspect(call: Call, rooms: Rooms): Promise<Reply> {
  const record = rooms.containers.find(call.params["id"] ?? "");
  return json(
    containerInspect(record, {
      sandbox: record.sandboxId === undefined ? undefined : rooms.networks.sandbox(record.sandboxId),
      findNetwork: await networkFinder(rooms),
      version: call.version,
      settings: rooms.settings(),
      snapshotter: rooms.host.snapshotter,
      cgroupVersion: rooms.host.cgroupVersion,
    }),
  );
}
