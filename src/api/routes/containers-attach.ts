import type { Hijacked } from "../../wire/http/mod.ts";
import type { Call, Route } from "../call.ts";
import type { Rooms } from "../rooms.ts";
import { joinStreams } from "./stream-pump.ts";

export const containerAttachRoutes: readonly Route[] = [
  { method: "POST", path: "/containers/{id}/attach", hijack: attach },
];

async function attach(call: Call, rooms: Rooms, accept: (tty: boolean) => Hijacked): Promise<undefined> {
  const record = rooms.containers.find(call.params["id"] ?? "");
  const { query } = call;
  const stream = query.flag("stream");
  const attached = await rooms.containers.attach(record.id, {
    stdin: query.flag("stdin") && record.spec.openStdin && stream,
    stdout: query.flag("stdout"),
    stderr: query.flag("stderr"),
    logs: query.flag("logs"),
    stream,
  });
  await joinStreams(accept(attached.tty), attached, { closesStdin: record.spec.stdinOnce });
  return undefined;
}
