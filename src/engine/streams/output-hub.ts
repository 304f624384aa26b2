import { Readable } from "node:stream";

/** What the hub reads from: a socket, or anything that can be paused. */
export interface OutputSource {
  on(event: "data", listener: (chunk: Buffer) => void): unknown;
  on(event: "error", listener: (error: Error) => void): unknown;
  once(event: "close", listener: () => void): unknown;
  pause(): unknown;
  resume(): unknown;
  destroy(): unknown;
}

/**
 * One output stream of a process, given to any number of attached readers and to the log. The slowest reader slows the
 * process down, as a terminal would; nobody attached slows nothing.
 */
export class OutputHub {
  readonly #readers = new Set<Readable>();
  readonly #full = new Set<Readable>();
  readonly #onData: (chunk: Buffer) => void;
  #source: OutputSource | undefined;
  #patient = true;

  constructor(onData: (chunk: Buffer) => void) {
    this.#onData = onData;
  }

  /** Begins to read; resolves when the source has ended. */
  pump(source: OutputSource): Promise<void> {
    this.#source = source;
    this.#patient = true;
    return new Promise((resolve) => {
      source.on("data", (chunk) => this.#deliver(chunk));
      // EIO or EPIPE when the other side vanished: the end all the same, `close` follows.
      source.on("error", () => {});
      source.once("close", resolve);
    });
  }

  /** Output that came in another way than by the source. */
  deliver(chunk: Buffer): void {
    this.#deliver(chunk);
  }

  /** A live view from now on. Destroying it lets go. */
  attach(): Readable {
    const readable: Readable = new Readable({
      highWaterMark: 64 << 10,
      read: () => this.#drained(readable),
      destroy: (error, done) => {
        this.#readers.delete(readable);
        this.#drained(readable);
        done(error);
      },
    });
    this.#readers.add(readable);
    return readable;
  }

  /** Waits for no reader any more: the process is gone, and what is left in the pipe is little. */
  hurry(): void {
    this.#patient = false;
    this.#full.clear();
    this.#source?.resume();
  }

  /** Ends every attached reader, after what it has not read yet. */
  end(): void {
    this.#source?.destroy();
    this.#source = undefined;
    for (const readable of this.#readers) readable.push(null);
    this.#readers.clear();
    this.#full.clear();
  }

  #deliver(chunk: Buffer): void {
    this.#onData(chunk);
    for (const readable of this.#readers) {
      if (!readable.push(chunk) && this.#patient) this.#full.add(readable);
    }
    if (this.#full.size > 0) this.#source?.pause();
  }

  #drained(readable: Readable): void {
    if (this.#full.delete(readable) && this.#full.size === 0) this.#source?.resume();
  }
}
