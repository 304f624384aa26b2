import { createSocket, type Socket as DatagramSocket, type RemoteInfo } from "node:dgram";
import { Socket } from "node:net";
import type { Clock } from "../../base/clock.ts";
import { familyOf, type IpFamily, tryParseIp } from "../../base/ip.ts";
import type { Random } from "../../base/random.ts";
import { type Kernel, type Netns, nsKey } from "../../kernel/mod.ts";
import { FrameDecoder, frame, idOf, isAnswerTo, type Query, withId } from "../../wire/dns/mod.ts";
import type { Upstream } from "./dns.ts";

export interface ExchangeDeps {
  readonly kernel: Pick<Kernel, "openUnbound">;
  readonly clock: Clock;
  readonly random: Random;
}

/** Each of connecting and asking, per upstream (reference: network-data-plane 7.4). */
const connectTimeoutMs = 4000;
export const exchangeTimeoutMs = 4000;
/** An unused socket goes, so that the next one has another source port. */
const idleSocketMs = 10_000;

interface Waiting {
  readonly query: Query;
  readonly upstream: Upstream;
  readonly settle: (response: Uint8Array | undefined) => void;
}

/**
 * Asks upstreams over UDP. One socket per namespace and family is shared by all questions under way; an answer is taken
 * only if id, source address, source port and question fit.
 */
export class UdpExchange implements Disposable {
  readonly #deps: ExchangeDeps;
  readonly #sockets = new Map<string, SharedSocket>();

  constructor(deps: ExchangeDeps) {
    this.#deps = deps;
  }

  /** The upstream's answer under the query's own id; undefined when there was none in time, or `signal` aborted. */
  async ask(query: Query, upstream: Upstream, signal: AbortSignal): Promise<Uint8Array | undefined> {
    if (signal.aborted) return undefined;
    const family = familyOf(upstream.address);
    const key = `${family} ${nsKey(upstream.from)}`;
    let socket = this.#sockets.get(key);
    if (socket === undefined) {
      socket = new SharedSocket(this.#deps, upstream.from, family, () => this.#sockets.delete(key));
      this.#sockets.set(key, socket);
    }
    return await socket.ask(query, upstream, signal);
  }

  [Symbol.dispose](): void {
    for (const socket of [...this.#sockets.values()]) socket.close();
  }
}

class SharedSocket {
  readonly #deps: ExchangeDeps;
  readonly #socket: DatagramSocket;
  readonly #onClose: () => void;
  readonly #waiting = new Map<number, Waiting>();
  #idleTimer: Disposable | undefined;
  #closed = false;

  constructor(deps: ExchangeDeps, from: Netns, family: IpFamily, onClose: () => void) {
    this.#deps = deps;
    this.#onClose = onClose;
    const fd = deps.kernel.openUnbound(from, family === 4 ? "udp4" : "udp6");
    // Addresses need no look-up, and Node's default one would go through the thread pool's queue.
    this.#socket = createSocket({
      type: family === 4 ? "udp4" : "udp6",
      lookup: (host, _options, done) => done(null, host, family),
    });
    this.#socket.on("message", (bytes, source) => this.#receive(bytes, source));
    this.#socket.on("error", () => this.close());
    this.#socket.bind({ fd, exclusive: true });
  }

  ask(query: Query, upstream: Upstream, signal: AbortSignal): Promise<Uint8Array | undefined> {
    this.#idleTimer?.[Symbol.dispose]();
    this.#idleTimer = undefined;
    let id = this.#deps.random.below(0x10000);
    while (this.#waiting.has(id)) id = (id + 1) & 0xffff;
    return new Promise((resolve) => {
      const settle = (response: Uint8Array | undefined) => {
        if (!this.#waiting.delete(id)) return;
        timer[Symbol.dispose]();
        signal.removeEventListener("abort", giveUp);
        if (this.#waiting.size === 0 && !this.#closed) {
          this.#idleTimer = this.#deps.clock.after(idleSocketMs, () => this.close());
        }
        resolve(response);
      };
      const giveUp = () => settle(undefined);
      const timer = this.#deps.clock.after(exchangeTimeoutMs, giveUp);
      signal.addEventListener("abort", giveUp, { once: true });
      this.#waiting.set(id, { query, upstream, settle });
      this.#socket.send(withId(query.bytes, id), upstream.portHostOrder, upstream.address, (error) => {
        if (error !== null) giveUp();
      });
    });
  }

  #receive(bytes: Uint8Array, source: RemoteInfo): void {
    if (bytes.length < 2) return;
    const waiting = this.#waiting.get(idOf(bytes));
    if (waiting === undefined) return;
    const { query, upstream } = waiting;
    if (source.port !== upstream.portHostOrder || tryParseIp(source.address) !== upstream.address) return;
    if (isAnswerTo(query, bytes)) waiting.settle(withId(bytes, query.id));
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#idleTimer?.[Symbol.dispose]();
    this.#onClose();
    this.#socket.close();
    for (const waiting of [...this.#waiting.values()]) waiting.settle(undefined);
  }
}

/** Asks one upstream over a TCP connection of its own; undefined when there was no answer in time, or `signal` aborted. */
export function askOverTcp(
  deps: ExchangeDeps,
  query: Query,
  upstream: Upstream,
  signal: AbortSignal,
): Promise<Uint8Array | undefined> {
  if (signal.aborted) return Promise.resolve(undefined);
  const id = deps.random.below(0x10000);
  const decoder = new FrameDecoder();
  const fd = deps.kernel.openUnbound(upstream.from, familyOf(upstream.address) === 4 ? "tcp4" : "tcp6");
  const socket = new Socket({ fd });
  return new Promise((resolve) => {
    const settle = (response: Uint8Array | undefined) => {
      timer[Symbol.dispose]();
      signal.removeEventListener("abort", giveUp);
      socket.destroy();
      resolve(response);
    };
    const giveUp = () => settle(undefined);
    let timer = deps.clock.after(connectTimeoutMs, giveUp);
    signal.addEventListener("abort", giveUp, { once: true });
    socket.on("error", giveUp);
    socket.on("close", giveUp);
    socket.on("connect", () => {
      timer[Symbol.dispose]();
      timer = deps.clock.after(exchangeTimeoutMs, giveUp);
      socket.write(frame(withId(query.bytes, id)));
    });
    socket.on("data", (chunk: Buffer) => {
      const answer = decoder
        .push(chunk)
        .find((bytes) => bytes.length >= 2 && idOf(bytes) === id && isAnswerTo(query, bytes));
      if (answer !== undefined) settle(withId(answer, query.id));
    });
    socket.connect(upstream.portHostOrder, upstream.address);
  });
}
