import type { Writable } from "node:stream";
import type { LogLine } from "../../engine/mod.ts";
import { encodeFrame } from "../../wire/http/mod.ts";
import type { Call, Reply, Route } from "../call.ts";
import { invalid } from "../errors.ts";
import type { Rooms } from "../rooms.ts";
import { drained } from "./stream-pump.ts";

export const containerLogsRoutes: readonly Route[] = [{ method: "GET", path: "/containers/{id}/logs", handle: logs }];

function logs(call: Call, rooms: Rooms): Reply {
  const { query } = call;
  const [stdout, stderr] = [query.flag("stdout"), query.flag("stderr")];
  if (!stdout && !stderr) throw invalid("Bad parameters: you must choose at least one stream");
  const record = rooms.containers.find(call.params["id"] ?? "");
  const lines = rooms.containers.logs(
    record.id,
    {
      stdout,
      stderr,
      follow: query.flag("follow"),
      tail: parseTail(query.text("tail")),
      since: query.time("since"),
      // compat: 0 means no end here, unlike in `events`.
      until: query.text("until") === "0" ? undefined : query.time("until"),
    },
    call.gone,
  );
  const { tty } = record.spec;
  const format = { tty, timestamps: query.flag("timestamps") };
  return {
    kind: "stream",
    contentType:
      tty || call.version < 42 ? "application/vnd.docker.raw-stream" : "application/vnd.docker.multiplexed-stream",
    run: (out) => write(lines, out, { ...format, gone: call.gone }),
  };
}

async function write(
  lines: AsyncIterable<LogLine>,
  out: Writable,
  format: { readonly tty: boolean; readonly timestamps: boolean; readonly gone: AbortSignal },
): Promise<void> {
  try {
    for await (const line of lines) {
      const data = format.timestamps ? Buffer.concat([Buffer.from(`${line.time} `), line.data]) : line.data;
      const bytes = format.tty ? data : encodeFrame(line.stream === "stderr" ? 2 : 1, data);
      if (!out.write(bytes)) await drained(out);
    }
  } catch (error) {
    if (!format.gone.aborted) throw error;
  }
}

/** Anything but a number means all, as in Docker. */
function parseTail(text: string): number | undefined {
  return /^\d{1,15}$/.test(text) ? Number(text) : undefined;
}
