import { EngineError } from "../../base/errors.ts";
import type { ContainerRecord } from "../../engine/mod.ts";
import { type Call, json, type Reply, type Route } from "../call.ts";
import { invalid } from "../errors.ts";
import { Filters } from "../filters.ts";
import type { Rooms } from "../rooms.ts";
import { containerSummary, isRestarting, statusName } from "../shapes/container.ts";
import { networkFinder } from "./network-finder.ts";

export const containerListRoutes: readonly Route[] = [{ method: "GET", path: "/containers/json", handle: list }];

const accepted = [
  "ancestor",
  "before",
  "expose",
  "exited",
  "health",
  "id",
  "isolation",
  "is-task",
  "label",
  "label!",
  "name",
  "network",
  "publish",
  "since",
  "status",
  "volume",
];
const statuses = ["created", "running", "paused", "restarting", "removing", "exited", "dead"];

async function list(call: Call, rooms: Rooms): Promise<Reply> {
  const filters = Filters.parse(call.query.text("filters"), accepted);
  const limit = call.query.integer("limit") ?? 0;
  const findNetwork = await networkFinder(rooms);
  const imageIds = await ancestors(filters, rooms);
  // compat: -n and a filter on the state look at stopped containers too.
  const wantsAll =
    call.query.flag("all") || limit > 0 || filters.get("status").length > 0 || filters.get("exited").length > 0;
  const newestFirst = [...rooms.containers.list()].sort((a, b) => b.createdAt.localeCompare(a.createdAt));
  const matches = newestFirst.filter(
    (record) =>
      (wantsAll || record.state.kind === "running" || isRestarting(record.state)) &&
      isWanted(record, filters, rooms, imageIds),
  );
  const nowMs = rooms.clock.wall().getTime();
  const shown = limit > 0 ? matches.slice(0, limit) : matches;
  return json(
    shown.map((record) =>
      containerSummary(record, {
        sandbox: record.sandboxId === undefined ? undefined : rooms.networks.sandbox(record.sandboxId),
        findNetwork,
        version: call.version,
        nowMs,
      }),
    ),
  );
}

function isWanted(
  record: ContainerRecord,
  filters: Filters,
  rooms: Rooms,
  imageIds: ReadonlySet<string> | undefined,
): boolean {
  for (const status of filters.get("status")) {
    if (!statuses.includes(status)) throw invalid(`invalid filter 'status=${status}'`);
  }
  const { state, spec } = record;
  const created = Date.parse(record.createdAt);
  const boundary = (name: string, test: (other: number) => boolean) =>
    filters.any(name, (term) => test(Date.parse(rooms.containers.find(term).createdAt)));
  return (
    filters.prefix("id", record.id) &&
    (filters.match("name", record.name) || filters.match("name", `/${record.name}`)) &&
    filters.labels(spec.labels) &&
    filters.exact("status", statusName(state)) &&
    filters.any("exited", (code) => state.kind === "exited" && String(state.exitCode) === code) &&
    filters.any("ancestor", () => imageIds?.has(record.imageId) ?? false) &&
    filters.any("network", (term) => isOnNetwork(record, term, rooms)) &&
    filters.any("volume", (term) => record.mounts.some((m) => m.name === term || m.destination === term)) &&
    filters.any("publish", (port) => spec.host.publish.some((p) => portMatches(port, p.containerPort, p.protocol))) &&
    filters.any("expose", (port) =>
      spec.exposedPorts.some((exposed) => {
        const [number, protocol] = exposed.split("/");
        return portMatches(port, Number(number), protocol ?? "tcp");
      }),
    ) &&
    filters.any("health", (health) => health === "none") &&
    filters.any("is-task", (value) => value === "false" || value === "0") &&
    boundary("before", (other) => created < other) &&
    boundary("since", (other) => created > other)
  );
}

function isOnNetwork(record: ContainerRecord, term: string, rooms: Rooms): boolean {
  const sandbox = record.sandboxId === undefined ? undefined : rooms.networks.sandbox(record.sandboxId);
  const inForce = (sandbox?.endpoints ?? []).some(
    (e) => e.networkName === term || (term !== "" && e.networkId.startsWith(term)),
  );
  return inForce || record.spec.networkMode === term || record.spec.endpoints.some((e) => e.network === term);
}

function portMatches(wanted: string, port: number, protocol: string): boolean {
  const [range = "", wantedProtocol = "tcp"] = wanted.split("/");
  const [first, last] = range.split("-").map(Number);
  return protocol === wantedProtocol && first !== undefined && port >= first && port <= (last ?? first);
}

/** Ids of the images that the `ancestor` filter names; unknown ones match nothing. */
async function ancestors(filters: Filters, rooms: Rooms): Promise<ReadonlySet<string> | undefined> {
  const terms = filters.get("ancestor");
  if (terms.length === 0) return undefined;
  const found = await Promise.all(
    terms.map((term) =>
      rooms.images.find(term).catch((error: unknown) => {
        if (error instanceof EngineError) return undefined;
        throw error;
      }),
    ),
  );
  return new Set(found.flatMap((image) => (image === undefined ? [] : [image.id])));
}
