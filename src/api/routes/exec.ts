import { z } from "zod";
import { EngineError, messageOf } from "../../base/errors.ts";
import type { Attached } from "../../engine/mod.ts";
import { encodeFrame, type Hijacked } from "../../wire/http/mod.ts";
import { type Call, empty, json, type Reply, type Route } from "../call.ts";
import { invalid } from "../errors.ts";
import { decodeBody, flag, text, textOrTexts, texts } from "../parse/go-json.ts";
import type { Rooms } from "../rooms.ts";
import { parseSize } from "./containers-lifecycle.ts";
import { joinStreams } from "./stream-pump.ts";

export const execRoutes: readonly Route[] = [
  { method: "POST", path: "/containers/{id}/exec", handle: create },
  { method: "POST", path: "/exec/{id}/start", hijack: start },
  { method: "POST", path: "/exec/{id}/resize", handle: resize },
  { method: "GET", path: "/exec/{id}/json", handle: inspect },
];

const createBody = z.object({
  Cmd: textOrTexts,
  Tty: flag,
  AttachStdin: flag,
  AttachStdout: flag,
  AttachStderr: flag,
  Env: texts,
  User: text,
  WorkingDir: text,
  Privileged: flag,
  DetachKeys: text,
});

const startBody = z.object({
  Detach: flag,
  Tty: flag,
  ConsoleSize: z
    .array(z.int())
    .nullish()
    .transform((value) => value ?? []),
});

async function create(call: Call, rooms: Rooms): Promise<Reply> {
  const body = decodeBody(createBody, await call.json());
  if (body.Cmd === undefined || body.Cmd.length === 0) throw invalid("No exec command specified");
  const record = rooms.containers.find(call.params["id"] ?? "");
  if (record.state.kind !== "running") throw new EngineError("conflict", `container ${record.id} is not running`);
  const id = await rooms.containers.createExec(record.id, {
    command: body.Cmd,
    tty: body.Tty,
    attachStdin: body.AttachStdin,
    attachStdout: body.AttachStdout,
    attachStderr: body.AttachStderr,
    env: body.Env,
    user: body.User,
    workingDirectory: body.WorkingDir,
    privileged: body.Privileged,
    detachKeys: body.DetachKeys,
  });
  return json({ Id: id }, 201);
}

async function start(call: Call, rooms: Rooms, accept: (tty: boolean) => Hijacked): Promise<Reply | undefined> {
  const sent = await call.json();
  const body = decodeBody(startBody, sent ?? {});
  const id = call.params["id"] ?? "";
  const { spec } = rooms.containers.findExec(id);
  const [rows = 0, columns = 0] = body.ConsoleSize;
  let attached: Attached | undefined;
  try {
    attached = await rooms.containers.startExec(id, {
      detach: body.Detach,
      tty: spec.tty,
      ...(spec.tty && rows > 0 && columns > 0 ? { size: { rows, columns } } : {}),
    });
  } catch (error) {
    // compat: once tried, the failure is told in the stream; the client then asks for the exit code.
    if (body.Detach || rooms.containers.findExec(id).exitCode === undefined) throw error;
    const text = Buffer.from(`${messageOf(error)}\r\n`);
    const connection = accept(spec.tty);
    connection.stream.write(spec.tty ? text : encodeFrame(1, text));
    connection.end();
    return undefined;
  }
  if (attached === undefined) return empty(200);
  await joinStreams(accept(attached.tty), attached, { closesStdin: true });
  return undefined;
}

async function resize(call: Call, rooms: Rooms): Promise<Reply> {
  const size = parseSize(call.query);
  await rooms.containers.resizeExec(call.params["id"] ?? "", size);
  return empty(200);
}

function inspect(call: Call, rooms: Rooms): Reply {
  const exec = rooms.containers.findExec(call.params["id"] ?? "");
  const [entrypoint = "", ...args] = exec.spec.command;
  return json({
    ID: exec.id,
    Running: exec.running,
    ExitCode: exec.exitCode ?? null,
    ProcessConfig: {
      tty: exec.spec.tty,
      entrypoint,
      arguments: args,
      privileged: exec.spec.privileged,
      ...(exec.spec.user === "" ? {} : { user: exec.spec.user }),
    },
    OpenStdin: exec.spec.attachStdin,
    OpenStderr: exec.spec.attachStderr,
    OpenStdout: exec.spec.attachStdout,
    CanRemove: false,
    ContainerID: exec.containerId,
    DetachKeys: exec.spec.detachKeys,
    Pid: exec.pid,
  });
}
