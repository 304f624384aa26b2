import type { ContainerSpec } from "../../engine/mod.ts";
import { type Call, json, type Reply, type Route } from "../call.ts";
import { invalid } from "../errors.ts";
import { parseContainer } from "../parse/container.ts";
import { withImageConfig } from "../parse/image-config.ts";
import type { Rooms } from "../rooms.ts";
import { networkFinder } from "./network-finder.ts";

export const containerCreateRoutes: readonly Route[] = [{ method: "POST", path: "/containers/create", handle: create }];

async function create(call: Call, rooms: Rooms): Promise<Reply> {
  const settings = rooms.settings();
  const { spec, warnings } = parseContainer(await call.json(), call.version, {
    shmSizeBytes: settings.defaultShmSizeBytes,
    logDriver: settings.loggingDriver,
    logOptions: settings.loggingOptions,
    init: settings.init,
  });
  const name = call.query.text("name").replace(/^\//, "");
  if (name !== "" && !/^[a-zA-Z0-9][a-zA-Z0-9_.-]+$/.test(name)) {
    throw invalid(`Invalid container name (${name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed`);
  }
  const image = await rooms.images.find(spec.image);
  const complete = withImageConfig(await withOneNameEach(spec, rooms), image.config);
  const made = await rooms.containers.create(complete, name === "" ? undefined : name, call.signal);
  return json({ Id: made.id, Warnings: [...warnings, ...made.warnings] }, 201);
}

/** A client may give a network once by name (`NetworkMode`) and once by id (`EndpointsConfig`): that is one endpoint. */
async function withOneNameEach(spec: ContainerSpec, rooms: Rooms): Promise<ContainerSpec> {
  const [first, ...others] = spec.endpoints;
  if (first === undefined || others.length === 0) return spec;
  const find = await networkFinder(rooms);
  const firstId = find(first.network)?.id;
  const same = others.find((other) => firstId !== undefined && find(other.network)?.id === firstId);
  if (same === undefined) return spec;
  return { ...spec, endpoints: [{ ...same, network: first.network }, ...others.filter((other) => other !== same)] };
}
