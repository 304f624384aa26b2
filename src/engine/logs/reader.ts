import { type FileHandle, open } from "node:fs/promises";
import type { LogLine, LogOptions } from "../engine.ts";
import { type Entry, parseEntry } from "./entry.ts";
import type { LogStream } from "./json-file.ts";
import { rotatedPath } from "./limits.ts";
import { TailCounter } from "./tail.ts";

const blockBytes = 64 << 10;
const newline = 10;

/** Where a log is, and a place to wait for more output; the writer pings it. */
export interface LogSource {
  readonly path: string;
  readonly maximumFiles: number;
  /** Times that the file was put aside for a new one, in this life of the daemon. */
  rotations(): number;
  /** Grows with every write and when the writer ends. */
  version(): number;
  /** Resolves once the version is past `seen`; rejects on abort. */
  changed(seen: number, signal: AbortSignal): Promise<void>;
  /** No more will be written in this run of the container. */
  readonly isFinished: () => boolean;
  /** Reads no further than this; undefined: to the end. */
  readonly end?: { readonly rotations: number; readonly offset: number };
}

/** One file of a log, numbered in the order in which they were written; the newest has the number of rotations. */
interface LogFile extends AsyncDisposable {
  readonly number: number;
  readonly handle: FileHandle;
}

/** Reads a json-file log, oldest first; with `follow` until the container's run is over. */
export async function* readLog(source: LogSource, options: LogOptions, signal: AbortSignal): AsyncGenerator<LogLine> {
  await using stack = new AsyncDisposableStack();
  const files = await openFiles(source);
  for (const file of files) stack.use(file);
  const start = await startOf(files, source, options);
  const joiner = new LineJoiner(options);
  let next = files.findIndex(({ number }) => number === start?.number);
  let file = files[next];
  let position = start?.offset ?? 0;
  let rest: Buffer = Buffer.alloc(0);
  while (file !== undefined && file.number <= (source.end?.rotations ?? file.number)) {
    signal.throwIfAborted();
    // Asked before the read: what is written between the two is seen by the next one.
    const seen = source.version();
    const wasFinished = source.isFinished();
    const wasRotated = source.rotations() > file.number;
    const end = source.end?.rotations === file.number ? source.end.offset : Number.POSITIVE_INFINITY;
    for (;;) {
      const block = Buffer.alloc(Math.min(blockBytes, end - position));
      const { bytesRead } = await file.handle.read(block, 0, block.length, position);
      if (bytesRead === 0) break;
      position += bytesRead;
      const bytes = Buffer.concat([rest, block.subarray(0, bytesRead)]);
      let lineStart = 0;
      for (let at = bytes.indexOf(newline); at >= 0; at = bytes.indexOf(newline, lineStart)) {
        const entry = parseEntry(bytes.toString("utf8", lineStart, at));
        lineStart = at + 1;
        if (entry === undefined) continue;
        if (options.until !== undefined && new Date(entry.time) > options.until) return;
        yield* joiner.push(entry);
      }
      rest = bytes.subarray(lineStart);
    }
    if (source.end?.rotations === file.number) break;
    if (wasRotated) {
      next += 1;
      const opened = files[next] === undefined ? await openFrom(source, file.number + 1) : undefined;
      if (opened !== undefined) files.push(stack.use(opened));
      file = files[next];
      position = 0;
      rest = Buffer.alloc(0);
      continue;
    }
    if (!options.follow || wasFinished) break;
    // A prompt without a newline has been written for somebody to see.
    yield* joiner.flush();
    await source.changed(seen, signal);
  }
  yield* joiner.flush();
}

/** All files there are, oldest first. */
async function openFiles(source: LogSource): Promise<LogFile[]> {
  const files: LogFile[] = [];
  for (let number = source.rotations() - source.maximumFiles + 1; number <= source.rotations(); number++) {
    const file = await openNumbered(source, number);
    if (file !== undefined) files.push(file);
  }
  return files;
}

/** The file with this number, or the first after it that is still there. */
async function openFrom(source: LogSource, first: number): Promise<LogFile | undefined> {
  for (let number = first; number <= source.rotations(); number++) {
    const file = await openNumbered(source, number);
    if (file !== undefined) return file;
  }
  return undefined;
}

async function openNumbered(source: LogSource, number: number): Promise<LogFile | undefined> {
  for (;;) {
    const rotations = source.rotations();
    const path = rotatedPath(source.path, rotations - number);
    let handle: FileHandle | undefined;
    try {
      handle = await open(path, "r");
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
    }
    // Renamed while it was being opened: this may be another.
    if (source.rotations() === rotations) {
      const opened = handle;
      return opened && { number, handle: opened, [Symbol.asyncDispose]: () => opened.close() };
    }
    await handle?.close();
  }
}

/** Where to begin: at the first file, or where the last `tail` lines of the wanted streams do. */
async function startOf(
  files: readonly LogFile[],
  source: LogSource,
  options: LogOptions,
): Promise<{ readonly number: number; readonly offset: number } | undefined> {
  const [oldest] = files;
  if (oldest === undefined) return undefined;
  if (options.tail === undefined) return { number: oldest.number, offset: 0 };
  const counter = new TailCounter(options, options.tail);
  for (const { number, handle } of files.toReversed()) {
    if (source.end !== undefined && number > source.end.rotations) continue;
    const { size } = await handle.stat();
    const offset = await counter.startIn(handle, source.end?.rotations === number ? source.end.offset : size);
    if (offset !== undefined) return { number, offset };
  }
  return { number: oldest.number, offset: 0 };
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
