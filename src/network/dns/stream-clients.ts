import type { Socket } from "node:net";
import type { Clock } from "../../base/clock.ts";
import { FrameDecoder, frame } from "../../wire/dns/mod.ts";

/** Answers one message at once, later, or (undefined) not at all. The promise does not reject. */
export type AnswerStream = (bytes: Uint8Array) => Uint8Array | Promise<Uint8Array> | undefined;

const idleMs = 10_000;
const maxPipelined = 64;

/**
 * TCP clients of a resolver: length-framed queries, several at a time, answered as answers come (RFC 7766). A client that
 * sends nothing, or takes nothing, for ten seconds is cut off; one that closes its side still gets what it asked for.
 */
export class StreamClients implements Disposable {
  readonly maxClients = 256;
  readonly #clock: Clock;
  readonly #answer: AnswerStream;
  readonly #clients = new Set<Client>();

  constructor(clock: Clock, answer: AnswerStream) {
    this.#clock = clock;
    this.#answer = answer;
  }

  add(socket: Socket): void {
    const client = new Client(socket, this.#clock, this.#answer);
    this.#clients.add(client);
    socket.on("close", () => this.#clients.delete(client));
  }

  [Symbol.dispose](): void {
    for (const client of [...this.#clients]) client.close();
  }
}

class Client {
  readonly #socket: Socket;
  readonly #clock: Clock;
  readonly #answer: AnswerStream;
  readonly #decoder = new FrameDecoder();
  /** Decoded, but more are under way than a client may have. */
  readonly #queued: Uint8Array[] = [];
  #underWay = 0;
  #ended = false;
  #lastActivity: number;
  #idleTimer: Disposable;

  constructor(socket: Socket, clock: Clock, answer: AnswerStream) {
    this.#socket = socket;
    this.#clock = clock;
    this.#answer = answer;
    this.#lastActivity = clock.now();
    this.#idleTimer = clock.after(idleMs, () => this.#checkIdle());
    socket.on("data", (chunk: Buffer) => this.#receive(chunk));
    socket.on("drain", () => this.#proceed());
    socket.on("end", () => {
      this.#ended = true;
      this.#proceed();
    });
    socket.on("error", () => this.close());
    socket.on("close", () => this.#idleTimer[Symbol.dispose]());
  }

  close(): void {
    this.#socket.destroy();
  }

  #receive(chunk: Buffer): void {
    this.#queued.push(...this.#decoder.push(chunk));
    this.#proceed();
  }

  /** Takes on what it may, stops reading while it may not, and hangs up when all is done after the client's end. */
  #proceed(): void {
    if (this.#socket.destroyed) return;
    this.#lastActivity = this.#clock.now();
    this.#socket.cork();
    while (this.#queued.length > 0 && this.#underWay < maxPipelined && !this.#socket.writableNeedDrain) {
      this.#take(this.#queued.shift() as Uint8Array);
    }
    this.#socket.uncork();
    if (this.#queued.length > 0) this.#socket.pause();
    else if (this.#socket.isPaused()) this.#socket.resume();
    if (this.#ended && this.#queued.length === 0 && this.#underWay === 0) this.#socket.end();
  }

  #take(message: Uint8Array): void {
    const answer = this.#answer(message);
    if (answer instanceof Uint8Array) this.#socket.write(frame(answer));
    else if (answer === undefined) this.close();
    else {
      this.#underWay += 1;
      void answer.then((late) => {
        this.#underWay -= 1;
        if (this.#socket.destroyed) return;
        this.#socket.write(frame(late));
        this.#proceed();
      });
    }
  }

  #checkIdle(): void {
    const left = this.#lastActivity + idleMs - this.#clock.now();
    if (left <= 0 && this.#underWay === 0) this.close();
    else this.#idleTimer = this.#clock.after(Math.max(left, 1000), () => this.#checkIdle());
  }
}
