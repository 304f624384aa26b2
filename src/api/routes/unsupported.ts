import { EngineError } from "../../base/errors.ts";
import { type Call, json, type Reply, type Route } from "../call.ts";
import type { Rooms } from "../rooms.ts";

/** What the CLI asks in passing and must get an answer to, and what this version refuses in one clear sentence. */
export const unsupportedRoutes: readonly Route[] = [
  ...["services", "tasks", "secrets", "configs"].map(emptyList),
  ...["service", "task", "secret", "config"].map(unknownObject),
  { method: "GET", path: "/plugins", handle: () => json([]) },
  { method: "GET", path: "/plugins/{name...}/json", handle: noPlugin },
  ...refuse("swarm services", [
    "POST /services/create",
    "POST /services/{id}/update",
    "DELETE /services/{id}",
    "GET /services/{id}/logs",
    "GET /tasks/{id}/logs",
  ]),
  ...refuse("swarm secrets and configs", [
    "POST /secrets/create",
    "POST /secrets/{id}/update",
    "DELETE /secrets/{id}",
    "POST /configs/create",
    "POST /configs/{id}/update",
    "DELETE /configs/{id}",
  ]),
  ...refuse("looking images up in a registry", ["GET /distribution/{name...}/json", "GET /images/search"]),
  ...refuse("registry logins by the engine", ["POST /auth"]),
  ...refuse("building images", ["POST /build", "POST /build/cancel", "POST /session", "POST /grpc"]),
  // Nothing is built here, so nothing is cached: `docker system prune` asks all the same.
  {
    method: "POST",
    path: "/build/prune",
    handle: () => Promise.resolve(json({ CachesDeleted: null, SpaceReclaimed: 0 })),
  },
  ...refuse("plugins", [
    "POST /plugins/pull",
    "POST /plugins/create",
    "GET /plugins/privileges",
    "DELETE /plugins/{name...}",
  ]),
  ...refuse("pausing containers", ["POST /containers/{id}/pause", "POST /containers/{id}/unpause"]),
  ...refuse("changing a container's limits", ["POST /containers/{id}/update"]),
  ...refuse("container statistics", ["GET /containers/{id}/stats"]),
  ...refuse("copying files from and to containers", [
    "GET /containers/{id}/archive",
    "PUT /containers/{id}/archive",
    "HEAD /containers/{id}/archive",
    "GET /containers/{id}/export",
    "GET /containers/{id}/changes",
  ]),
  ...refuse("attaching by websocket", ["GET /containers/{id}/attach/ws"]),
  ...refuse("making images of containers", ["POST /commit"]),
  ...refuse("saving and pushing images", [
    "GET /images/get",
    "GET /images/{name...}/get",
    "POST /images/{name...}/push",
  ]),
  ...refuse("cluster volumes", ["PUT /volumes/{name}"]),
];

/** A manager has none of these yet; another node is told that it is no manager. */
function emptyList(kind: string): Route {
  return {
    method: "GET",
    path: `/${kind}`,
    handle: async (_call: Call, rooms: Rooms) => {
      await rooms.swarm.nodes();
      return json([]);
    },
  };
}

function unknownObject(kind: string): Route {
  return {
    method: "GET",
    path: `/${kind}s/{id}`,
    handle: async (call: Call, rooms: Rooms): Promise<Reply> => {
      await rooms.swarm.nodes();
      throw new EngineError("not-found", `${kind} ${call.params["id"]} not found`);
    },
  };
}

function noPlugin(call: Call): Reply {
  throw new EngineError("not-found", `plugin ${JSON.stringify(call.params["name"])} not found`);
}

function refuse(what: string, endpoints: readonly string[]): readonly Route[] {
  return endpoints.map((endpoint) => {
    const [method, path] = endpoint.split(" ") as [Route["method"], string];

    const handle = (): Reply => {
      throw new EngineError("unsupported", `not supported by this version of weftd: ${what}`);
    };
    return { method, path, handle };
  });
}
