import { closeSync, fstatSync, mkdirSync, openSync, writeSync } from "node:fs";
import { dirname } from "node:path";
import type { Clock } from "../../base/clock.ts";
import { formatEntry } from "./entry.ts";
import { type LogLimits, rotate } from "./limits.ts";

export type LogStream = "stdout" | "stderr";

const newline = 10;
/** A partial line this long means a fast writer: the rest may never come if we die now. */
const partialAtOnceBytes = 4096;
const partialDelayMs = 100;
/** Docker cuts lines here. */
const maximumLineBytes = 16 << 10;

/**
 * Appends a container's output to Docker's json-file format. Written at once, unbuffered: what was taken off the pipe is
 * in the file before anything else happens, so that a kill of the daemon loses no line. A line's beginning is written
 * as a partial entry (without newline) when its end does not come soon; readers join them.
 */
export class JsonFileLog implements Disposable {
  readonly #path: string;
  readonly #clock: Clock;
  readonly #limits: LogLimits;
  readonly #onWrite: () => void;
  readonly #onRotate: () => void;
  readonly #held = new Map<LogStream, { bytes: Buffer; timer: Disposable }>();
  #fd: number;
  #size: number;
  #closed = false;

  constructor(options: {
    readonly path: string;
    readonly clock: Clock;
    readonly limits: LogLimits;
    readonly onWrite: () => void;
    /** The file has been put aside, and the next is empty. */
    readonly onRotate: () => void;
  }) {
    mkdirSync(dirname(options.path), { recursive: true, mode: 0o710 });
    this.#path = options.path;
    this.#clock = options.clock;
    this.#limits = options.limits;
    this.#onWrite = options.onWrite;
    this.#onRotate = options.onRotate;
    this.#fd = openSync(this.#path, "a", 0o640);
    this.#size = fstatSync(this.#fd).size;
  }

  write(stream: LogStream, chunk: Buffer): void {
    if (this.#closed) return;
    const held = this.#take(stream);
    const bytes = held === undefined ? chunk : Buffer.concat([held, chunk]);
    const time = this.#now();
    const entries: string[] = [];
    let start = 0;
    while (start < bytes.length) {
      const found = bytes.indexOf(newline, start);
      const lineEnd = found < 0 ? bytes.length : found + 1;
      const isWhole = found >= 0 && lineEnd - start <= maximumLineBytes;
      const end = isWhole ? lineEnd : characterBoundary(bytes, start, Math.min(lineEnd, start + maximumLineBytes));
      if (!isWhole && lineEnd - start < maximumLineBytes && chunk.length < partialAtOnceBytes) break;
      if (end === start) break;
      entries.push(formatEntry({ log: bytes.toString("utf8", start, end), stream, time }));
      start = end;
    }
    if (start < bytes.length) this.#hold(stream, bytes.subarray(start));
    if (entries.length > 0) this.#append(entries);
  }

  /** Writes what is held back; at the end of a stream. */
  flush(stream: LogStream): void {
    const held = this.#take(stream);
    if (held === undefined || this.#closed) return;
    this.#append([formatEntry({ log: held.toString("utf8"), stream, time: this.#now() })]);
  }

  [Symbol.dispose](): void {
    if (this.#closed) return;
    this.flush("stdout");
    this.flush("stderr");
    this.#closed = true;
    closeSync(this.#fd);
  }

  #hold(stream: LogStream, bytes: Buffer): void {
    const timer = this.#clock.after(partialDelayMs, () => this.flush(stream));
    // A copy: the chunk's memory belongs to the socket.
    this.#held.set(stream, { bytes: Buffer.from(bytes), timer });
  }

  #take(stream: LogStream): Buffer | undefined {
    const held = this.#held.get(stream);
    if (held === undefined) return undefined;
    held.timer[Symbol.dispose]();
    this.#held.delete(stream);
    return held.bytes;
  }

  /** In as few writes as there are files to write to. */
  #append(entries: readonly string[]): void {
    const { maximumBytes = Number.POSITIVE_INFINITY, maximumFiles } = this.#limits;
    let text = "";
    for (const entry of entries) {
      if (this.#size + text.length >= maximumBytes) {
        this.#writeAll(text);
        text = "";
        this.#rotate(maximumFiles);
      }
      text += entry;
    }
    this.#writeAll(text);
    this.#onWrite();
  }

  #writeAll(text: string): void {
    const bytes = Buffer.from(text);
    for (let at = 0; at < bytes.length; ) at += writeSync(this.#fd, bytes, at);
    this.#size += bytes.length;
  }

  #rotate(maximumFiles: number): void {
    closeSync(this.#fd);
    rotate(this.#path, maximumFiles);
    this.#fd = openSync(this.#path, "a", 0o640);
    this.#size = 0;
    this.#onRotate();
  }

  #now(): string {
    return formatLogTime(this.#clock.wall(), this.#clock.now());
  }
}

/** RFC 3339 with nanoseconds; the digits below the millisecond come from the monotonic clock, to keep entries apart. */
export function formatLogTime(wall: Date, monotonicMs: number): string {
  const below = Math.floor((monotonicMs % 1) * 1e6);
  return `${wall.toISOString().slice(0, -1)}${String(below).padStart(6, "0")}Z`;
}

/** The last end of a UTF-8 character at or before `end`: JSON holds characters, half of one would be lost. */
function characterBoundary(bytes: Buffer, start: number, end: number): number {
  for (let lead = end - 1; lead >= Math.max(start, end - 4); lead--) {
    const byte = bytes[lead] as number;
    if (byte < 0x80) return end;
    if (byte < 0xc0) continue;
    const length = byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : 2;
    return lead + length > end ? lead : end;
  }
  return end;
}
