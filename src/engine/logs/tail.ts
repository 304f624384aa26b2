import type { FileHandle } from "node:fs/promises";
import type { LogOptions } from "../engine.ts";
import { parseEntry } from "./entry.ts";

const blockBytes = 64 << 10;
const newline = 10;

/** Counts lines from the newest file to the oldest, until there are enough. */
export class TailCounter {
  readonly #options: Pick<LogOptions, "stdout" | "stderr">;
  readonly #wanted: number;
  #lines = 0;

  constructor(options: Pick<LogOptions, "stdout" | "stderr">, wanted: number) {
    this.#options = options;
    this.#wanted = wanted;
  }

  /** Where in this file, of which `size` bytes count, the wanted lines begin; undefined: in it or before it. */
  async startIn(file: FileHandle, size: number): Promise<number | undefined> {
    if (this.#wanted === 0) return size;
    let end = size;
    let tailBytes: Buffer = Buffer.alloc(0);
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
        if (this.#isBeyond(tailBytes.toString("utf8", cut + 1, body))) return offset;
        offset = start + cut + 1;
        if (cut < 0) return undefined;
        tailBytes = tailBytes.subarray(0, cut + 1);
      }
      end = start;
    }
    return undefined;
  }

  /** A new line begins where the entry ends one; partial ones belong to the line they start. */
  #isBeyond(text: string): boolean {
    const entry = parseEntry(text);
    if (entry === undefined || !this.#options[entry.stream]) return false;
    if (entry.log.endsWith("\n") || this.#lines === 0) this.#lines += 1;
    return this.#lines > this.#wanted;
  }
}
