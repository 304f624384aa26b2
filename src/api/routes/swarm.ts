import { EngineError } from "../../base/errors.ts";
import { type Call, empty, json, type Reply, type Route } from "../call.ts";
import { parseClusterSpec, parseInit, parseJoin, parseObjectVersion } from "../parse/swarm.ts";
import type { Rooms } from "../rooms.ts";
import { swarmJson } from "../shapes/swarm.ts";
import { ownTls } from "./system.ts";

export const swarmRoutes: readonly Route[] = [
  { method: "POST", path: "/swarm/init", handle: init },
  { method: "POST", path: "/swarm/join", handle: join },
  { method: "POST", path: "/swarm/leave", handle: leave },
  { method: "GET", path: "/swarm", handle: inspect },
  { method: "POST", path: "/swarm/update", handle: update },
  { method: "GET", path: "/swarm/unlockkey", handle: unlockKey },
  { method: "POST", path: "/swarm/unlock", handle: unlock },
];

async function init(call: Call, rooms: Rooms): Promise<Reply> {
  const request = parseInit(await call.json());
  return json(await rooms.swarm.init({ ...request, ...advertised(request.advertiseAddress, rooms) }, call.signal));
}

async function join(call: Call, rooms: Rooms): Promise<Reply> {
  const request = parseJoin(await call.json());
  await rooms.swarm.join({ ...request, ...advertised(request.advertiseAddress, rooms) }, call.signal);
  return empty(200);
}

/** `--swarm-default-advertise-addr` where the request names none. */
function advertised(asked: string, rooms: Rooms): { readonly advertiseAddress: string } {
  return { advertiseAddress: asked === "" ? rooms.settings().swarmAdvertiseAddress : asked };
}

async function leave(call: Call, rooms: Rooms): Promise<Reply> {
  await rooms.swarm.leave(call.query.flag("force"), call.signal);
  return empty(200);
}

async function inspect(_call: Call, rooms: Rooms): Promise<Reply> {
  const { cluster, tokens } = await rooms.swarm.inspect();
  return json(swarmJson(cluster, tokens, await ownTls(rooms)));
}

async function update(call: Call, rooms: Rooms): Promise<Reply> {
  const { query } = call;
  const spec = parseClusterSpec(await call.json());
  const version = parseObjectVersion("swarm", query.text("version"));
  if (query.flag("rotateManagerUnlockKey"))
    throw new EngineError("unsupported", "autolock is not supported by this version");
  await rooms.swarm.update(spec, version, {
    worker: query.flag("rotateWorkerToken"),
    manager: query.flag("rotateManagerToken"),
  });
  return empty(200);
}

async function unlockKey(_call: Call, rooms: Rooms): Promise<Reply> {
  // Refuses on a node that is no manager; there is never a key, since autolock is refused at init and update.
  await rooms.swarm.inspect();
  return json({ UnlockKey: "" });
}

function unlock(_call: Call, rooms: Rooms): Reply {
  if (rooms.swarm.info().state === "inactive") throw new EngineError("unavailable", "This node is not part of a swarm");
  throw new EngineError("conflict", "swarm is not locked");
}
