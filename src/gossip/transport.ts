import { createSocket, type Socket as UdpSocket } from "node:dgram";
import { once } from "node:events";
import { connect, createServer, type Server, type Socket } from "node:net";
import type { Clock } from "../base/clock.ts";
import { DecodeError, EngineError, messageOf, runAll } from "../base/errors.ts";
import { familyOf, formatHostPort, type IpAddress, parseIp } from "../base/ip.ts";
import type { Log } from "../base/log.ts";
import type { StreamMessage } from "./swim/codec.ts";
import { type Endpoint, formatEndpoint } from "./swim/model.ts";
import type { StreamDecoder } from "./swim/stream.ts";

/** Limits of reference: network-data-plane 5.1. */
const conversationTimeoutMs = 10_000;
const maxConversations = 128;
const receiveBufferBytes = 2 << 20;

/** What the transport asks of its owner. */
export interface TransportHandlers {
  packet(bytes: Uint8Array, from: Endpoint): void;
  /** A decoder with the keys of this moment. */
  decoder(): StreamDecoder;
  encode(message: StreamMessage): Uint8Array;
  /** The request of a conversation that another opened; what comes back is sent as the reply. */
  request(message: StreamMessage): StreamMessage | undefined;
}

export interface Transport extends AsyncDisposable {
  /** Best effort; a failure is only logged. */
  send(to: Endpoint, datagram: Uint8Array): void;
  /** Sends one message. Resolves with the answer where one is awaited; rejects when that fails or takes `timeoutMs`. */
  converse(
    to: Endpoint,
    message: StreamMessage,
    options: { readonly awaitAnswer: boolean; readonly timeoutMs?: number },
  ): Promise<StreamMessage | undefined>;
}

export interface TransportOptions {
  readonly bindAddress: IpAddress;
  readonly portHostOrder: number;
}

/** UDP and TCP on one port of this process's network namespace. @throws {EngineError} `unavailable` when it is taken. */
export async function openTransport(
  deps: { readonly clock: Clock; readonly log: Log; readonly handlers: TransportHandlers },
  options: TransportOptions,
  signal: AbortSignal,
): Promise<Transport> {
  signal.throwIfAborted();
  const udp = createSocket({
    type: familyOf(options.bindAddress) === 4 ? "udp4" : "udp6",
    recvBufferSize: receiveBufferBytes,
  });
  const tcp = createServer({ allowHalfOpen: true });
  const where = { port: options.portHostOrder, address: options.bindAddress };
  try {
    udp.bind(where);
    await once(udp, "listening", { signal });
    tcp.listen({ port: where.port, host: where.address });
    await once(tcp, "listening", { signal });
  } catch (error) {
    udp.close();
    tcp.close();
    signal.throwIfAborted();
    const place = formatHostPort(options.bindAddress, options.portHostOrder);
    throw new EngineError("unavailable", `Cannot listen for gossip on ${place}: ${messageOf(error)}`, { cause: error });
  }
  return new SocketTransport(deps, udp, tcp);
}

class SocketTransport implements Transport {
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #handlers: TransportHandlers;
  readonly #udp: UdpSocket;
  readonly #tcp: Server;
  readonly #isDualStack: boolean;
  readonly #sockets = new Set<Socket>();
  #inbound = 0;
  #isClosed = false;

  constructor(
    deps: { readonly clock: Clock; readonly log: Log; readonly handlers: TransportHandlers },
    udp: UdpSocket,
    tcp: Server,
  ) {
    this.#clock = deps.clock;
    this.#log = deps.log;
    this.#handlers = deps.handlers;
    this.#udp = udp;
    this.#tcp = tcp;
    this.#isDualStack = udp.address().family === "IPv6";
    udp.on("message", (bytes, from) => {
      if (this.#isClosed) return;
      const [address] = from.address.split("%") as [string];
      this.#handlers.packet(bytes, { address: parseIp(address), portHostOrder: from.port });
    });
    udp.on("error", (error) => this.#log.warn("the gossip socket reports an error", { error }));
    tcp.on("connection", (socket) => this.#serve(socket));
    tcp.on("error", (error) => this.#log.warn("the gossip server reports an error", { error }));
  }

  send(to: Endpoint, datagram: Uint8Array): void {
    if (this.#isClosed) return;
    const address = this.#isDualStack && familyOf(to.address) === 4 ? `::ffff:${to.address}` : to.address;
    this.#udp.send(datagram, to.portHostOrder, address, (error) => {
      if (error) this.#log.debug("a gossip packet could not be sent", { to: formatEndpoint(to), error: error.message });
    });
  }

  converse(
    to: Endpoint,
    message: StreamMessage,
    options: { readonly awaitAnswer: boolean; readonly timeoutMs?: number },
  ): Promise<StreamMessage | undefined> {
    if (this.#isClosed) return Promise.reject(new EngineError("unavailable", "the gossip transport is closed"));
    const { promise, resolve, reject } = Promise.withResolvers<StreamMessage | undefined>();
    const socket = connect({ host: to.address, port: to.portHostOrder });
    this.#own(socket, options.timeoutMs ?? conversationTimeoutMs);
    socket.on("error", reject);
    socket.on("close", () => reject(new EngineError("unavailable", `${formatEndpoint(to)} closed the conversation`)));
    const request = this.#handlers.encode(message);
    if (!options.awaitAnswer) {
      socket.end(request, () => resolve(undefined));
      socket.resume();
      return promise;
    }
    socket.write(request);
    const decoder = this.#handlers.decoder();
    socket.on("data", (chunk) => {
      try {
        const answer = decoder.push(chunk);
        if (answer === undefined) return;
        resolve(answer);
        socket.destroy();
      } catch (error) {
        socket.destroy(error as Error);
      }
    });
    return promise;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    for (const socket of this.#sockets) socket.destroy();
    await runAll("Cannot close the gossip sockets", [
      () => new Promise<void>((done) => this.#udp.close(() => done())),
      () => new Promise<void>((done) => this.#tcp.close(() => done())),
    ]);
  }

  /** One request, at most one reply, a limited time; a client that stays silent or half open is cut off. */
  #serve(socket: Socket): void {
    if (this.#isClosed || this.#inbound >= maxConversations) {
      socket.destroy();
      return;
    }
    this.#inbound += 1;
    this.#own(socket, conversationTimeoutMs);
    socket.on("close", () => {
      this.#inbound -= 1;
    });
    const from = `${socket.remoteAddress}:${socket.remotePort}`;
    socket.on("error", (error) => this.#log.debug("a gossip conversation broke off", { from, error: error.message }));
    const decoder = this.#handlers.decoder();
    let isDone = false;
    socket.on("end", () => {
      if (!isDone) socket.destroy();
    });
    socket.on("data", (chunk) => {
      if (isDone) return;
      try {
        const request = decoder.push(chunk);
        if (request === undefined) return;
        isDone = true;
        const reply = this.#handlers.request(request);
        if (reply === undefined) socket.end();
        else socket.end(this.#handlers.encode(reply));
      } catch (error) {
        if (!(error instanceof DecodeError)) throw error;
        isDone = true;
        this.#log.warn("a gossip conversation could not be read", { from, error: error.message });
        socket.end(this.#handlers.encode({ kind: "error", message: error.message }));
      }
    });
  }

  #own(socket: Socket, timeoutMs: number): void {
    this.#sockets.add(socket);
    const limit = this.#clock.after(timeoutMs, () => {
      socket.destroy(new EngineError("unavailable", `no answer within ${timeoutMs} ms`));
    });
    socket.on("close", () => {
      limit[Symbol.dispose]();
      this.#sockets.delete(socket);
    });
  }
}
