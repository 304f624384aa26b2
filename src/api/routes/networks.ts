import { z } from "zod";
import { EngineError, hasCode } from "../../base/errors.ts";
import type { Network } from "../../network/mod.ts";
import { type Call, empty, json, type Reply, type Route } from "../call.ts";
import { invalid } from "../errors.ts";
import { Filters } from "../filters.ts";
import { endpointBody, parseEndpoint } from "../parse/endpoints.ts";
import { decodeBody, flag, text } from "../parse/go-json.ts";
import { parseNetwork } from "../parse/network.ts";
import type { Rooms } from "../rooms.ts";
import { networkJson } from "../shapes/network.ts";
import { pruneBoundary } from "./containers-lifecycle.ts";

export const networkRoutes: readonly Route[] = [
  { method: "GET", path: "/networks", handle: list },
  { method: "GET", path: "/networks/", handle: list },
  { method: "POST", path: "/networks/create", handle: create },
  { method: "POST", path: "/networks/prune", handle: prune },
  { method: "GET", path: "/networks/{id}", handle: inspect },
  { method: "POST", path: "/networks/{id}/connect", handle: connect },
  { method: "POST", path: "/networks/{id}/disconnect", handle: disconnect },
  { method: "DELETE", path: "/networks/{id}", handle: remove },
];

const builtin = ["bridge", "host", "none"];
const connectBody = z.object({ Container: text, EndpointConfig: endpointBody });
const disconnectBody = z.object({ Container: text, Force: flag });

async function list(call: Call, rooms: Rooms): Promise<Reply> {
  const filters = Filters.parse(call.query.text("filters"), [
    "dangling",
    "driver",
    "id",
    "label",
    "label!",
    "name",
    "scope",
    "type",
  ]);
  const dangling = filters.truth("dangling");
  for (const type of filters.get("type")) {
    if (type !== "custom" && type !== "builtin") throw invalid(`invalid filter: 'type'='${type}'`);
  }
  const networks = (await rooms.networks.list()).filter(
    (network) =>
      filters.prefix("id", network.id) &&
      // compat: the name filter of networks is a part of the name.
      filters.any("name", (wanted) => network.spec.name.includes(wanted)) &&
      filters.exact("driver", network.spec.driver) &&
      filters.exact("scope", network.scope) &&
      filters.labels(network.spec.labels) &&
      filters.exact("type", isBuiltin(network) ? "builtin" : "custom") &&
      (dangling === undefined || dangling === isDangling(network, rooms)),
  );
  return json(networks.map((network) => networkJson(network)));
}

async function inspect(call: Call, rooms: Rooms): Promise<Reply> {
  const term = call.params["id"] ?? "";
  const scope = call.query.text("scope");
  const network = await rooms.networks.find(term);
  if (scope !== "" && network.scope !== scope) throw new EngineError("not-found", `network ${term} not found`);
  return json(
    networkJson(network, { members: rooms.networks.endpoints(network.id), peers: rooms.networks.peers(network.id) }),
  );
}

async function create(call: Call, rooms: Rooms): Promise<Reply> {
  const made = await rooms.networks.create(parseNetwork(await call.json()), call.signal);
  return json({ Id: made.network.id, Warning: made.warning }, 201);
}

async function remove(call: Call, rooms: Rooms): Promise<Reply> {
  await rooms.networks.remove(call.params["id"] ?? "", call.signal);
  return empty();
}

async function connect(call: Call, rooms: Rooms): Promise<Reply> {
  const body = decodeBody(connectBody, await call.json());
  const term = await networkTerm(call.params["id"] ?? "", rooms);
  const request = parseEndpoint(term, body.EndpointConfig);
  await rooms.containers.connect(findContainer(body.Container, rooms), request, call.signal);
  return empty(200);
}

async function disconnect(call: Call, rooms: Rooms): Promise<Reply> {
  const body = decodeBody(disconnectBody, await call.json());
  const term = await networkTerm(call.params["id"] ?? "", rooms);
  await rooms.containers.disconnect(findContainer(body.Container, rooms), term, body.Force, call.signal);
  return empty(200);
}

async function prune(call: Call, rooms: Rooms): Promise<Reply> {
  const filters = Filters.parse(call.query.text("filters"), ["label", "label!", "until"]);
  const until = pruneBoundary(filters, rooms.clock.wall()).getTime();
  const names = await rooms.networks.prune(
    (network) => filters.labels(network.spec.labels) && Date.parse(network.createdAt) <= until,
    call.signal,
  );
  return json({ NetworksDeleted: names.length === 0 ? null : names });
}

/** The network's name, so that a container's record does not keep an abbreviated id. */
async function networkTerm(term: string, rooms: Rooms): Promise<string> {
  try {
    return (await rooms.networks.find(term)).spec.name;
  } catch (error) {
    // A worker learns of an attachable swarm network only when it asks the manager for an attachment.
    if (hasCode(error, "not-found") && rooms.swarm.info().state === "active") return term;
    throw error;
  }
}

function findContainer(term: string, rooms: Rooms): string {
  if (term === "") throw invalid('invalid name or ID supplied: ""');
  return rooms.containers.find(term).id;
}

function isBuiltin(network: Network): boolean {
  return builtin.includes(network.spec.name);
}

function isDangling(network: Network, rooms: Rooms): boolean {
  return !isBuiltin(network) && rooms.networks.endpoints(network.id).length === 0;
}
