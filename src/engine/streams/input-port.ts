import type { Socket } from "node:net";
import { Writable } from "node:stream";
import { type Deferred, deferred } from "../../base/async.ts";

/** The standard input of a process: several may write, before it runs as well; closed once for all. */
export class InputPort {
  #socket: Deferred<Socket | undefined> = deferred();
  readonly #closeInput: () => Promise<void>;
  #closed = false;

  /** `closeInput` tells the runtime to close its end. */
  constructor(closeInput: () => Promise<void>) {
    this.#closeInput = closeInput;
  }

  /** The process runs (or will at once): what waited is written. */
  open(socket: Socket): void {
    // EPIPE: the process does not read any more. Its exit tells the rest.
    socket.on("error", () => {});
    this.#socket.resolve(socket);
  }

  /** Somebody's way in. Its end closes the process's input when `closesInput`. */
  writer(closesInput: boolean): Writable {
    return new Writable({
      write: (chunk: Buffer, _encoding, done) => {
        this.#write(chunk).then(() => done(), done);
      },
      final: (done) => {
        (closesInput ? this.close() : Promise.resolve()).then(() => done(), done);
      },
    });
  }

  /** After everything written so far. */
  async close(): Promise<void> {
    if (this.#closed) return;
    const socket = await this.#socket.promise;
    if (this.#closed || socket === undefined) return;
    this.#closed = true;
    if (!socket.destroyed) await new Promise<void>((resolve) => socket.end(resolve));
    socket.destroy();
    await this.#closeInput();
  }

  /** The process is gone; what is still written goes nowhere. */
  async abandon(): Promise<void> {
    this.#closed = true;
    this.#socket.resolve(undefined);
    (await this.#socket.promise)?.destroy();
  }

  async #write(chunk: Buffer): Promise<void> {
    const socket = await this.#socket.promise;
    if (socket === undefined || socket.destroyed || this.#closed) return;
    await new Promise<void>((resolve) => {
      // Done when written, or when there is nobody left to write to.
      const finish = () => {
        socket.off("close", finish);
        resolve();
      };
      socket.once("close", finish);
      socket.write(chunk, finish);
    });
  }
}
