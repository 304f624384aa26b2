import { EngineError } from "../../base/errors.ts";
import type { ContainerRecord } from "../../engine/mod.ts";
import { type Call, empty, json, type Reply, type Route } from "../call.ts";
import { invalid } from "../errors.ts";
import { Filters } from "../filters.ts";
import { isSignal } from "../parse/container.ts";
import type { Query } from "../query.ts";
import type { Rooms } from "../rooms.ts";

// A change goes on to its end when the client goes away: `call.signal`, not `call.gone`.
export const containerLifecycleRoutes: readonly Route[] = [
  { method: "POST", path: "/containers/prune", handle: prune },
  { method: "POST", path: "/containers/{id}/start", handle: start },
  { method: "POST", path: "/containers/{id}/stop", handle: stop },
  { method: "POST", path: "/containers/{id}/restart", handle: restart },
  { method: "POST", path: "/containers/{id}/kill", handle: kill },
  { method: "POST", path: "/containers/{id}/rename", handle: rename },
  { method: "POST", path: "/containers/{id}/resize", handle: resize },
  { method: "DELETE", path: "/containers/{id}", handle: remove },
];

function target(call: Call, rooms: Rooms): ContainerRecord {
  return rooms.containers.find(call.params["id"] ?? "");
}

async function start(call: Call, rooms: Rooms): Promise<Reply> {
  await rooms.containers.start(target(call, rooms).id, call.signal);
  return empty();
}

async function stop(call: Call, rooms: Rooms): Promise<Reply> {
  await rooms.containers.stop(target(call, rooms).id, stopOptions(call.query), call.signal);
  return empty();
}

async function restart(call: Call, rooms: Rooms): Promise<Reply> {
  await rooms.containers.restart(target(call, rooms).id, stopOptions(call.query), call.signal);
  return empty();
}

async function kill(call: Call, rooms: Rooms): Promise<Reply> {
  const record = target(call, rooms);
  const signalName = call.query.text("signal") || "SIGKILL";
  if (!isSignal(signalName))
    throw invalid(`cannot kill container: ${call.params["id"]}: invalid signal: ${signalName}`);
  await rooms.containers.kill(record.id, signalName);
  return empty();
}

async function rename(call: Call, rooms: Rooms): Promise<Reply> {
  const record = target(call, rooms);
  const name = call.query.text("name").replace(/^\//, "");
  if (name === "") throw invalid("Neither old nor new names may be empty");
  if (!/^[a-zA-Z0-9][a-zA-Z0-9_.-]+$/.test(name)) {
    throw invalid(`Invalid container name (${name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed`);
  }
  await rooms.containers.rename(record.id, name);
  return empty();
}

async function resize(call: Call, rooms: Rooms): Promise<Reply> {
  const size = parseSize(call.query);
  await rooms.containers.resize(target(call, rooms).id, size);
  return empty(200);
}

async function remove(call: Call, rooms: Rooms): Promise<Reply> {
  const { query } = call;
  if (query.flag("link")) throw new EngineError("unsupported", "removing a link is not supported by this version");
  await rooms.containers.remove(
    target(call, rooms).id,
    { force: query.flag("force"), volumes: query.flag("v") },
    call.signal,
  );
  return empty();
}

async function prune(call: Call, rooms: Rooms): Promise<Reply> {
  const filters = Filters.parse(call.query.text("filters"), ["label", "label!", "until"]);
  const until = pruneBoundary(filters, rooms.clock.wall());
  const stopped = rooms.containers
    .list()
    .filter((record) => record.state.kind !== "running" && record.state.kind !== "removing")
    .filter((record) => filters.labels(record.spec.labels) && Date.parse(record.createdAt) <= until.getTime());
  const deleted: string[] = [];
  for (const record of stopped) {
    try {
      await rooms.containers.remove(record.id, { force: false, volumes: false }, call.signal);
      deleted.push(record.id);
    } catch (error) {
      // Started or removed by somebody else meanwhile.
      if (!(error instanceof EngineError)) throw error;
      rooms.log.debug("a container was not pruned", { container: record.id, error: error.message });
    }
  }
  return json({ ContainersDeleted: deleted.length === 0 ? null : deleted, SpaceReclaimed: 0 });
}

/** `until` of a prune: RFC 3339, Unix seconds, or a duration before now. */
export function pruneBoundary(filters: Filters, now: Date): Date {
  const [text] = filters.get("until");
  if (text === undefined) return now;
  const duration = parseDuration(text);
  const time =
    duration === undefined ? (/^\d+$/.test(text) ? Number(text) * 1000 : Date.parse(text)) : now.getTime() - duration;
  if (!Number.isFinite(time)) throw invalid(`invalid filter 'until=${text}'`);
  return new Date(time);
}

/** Go's duration, `1h30m`, in milliseconds. */
function parseDuration(text: string): number | undefined {
  if (!/^(\d+(\.\d+)?(ms|s|m|h))+$/.test(text)) return undefined;
  const units: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 };
  let total = 0;
  for (const [, number, unit] of text.matchAll(/(\d+(?:\.\d+)?)(ms|s|m|h)/g))
    total += Number(number) * (units[unit ?? ""] ?? 0);
  return total;
}

export function parseSize(query: Query): { readonly rows: number; readonly columns: number } {
  const number = (name: string, what: string) => {
    const text = query.text(name);
    if (!/^\d{1,9}$/.test(text)) throw invalid(`invalid resize ${what} ${JSON.stringify(text)}: invalid syntax`);
    return Math.min(Number(text), 65535);
  };
  return { rows: number("h", "height"), columns: number("w", "width") };
}

function stopOptions(query: Query): { readonly timeoutSeconds?: number; readonly signal?: string } {
  const timeoutSeconds = query.integer("t");
  const signal = query.text("signal");
  if (signal !== "" && !isSignal(signal)) throw invalid(`invalid signal: ${signal}`);
  return {
    ...(timeoutSeconds === undefined ? {} : { timeoutSeconds }),
    ...(signal === "" ? {} : { signal }),
  };
}
