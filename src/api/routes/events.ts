import type { Writable } from "node:stream";
import { AsyncQueue } from "../../base/async.ts";
import type { EngineEvent } from "../../engine/mod.ts";
import type { Call, Reply, Route } from "../call.ts";
import { Filters } from "../filters.ts";
import type { Rooms } from "../rooms.ts";
import { drained } from "./stream-pump.ts";

export const eventRoutes: readonly Route[] = [{ method: "GET", path: "/events", handle: events }];

const byObject = ["config", "container", "daemon", "image", "network", "node", "plugin", "secret", "service", "volume"];
const accepted = [...byObject, "event", "label", "label!", "scope", "type"];

function events(call: Call, rooms: Rooms): Reply {
  const filters = Filters.parse(call.query.text("filters"), accepted);
  const [since, until] = [call.query.time("since"), call.query.time("until")];
  const nowMs = rooms.clock.wall().getTime();
  const queue = new AsyncQueue<EngineEvent>();
  // Listening begins before the past is read, in one go: nothing is lost or shown twice in between.
  const listener = rooms.events.listen((event) => queue.push(event));
  const past = since === undefined ? [] : rooms.events.since(since);
  const live = until === undefined || until.getTime() > nowMs;
  const ends = AbortSignal.any([
    call.gone,
    ...(until === undefined || !live ? [] : [rooms.clock.timeout(until.getTime() - nowMs)]),
  ]);
  const close = () => queue.close();
  return {
    kind: "stream",
    contentType: "application/json",
    run: async (out) => {
      try {
        if (ends.aborted) return;
        ends.addEventListener("abort", close, { once: true });
        for (const event of past) {
          if (until === undefined || event.timeMs <= until.getTime()) await write(out, event, filters);
        }
        if (!live) return;
        for await (const event of queue) await write(out, event, filters);
      } finally {
        listener[Symbol.dispose]();
        ends.removeEventListener("abort", close);
      }
    },
  };
}

async function write(out: Writable, event: EngineEvent, filters: Filters): Promise<void> {
  if (isWanted(event, filters) && !out.write(`${eventJson(event)}\n`)) await drained(out);
}

export function isWanted(event: EngineEvent, filters: Filters): boolean {
  const name = event.attributes["name"] ?? "";
  const isNamed = (wanted: string) =>
    event.id.startsWith(wanted) || name === wanted || event.attributes["image"] === wanted;
  return (
    filters.exact("type", event.type) &&
    filters.exact("scope", event.scope) &&
    // compat: `exec_start` also matches the actions that carry the command, `exec_start: sh`.
    filters.any("event", (wanted) => event.action === wanted || event.action.startsWith(`${wanted}:`)) &&
    filters.labels(event.attributes) &&
    byObject.every((kind) => filters.get(kind).length === 0 || (kind === event.type && filters.any(kind, isNamed)))
  );
}

/** With the fields of before 1.22 (`status`, `id`, `from`) that the CLI still reads for containers and images. */
export function eventJson(event: EngineEvent): string {
  const isOld = event.type === "container" || event.type === "image";
  const text = JSON.stringify({
    ...(isOld ? { status: event.action, id: event.id } : {}),
    ...(event.type === "container" ? { from: event.attributes["image"] ?? "" } : {}),
    Type: event.type,
    Action: event.action,
    Actor: { ID: event.id, Attributes: event.attributes },
    scope: event.scope,
    time: Math.floor(event.timeMs / 1000),
  });
  // Nanoseconds since 1970 are beyond what a JavaScript number holds exactly.
  const nanoseconds = BigInt(Math.round(event.timeMs * 1000)) * 1000n;
  return `${text.slice(0, -1)},"timeNano":${nanoseconds}}`;
}
