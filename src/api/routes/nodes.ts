import { type Call, empty, json, type Reply, type Route } from "../call.ts";
import { Filters } from "../filters.ts";
import { parseNodeSpec, parseObjectVersion } from "../parse/swarm.ts";
import type { Rooms } from "../rooms.ts";
import { nodeJson, roleName } from "../shapes/swarm.ts";

export const nodeRoutes: readonly Route[] = [
  { method: "GET", path: "/nodes", handle: list },
  { method: "GET", path: "/nodes/{id}", handle: inspect },
  { method: "POST", path: "/nodes/{id}/update", handle: update },
  { method: "DELETE", path: "/nodes/{id}", handle: remove },
];

async function list(call: Call, rooms: Rooms): Promise<Reply> {
  const filters = Filters.parse(call.query.text("filters"), [
    "id",
    "label",
    "membership",
    "name",
    "node.label",
    "role",
  ]);
  const nodes = (await rooms.swarm.nodes()).filter((node) => {
    const hostname = node.description?.hostname ?? "";
    return (
      filters.prefix("id", node.id) &&
      filters.any("name", (wanted) => hostname.startsWith(wanted)) &&
      filters.exact("role", roleName(node.role)) &&
      filters.any("membership", (wanted) => wanted === "accepted") &&
      filters.labels(node.description?.engine?.labels ?? {}) &&
      filters.labels(node.spec?.annotations?.labels ?? {}, "node.label")
    );
  });
  return json(nodes.map(nodeJson));
}

async function inspect(call: Call, rooms: Rooms): Promise<Reply> {
  return json(nodeJson(await rooms.swarm.findNode(call.params["id"] ?? "")));
}

async function update(call: Call, rooms: Rooms): Promise<Reply> {
  const spec = parseNodeSpec(await call.json());
  const version = parseObjectVersion("node", call.query.text("version"));
  const node = await rooms.swarm.findNode(call.params["id"] ?? "");
  await rooms.swarm.updateNode(node.id, version, spec);
  return empty(200);
}

async function remove(call: Call, rooms: Rooms): Promise<Reply> {
  const node = await rooms.swarm.findNode(call.params["id"] ?? "");
  await rooms.swarm.removeNode(node.id, call.query.flag("force"));
  return empty(200);
}
