import { type FileHandle, open } from "node:fs/promises";
import type { LogLine, LogOptions } from "../engine.ts";
import type { LogStream } from "./json-file.ts";

const blockBytes = 64 << 10;
const newline = 10;

/** A place to wait for more output; the writer pings it. */
export interface LogSource {
  readonly path: string;
  /** Grows with every write and when the writer ends. */
  version(): number;
  /** Resolves once the version is past `seen`; rejects on abort. */
  changed(seen: number, signal: AbortSignal): Promise<void>;
  /** No more will be written in this run of the container. */
  readonly isFinished: () => boolean;
  /** Reads no further than this; undefined: to the end. */
  readonly endOffset?: number;
}

/** Reads a json-file log, oldest first; with `follow` until the container's run is over. */
export async function* readLog(source: LogSource, options: LogOptions, signal: AbortSignal): AsyncGenerator<LogLine> {
  await using file = await openIfThere(source.path);
  if (file === undefined) return;
  const joiner = new LineJoiner(options);
  let position = options.tail === undefined ? 0 : await tailOffset(file.handle, options);
  let rest: Buffer = Buffer.alloc(0);
  for (;;) {
    signal.throwIfAborted();
    // Asked before the read: what is written between the two is seen by the next one.
    const seen = source.version();
    const wasFinished = source.isFinished();
    for (;;) {
      const block = Buffer.alloc(Math.min(blockBytes, (source.endOffset ?? Number.POSITIVE_INFINITY) - position));
      const { bytesRead } = await file.handle.read(block, 0, block.length, position);
      if (bytesRead === 0) break;
      position += bytesRead;
      const bytes = Buffer.concat([rest, block.subarray(0, bytesRead)]);
      let start = 0;
      for (let end = bytes.indexOf(newline); end >= 0; end = bytes.indexOf(newline, start)) {
        const entry = parseEntry(bytes.toString("utf8", start, end));
        start = end + 1;
        if (entry === undefined) continue;
        if (options.until !== undefined && new Date(entry.time) > options.until) return;
        yield* joiner.push(entry);
      }
      rest = bytes.subarray(start);
    }
    if (!options.follow || wasFinished) break;
    // A prompt without a newline has been written for somebody to see.
    yield* joiner.flush();
    await source.changed(seen, signal);
  }
  yield* joiner.flush();
}

interface Entry {
  readonly log: string;
  readonly stream: LogStream;
  readonly time: string;
}

/** A torn line, left by a crash of the machine, is skipped. */
function parseEntry(text: string): Entry | undefined {
  try {
    const entry = JSON.parse(text) as Partial<Entry>;
    const { log, stream, time } = entry;
    if (typeof log !== "string" || typeof time !== "string") return undefined;
    return stream === "stdout" || stream === "stderr" ? { log, stream, time } : undefined;
  } catch {
    return undefined;
  }
}

/** Puts partial entries of one stream together again, up to the newline. */
class LineJoiner {
  readonly #options: LogOptions;
  readonly #partial = new Map<LogStream, Entry>();

  constructor(options: LogOptions) {
    this.#options = options;
  }

  *push(entry: Entry): Generator<LogLine> {
    if (!this.#options[entry.stream]) return;
    if (this.#options.since !== undefined && new Date(entry.time) < this.#options.since) return;
    const before = this.#partial.get(entry.stream);
    const whole = before === undefined ? entry : { ...before, log: before.log + entry.log };
    if (whole.log.endsWith("\n")) {
      this.#partial.delete(entry.stream);
      yield lineOf(whole);
    } else if (whole.log.length >= blockBytes) {
      this.#partial.delete(entry.stream);
      yield lineOf(whole);
    } else {
      this.#partial.set(entry.stream, whole);
    }
  }

  *flush(): Generator<LogLine> {
    for (const entry of this.#partial.values()) yield lineOf(entry);
    this.#partial.clear();
  }
}

function lineOf(entry: Entry): LogLine {
  return { stream: entry.stream, time: entry.time, data: new TextEncoder().encode(entry.log) };
}

/** Where the last `tail` lines of the wanted streams begin, found from the end. */
async function tailOffset(file: FileHandle, options: LogOptions): Promise<number> {
  const wanted = options.tail ?? 0;
  const { size } = await file.stat();
  if (wanted === 0) return size;
  let end = size;
  let tailBytes: Buffer = Buffer.alloc(0);
  let lines = 0;
  let offset = size;
  while (end > 0) {
    const start = Math.max(0, end - blockBytes);
    const block = Buffer.alloc(end - start);
    await file.read(block, 0, block.length, start);
    tailBytes = Buffer.concat([block, tailBytes]);
    // Every complete entry in what we hold, last first; the first may be cut and waits for the next block.
    for (;;) {
      const body = tailBytes.length > 0 && tailBytes.at(-1) === newline ? tailBytes.length - 1 : tailBytes.length;
      const cut = tailBytes.lastIndexOf(newline, body - 1);
      if (body === 0 || (cut < 0 && start > 0)) break;
      const entry = parseEntry(tailBytes.toString("utf8", cut + 1, body));
      const counts = entry !== undefined && options[entry.stream];
      // A new line begins where the entry ends one; partial ones belong to the line they start.
      if (counts && (entry.log.endsWith("\n") || lines === 0)) lines += 1;
      if (lines > wanted) return offset;
      offset = start + cut + 1;
      if (cut < 0) return 0;
      tailBytes = tailBytes.subarray(0, cut + 1);
    }
    end = start;
  }
  return 0;
}

async function openIfThere(path: string): Promise<({ readonly handle: FileHandle } & AsyncDisposable) | undefined> {
  try {
    const handle = await open(path, "r");
    return { handle, [Symbol.asyncDispose]: () => handle.close() };
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
}
