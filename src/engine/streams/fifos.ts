import { execFile } from "node:child_process";
import { closeSync, constants, mkdirSync, openSync, readSync, renameSync, rmSync } from "node:fs";
import { Socket } from "node:net";
import { join } from "node:path";
import { promisify } from "node:util";

const batch = 32;
const lowWater = 12;

/**
 * Named pipes, made ahead of need: Node has no mkfifo, and a spawned one would cost every container start some
 * milliseconds.
 */
export class FifoPool {
  readonly #directory: string;
  #ready: string[] = [];
  #next = 0;
  #filling: Promise<void> | undefined;

  /** `directory` must be on the file system of the places where the pipes go; what an earlier pool left is removed. */
  constructor(directory: string) {
    this.#directory = directory;
    rmSync(directory, { recursive: true, force: true });
    mkdirSync(directory, { recursive: true, mode: 0o700 });
  }

  /** Puts a fresh pipe at `path`, replacing what was there. */
  async place(path: string): Promise<void> {
    while (this.#ready.length === 0) await this.fill();
    renameSync(this.#ready.pop() as string, path);
    // Fills in the background; a failure shows when the pool is empty.
    if (this.#ready.length < lowWater) this.fill().catch(() => {});
  }

  fill(): Promise<void> {
    this.#filling ??= this.#make().finally(() => {
      this.#filling = undefined;
    });
    return this.#filling;
  }

  async #make(): Promise<void> {
    const paths = Array.from({ length: batch }, () => join(this.#directory, String(this.#next++)));
    await promisify(execFile)("mkfifo", ["-m", "0600", ...paths]);
    this.#ready.push(...paths);
  }
}

/** Our end of a process's output. Ends when the process and its shim have closed theirs. */
export function openReader(path: string): Socket {
  const fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  return wrap(fd, { readable: true, writable: false });
}

/**
 * Our end of output that an earlier daemon read; undefined when nobody writes it any more. A pipe that never had a
 * writer in this process's life would not show its end otherwise.
 */
export function reopenReader(path: string, onData: (chunk: Buffer) => void): Socket | undefined {
  const fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  const block = Buffer.allocUnsafe(64 << 10);
  try {
    for (;;) {
      const length = readSync(fd, block);
      if (length === 0) {
        closeSync(fd);
        return undefined;
      }
      onData(Buffer.from(block.subarray(0, length)));
    }
  } catch (error) {
    // Empty for now: somebody holds the other end.
    if ((error as NodeJS.ErrnoException).code === "EAGAIN") return wrap(fd, { readable: true, writable: false });
    closeSync(fd);
    throw error;
  }
}

/** Our end of a process's input; read-write, since write-only fails until there is a reader. */
export function openWriter(path: string): Socket {
  const fd = openSync(path, constants.O_RDWR | constants.O_NONBLOCK);
  return wrap(fd, { readable: false, writable: true });
}

function wrap(fd: number, direction: { readonly readable: boolean; readonly writable: boolean }): Socket {
  try {
    return new Socket({ fd, ...direction });
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}
