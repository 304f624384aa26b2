import type { Readable, Writable } from "node:stream";
import type { Attached } from "../../engine/mod.ts";
import { encodeFrame, type Hijacked } from "../../wire/http/mod.ts";

/**
 * Joins a taken-over connection with a process's streams until the process's output ends or the client is gone.
 *
 * The end of the client's side is the end of stdin. With a TTY, or where stdin outlives a client (`closesStdin` false),
 * it means that the client let go, as Docker takes it. Without stdin it means nothing.
 */
export async function joinStreams(
  connection: Hijacked,
  attached: Attached,
  options: { readonly closesStdin: boolean },
): Promise<void> {
  const { stream } = connection;
  const { stdin } = attached;
  if (stdin === undefined) {
    stream.resume();
  } else {
    stream.pipe(stdin, { end: false });
    stdin.on("error", () => stream.unpipe(stdin));
    stream.once("end", () => {
      if (options.closesStdin && !attached.tty) stdin.end();
      else connection.end();
    });
  }
  const outputs = [
    { source: attached.stdout, number: 1 as const },
    { source: attached.stderr, number: 2 as const },
  ].flatMap(({ source, number }) => {
    if (source === undefined) return [];
    const encode = attached.tty ? (chunk: Buffer) => chunk : (chunk: Buffer) => encodeFrame(number, chunk);
    return [pump(source, stream, encode)];
  });
  try {
    // With no output asked for there is only the client to wait for.
    await Promise.race([connection.closed, outputs.length === 0 ? connection.closed : Promise.all(outputs)]);
    connection.end();
  } finally {
    if (stdin !== undefined) stream.unpipe(stdin);
    attached.close();
  }
}

/** Copies until the source ends or the sink is closed, no faster than the sink takes it. */
async function pump(source: Readable, sink: Writable, encode: (chunk: Buffer) => Buffer): Promise<void> {
  for await (const chunk of source) {
    if (sink.destroyed || sink.writableEnded) return;
    if (!sink.write(encode(chunk as Buffer))) await drained(sink);
  }
}

export function drained(sink: Writable): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      sink.off("drain", done);
      sink.off("close", done);
      resolve();
    };
    sink.on("drain", done);
    sink.on("close", done);
    if (sink.destroyed) done();
  });
}
