import {
  createServer,
  type Server as HttpServer,
  type IncomingMessage,
  type ServerResponse,
  STATUS_CODES,
} from "node:http";
import type { Server as NetServer } from "node:net";
import { Duplex } from "node:stream";
import type { TlsOptions } from "node:tls";
import { messageOf } from "../base/errors.ts";
import type { Log } from "../base/log.ts";
import { acceptHijack, type Hijacked, openFront, readUpgradeBody, refuseHijack } from "../wire/http/mod.ts";
import { maximumJsonBytes, parseJson, readBody } from "./body.ts";
import type { Call, Reply, Route } from "./call.ts";
import { answerFor } from "./errors.ts";
import { type Listener, listen } from "./listener.ts";
import { Query } from "./query.ts";
import type { Rooms } from "./rooms.ts";
import { Router } from "./router.ts";
import { allRoutes } from "./routes/all.ts";
import { currentVersion, formatVersion, splitVersion } from "./version.ts";

/** A client gets this long to send its request head; idle connections between requests may stay. */
const headTimeoutMs = 30_000;

export interface ApiOptions {
  readonly rooms: Rooms;
  readonly listeners: readonly Listener[];
  readonly log: Log;
  /** For tests. */
  readonly routes?: readonly Route[];
  readonly headTimeoutMs?: number;
}

export interface Api extends AsyncDisposable {
  /** Where it listens: `unix:///run/x.sock`, `tcp://127.0.0.1:2375` with the port in use. */
  readonly addresses: readonly string[];
}

/**
 * Serves the Docker Engine API. Closed: no new connections, running requests see `signal` abort, and after a moment
 * what is still open is cut.
 */
export async function openApi(options: ApiOptions, signal: AbortSignal): Promise<Api> {
  const stop = new AbortController();
  const server = new ApiServer(options, AbortSignal.any([stop.signal, signal]));
  const opened: { readonly address: string; readonly close: () => Promise<void> }[] = [];
  const close = async () => {
    stop.abort(new Error("the daemon is stopping"));
    await Promise.all(opened.map((one) => one.close()));
    await server.drain();
  };
  try {
    for (const listener of options.listeners) opened.push(await listen(listener, (tls) => server.front(tls)));
  } catch (error) {
    await close();
    throw error;
  }
  return { addresses: opened.map((one) => one.address), [Symbol.asyncDispose]: close };
}

class ApiServer {
  readonly #rooms: Rooms;
  readonly #log: Log;
  readonly #router: Router;
  readonly #signal: AbortSignal;
  readonly #http: HttpServer;
  readonly #headTimeoutMs: number;
  readonly #sockets = new Set<Duplex>();

