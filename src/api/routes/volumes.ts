import { z } from "zod";
import { EngineError, hasCode } from "../../base/errors.ts";
import { type Call, empty, json, type Reply, type Route } from "../call.ts";
import { Filters } from "../filters.ts";
import { anything, decodeBody, text, textMap } from "../parse/go-json.ts";
import { checkVolumeName } from "../parse/mounts.ts";
import type { Rooms } from "../rooms.ts";
import { volumeJson } from "../shapes/volume.ts";

export const volumeRoutes: readonly Route[] = [
  { method: "GET", path: "/volumes", handle: list },
  { method: "POST", path: "/volumes/create", handle: create },
  { method: "POST", path: "/volumes/prune", handle: prune },
  { method: "GET", path: "/volumes/{name}", handle: inspect },
  { method: "DELETE", path: "/volumes/{name}", handle: remove },
];

const createBody = z.object({
  Name: text,
  Driver: text,
  DriverOpts: textMap,
  Labels: textMap,
  ClusterVolumeSpec: anything,
});

async function list(call: Call, rooms: Rooms): Promise<Reply> {
  const filters = Filters.parse(call.query.text("filters"), ["dangling", "driver", "label", "label!", "name"]);
  const dangling = filters.truth("dangling");
  const volumes = (await rooms.volumes.list()).filter(
    (volume) =>
      filters.match("name", volume.name) &&
      filters.exact("driver", volume.driver) &&
      filters.labels(volume.labels) &&
      (dangling === undefined || dangling === (users(volume.name, rooms).length === 0)),
  );
  return json({ Volumes: volumes.map(volumeJson), Warnings: null });
}

async function inspect(call: Call, rooms: Rooms): Promise<Reply> {
  return json(volumeJson(await rooms.volumes.find(call.params["name"] ?? "")));
}

async function create(call: Call, rooms: Rooms): Promise<Reply> {
  const body = decodeBody(createBody, await call.json());
  checkVolumeName(body.Name);
  if (body.ClusterVolumeSpec !== undefined && body.ClusterVolumeSpec !== null) {
    throw new EngineError("unsupported", "cluster volumes are not supported by this version");
  }
  const volume = await rooms.volumes.create({
    name: body.Name === "" ? undefined : body.Name,
    driver: body.Driver === "" ? "local" : body.Driver,
    labels: body.Labels,
    options: body.DriverOpts,
  });
  return json(volumeJson(volume), 201);
}

async function remove(call: Call, rooms: Rooms): Promise<Reply> {
  const name = call.params["name"] ?? "";
  const force = call.query.flag("force");
  try {
    await rooms.volumes.find(name);
  } catch (error) {
    if (force && hasCode(error, "not-found")) return empty();
    throw error;
  }
  const usedBy = users(name, rooms);
  if (usedBy.length > 0) {
    throw new EngineError("conflict", `remove ${name}: volume is in use - [${usedBy.join(", ")}]`);
  }
  await rooms.volumes.remove(name, force);
  return empty();
}

/** One by one rather than by the room's own prune: only the containers' records know what is in use. */
async function prune(call: Call, rooms: Rooms): Promise<Reply> {
  const filters = Filters.parse(call.query.text("filters"), ["all", "label", "label!"]);
  // compat: since 1.42 only nameless volumes go, unless `all`.
  const all = filters.truth("all") ?? call.version < 42;
  const unused = (await rooms.volumes.list()).filter(
    (volume) => (all || volume.anonymous) && filters.labels(volume.labels) && users(volume.name, rooms).length === 0,
  );
  const deleted: string[] = [];
  for (const volume of unused) {
    await rooms.volumes.remove(volume.name, false);
    deleted.push(volume.name);
  }
  return json({ VolumesDeleted: deleted.length === 0 ? null : deleted, SpaceReclaimed: 0 });
}

function users(name: string, rooms: Rooms): readonly string[] {
  return rooms.containers
    .list()
    .filter((record) => record.mounts.some((mount) => mount.type === "volume" && mount.name === name))
    .map((record) => record.id);
}
