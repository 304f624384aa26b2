import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { EngineError, messageOf } from "../../base/errors.ts";
import { type Call, json, type Reply, type Route } from "../call.ts";
import { invalid } from "../errors.ts";
import type { Rooms } from "../rooms.ts";

export const containerTopRoutes: readonly Route[] = [{ method: "GET", path: "/containers/{id}/top", handle: top }];

const run = promisify(execFile);

/** The host's `ps`, less the lines of other processes: its options are the user's to choose, so no table of ours would do. */
async function top(call: Call, rooms: Rooms): Promise<Reply> {
  const record = rooms.containers.find(call.params["id"] ?? "");
  if (record.state.kind !== "running") throw new EngineError("conflict", `container ${record.id} is not running`);
  const pids = new Set(await rooms.containers.pids(record.id));
  const args = (call.query.text("ps_args") || "-ef").split(/\s+/);
  let output: string;
  try {
    output = (await run("ps", args, { maxBuffer: 16 * 1024 * 1024, signal: call.gone })).stdout;
  } catch (cause) {
    throw new EngineError("internal", `error running ps: ${messageOf(cause)}`, { cause });
  }
  const processes = selectProcesses(output, pids);
  rooms.events.publish({
    type: "container",
    action: "top",
    id: record.id,
    attributes: { ...record.spec.labels, image: record.spec.image, name: record.name },
    scope: "local",
    timeMs: rooms.clock.wall().getTime(),
  });
  return json(processes);
}

/** Keeps the lines whose PID is one of `pids`. @throws {EngineError} `invalid` when there is no PID column. */
export function selectProcesses(
  output: string,
  pids: ReadonlySet<number>,
): { readonly Titles: readonly string[]; readonly Processes: readonly (readonly string[])[] } {
  const [header = "", ...lines] = output.split("\n").filter((line) => line.trim() !== "");
  const titles = header.trim().split(/\s+/);
  const column = titles.indexOf("PID");
  if (column < 0) throw invalid("Couldn't find PID field in ps output");
  const rows = lines.map((line) => {
    const fields = line.trim().split(/\s+/);
    // The command is the last column and may hold spaces.
    return [...fields.slice(0, titles.length - 1), fields.slice(titles.length - 1).join(" ")];
  });
  return { Titles: titles, Processes: rows.filter((row) => pids.has(Number(row[column]))) };
}