  constructor(options: ApiOptions, signal: AbortSignal) {
    this.#rooms = options.rooms;
    this.#log = options.log;
    this.#router = new Router(options.routes ?? allRoutes);
    this.#signal = signal;
    this.#headTimeoutMs = options.headTimeoutMs ?? headTimeoutMs;
    this.#http = createServer({
      headersTimeout: this.#headTimeoutMs,
      connectionsCheckingInterval: Math.min(this.#headTimeoutMs, 5_000),
      // A `docker load` may take an hour, and clients that pool connections don't expect them to be closed.
      requestTimeout: 0,
      keepAliveTimeout: 0,
      maxHeaderSize: 64 * 1024,
      // An `Upgrade` on another route (curl --http2 asks for h2c everywhere) is ignored, as HTTP wants it.
      shouldUpgradeCallback: (request) => this.#isHijackRoute(request.method ?? "", request.url ?? ""),
    });
    // Node's name for "the client's half-close is not the end of the exchange"; without it the answer would be lost.
    Object.assign(this.#http, { httpAllowHalfOpen: true });
    this.#http.on("request", (request, response) => {
      // `#serve` answers every failure itself.
      void this.#serve(request, response);
    });
    this.#http.on("upgrade", (request: IncomingMessage, socket: Duplex, head: Buffer) => {
      void this.#upgrade(request, socket, head);
    });
    this.#http.on("clientError", (error: NodeJS.ErrnoException, socket: Duplex) => answerBrokenRequest(error, socket));
  }

  /** A listening socket that feeds this server. */
  front(tls: TlsOptions | undefined): NetServer {
    const front = openFront(this.#http, {
      isHijackRoute: (method, target) => this.#isHijackRoute(method, target),
      peekTimeoutMs: this.#headTimeoutMs,
      ...(tls === undefined ? {} : { tls }),
    });
    front.on("connection", (socket) => {
      this.#sockets.add(socket);
      socket.once("close", () => this.#sockets.delete(socket));
    });
    return front;
  }

  /** Gives running requests a moment to see the abort, then cuts what is left. */
  async drain(): Promise<void> {
    this.#http.closeIdleConnections();
    for (let i = 0; i < 20 && this.#sockets.size > 0; i++) await new Promise((done) => setTimeout(done, 10));
    for (const socket of this.#sockets) socket.destroy();
    // It never listened itself, so this only stops its connection checks.
    await new Promise<void>((done) => this.#http.close(() => done()));
  }

  #isHijackRoute(method: string, target: string): boolean {
    try {
      const { rest } = splitVersion(pathOf(target));
      return this.#router.find(method, rest)?.route.hijack !== undefined;
    } catch {
      return false;
    }
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const gone = new AbortController();
    const onGone = () => gone.abort(new Error("the client has gone"));
    // Kept: Node takes `request.socket` away when the connection dies.
    const { socket } = request;
    socket.once("end", onGone);
    response.once("close", onGone);
    response.on("error", onGone);
    try {
      for (const [name, value] of this.#commonHeaders()) response.setHeader(name, value);
      const found = this.#find(request);
      if (found === undefined) {
        sendJson(response, 404, { message: "page not found" });
        return;
      }
      const call: Call = {
        ...found.call,
        json: async () => parseJson(await readBody(request, maximumJsonBytes), request.headers["content-type"]),
        body: request,
        gone: AbortSignal.any([gone.signal, this.#signal]),
        signal: this.#signal,
      };
      const reply =
        found.route.handle === undefined
          ? await found.route.hijack(call, this.#rooms, (tty) =>
              acceptOverHttp(request, response, contentType(call, tty)),
            )
          : await found.route.handle(call, this.#rooms);
      if (reply !== undefined) await send(response, reply);
    } catch (error) {
      this.#fail(request, response, error);
    } finally {
      socket.off("end", onGone);
      // An unread body would keep a kept-alive connection from its next request.
      request.resume();
    }
  }

  async #upgrade(request: IncomingMessage, socket: Duplex, head: Buffer): Promise<void> {
    // `accept` owns the socket's errors from then on; until then a client that goes away is simply gone.
    const onError = () => socket.destroy();
    socket.on("error", onError);
    const gone = new AbortController();
    socket.once("close", () => gone.abort(new Error("the client has gone")));
    let accepted = false;
    try {
      const found = this.#find(request);
      if (found?.route.hijack === undefined) throw new TypeError("not a hijack route");
      const { body, rest } = await readUpgradeBody(request, socket, head);
      const call: Call = {
        ...found.call,
        json: async () => parseJson(body, request.headers["content-type"] ?? "application/json"),
        body: request,
        gone: AbortSignal.any([gone.signal, this.#signal]),
        signal: this.#signal,
      };
      const reply = await found.route.hijack(call, this.#rooms, (tty) => {
        accepted = true;
        return acceptHijack(request, socket, {
          contentType: contentType(call, tty),
          headers: this.#commonHeaders().map(([name, value]) => `${name}: ${value}`),
          stdinStart: rest,
        });
      });
      if (reply !== undefined) {
        refuseHijack(socket, {
          status: 200,
          reason: "OK",
          body: reply.kind === "json" ? JSON.stringify(reply.value) : "",
        });
      }
    } catch (error) {
      if (accepted) {
        this.#log.debug("a taken-over connection ended early", { url: request.url, error: messageOf(error) });
        socket.destroy();
        return;
      }
      const answer =
        error instanceof SyntaxError
          ? { status: 400, message: `invalid JSON: ${error.message}`, isFault: false }
          : answerFor(error);
      if (answer.isFault) this.#log.error("a request failed", { method: request.method, url: request.url, error });
      refuseHijack(socket, {
        status: answer.status,
        reason: STATUS_CODES[answer.status] ?? "Error",
        body: JSON.stringify({ message: answer.message }),
      });
    }
  }

  #find(request: IncomingMessage) {
    const target = request.url ?? "/";
    const { version, rest } = splitVersion(pathOf(target));
    const found = this.#router.find(request.method ?? "GET", rest);
    if (found === undefined) return undefined;
    const at = target.indexOf("?");
    const query = new Query(new URLSearchParams(at < 0 ? "" : target.slice(at + 1)));
    return { route: found.route, call: { version, params: found.params, query, headers: request.headers } };
  }

  #commonHeaders(): readonly (readonly [string, string])[] {
    return [
      ["Api-Version", formatVersion(currentVersion)],
      ["Docker-Experimental", String(this.#rooms.settings().experimental)],
      ["Ostype", "linux"],
      ["Server", `Weft/${this.#rooms.host.weftVersion} (linux)`],
    ];
  }

  #fail(request: IncomingMessage, response: ServerResponse, error: unknown): void {
    const answer = answerFor(error);
    if (response.headersSent) {
      // Too late for a status; ending the chunked body early is all that tells the client.
      if (!response.writableEnded) response.destroy();
      return;
    }
    if (answer.isFault) this.#log.error("a request failed", { method: request.method, url: request.url, error });
    if (!request.complete) response.setHeader("Connection", "close");
    if (answer.status === 304) {
      response.writeHead(304).end();
      return;
    }
    sendJson(response, answer.status, { message: answer.message });
  }
}

/**
 * For a hijack request without `Upgrade` on a kept-alive connection, which the front has not seen: output goes out as the
 * response's body, and stdin is the request's body.
 */
function acceptOverHttp(request: IncomingMessage, response: ServerResponse, type: string): Hijacked {
  response.writeHead(200, { "Content-Type": type, Connection: "close" });
  response.flushHeaders();
  const stream = Duplex.from({ readable: request, writable: response });
  stream.on("error", () => response.destroy());
  return {
    stream,
    closed: new Promise((resolve) => response.once("close", () => resolve())),
    end: () => {
      if (!response.writableEnded) response.end();
    },
  };
}

function contentType(call: Call, tty: boolean): string {
  const isRaw = tty || call.version < 42;
  return isRaw ? "application/vnd.docker.raw-stream" : "application/vnd.docker.multiplexed-stream";
}

async function send(response: ServerResponse, reply: Reply): Promise<void> {
  switch (reply.kind) {
    case "json":
      sendJson(response, reply.status, reply.value);
      return;
    case "empty":
      response.writeHead(reply.status).end();
      return;
    case "text":
      response
        .writeHead(reply.status, {
          ...reply.headers,
          "Content-Type": "text/plain; charset=utf-8",
          "Content-Length": Buffer.byteLength(reply.text),
        })
        .end(reply.text);
      return;
    case "stream":
      response.writeHead(200, { "Content-Type": reply.contentType });
      response.flushHeaders();
      await reply.run(response);
      response.end();
      return;
  }
}

function sendJson(response: ServerResponse, status: number, value: unknown): void {
  // Go's encoder ends with a newline, and shells like it.
  const body = Buffer.from(`${JSON.stringify(value)}\n`);
  response.writeHead(status, { "Content-Type": "application/json", "Content-Length": body.length }).end(body);
}

function answerBrokenRequest(error: NodeJS.ErrnoException, socket: Duplex): void {
  socket.on("error", () => socket.destroy());
  if (error.code === "ECONNRESET" || !socket.writable) {
    socket.destroy();
    return;
  }
  const status = error.code === "HPE_HEADER_OVERFLOW" ? 431 : error.code === "ERR_HTTP_REQUEST_TIMEOUT" ? 408 : 400;
  refuseHijack(socket, {
    status,
    reason: STATUS_CODES[status] ?? "Bad Request",
    body: JSON.stringify({ message: `malformed HTTP request: ${error.message}` }),
  });
}

function pathOf(target: string): string {
  const at = target.indexOf("?");
  return at < 0 ? target : target.slice(0, at);
}
