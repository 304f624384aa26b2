import { Readable } from "node:stream";
import type { Attached, AttachOptions, LogOptions } from "../engine.ts";
import type { LiveContainer } from "../lifecycle/container.ts";
import { readLog } from "../logs/reader.ts";

/** Live streams of a container's first process, in this run or the next; with `logs` what was written before comes first. */
export function attachTo(container: LiveContainer, options: AttachOptions): Attached {
  const { spec } = container.record;
  // Docker closes the input with its first client only when asked to (`docker run -i`).
  const stdin = options.stdin && options.stream ? container.io.stdin(spec.stdinOnce) : undefined;
  const stdout = options.stdout ? outputOf(container, "stdout", options) : undefined;
  const stderr = options.stderr && !spec.tty ? outputOf(container, "stderr", options) : undefined;
  return {
    stdin,
    stdout,
    stderr,
    tty: spec.tty,
    close() {
      stdin?.destroy();
      stdout?.destroy();
      stderr?.destroy();
    },
  };
}

function outputOf(container: LiveContainer, stream: "stdout" | "stderr", options: AttachOptions): Readable | undefined {
  // Taken before the log's length is looked at, in one go: no byte is missing or doubled.
  const live = options.stream ? container.io.attach(stream) : undefined;
  if (!options.logs || !container.hasLog) return live ?? Readable.from([]);
  const source = container.logSource("now");
  const wanted: LogOptions = {
    stdout: stream === "stdout",
    stderr: stream === "stderr",
    follow: false,
    tail: undefined,
    since: undefined,
    until: undefined,
  };
  const both = Readable.from(
    (async function* () {
      for await (const line of readLog(source, wanted, new AbortController().signal)) yield Buffer.from(line.data);
      if (live !== undefined) yield* live as AsyncIterable<Buffer>;
    })(),
    { objectMode: false },
  );
  both.once("close", () => live?.destroy());
  return both;
}
