import type { Server as HttpServer } from "node:http";
import { createServer, type Server, type Socket } from "node:net";
import { createServer as createTlsServer, type TlsOptions } from "node:tls";

/** Longest header block that is looked at before the connection goes to the HTTP parser as it is. */
const maximumPeekBytes = 16 * 1024;

/** The `Upgrade` value by which `hijack.ts` recognises a client that sent none. */
export const rawProtocol = "x-weft-raw";

/**
 * A listening socket in front of an HTTP server. Old clients (and curl) take over a connection without any `Upgrade`
 * header: they send the request head and then raw stdin, which Node's parser would read as a second request. So the head
 * of the first request is looked at here, and for hijack routes an `Upgrade` header is put in.
 * A later request on a kept-alive connection is not covered; no known client takes over such a connection without Upgrade.
 */
export function openFront(
  http: HttpServer,
  options: {
    readonly isHijackRoute: (method: string, target: string) => boolean;
    readonly peekTimeoutMs: number;
    readonly tls?: TlsOptions;
  },
): Server {
  const serve = (socket: Socket) => {
    socket.on("error", () => socket.destroy());
    peek(socket, options.peekTimeoutMs, (head) => {
      http.emit("connection", socket);
      const bytes = withUpgrade(head, options.isHijackRoute);
      if (bytes.length > 0) socket.unshift(bytes);
    });
  };
  // Half-open: the end of the client's side is the end of its stdin, and the answer still has to reach it.
  if (options.tls === undefined) return createServer({ allowHalfOpen: true, noDelay: true }, serve);
  const server = createTlsServer(
    { ...options.tls, allowHalfOpen: true, noDelay: true, handshakeTimeout: options.peekTimeoutMs },
    serve,
  );
  server.on("tlsClientError", (_error, socket) => socket.destroy());
  return server;
}

/** Reads until the end of the first header block or the limit, then hands over with nothing read. */
function peek(socket: Socket, timeoutMs: number, handOver: (head: Buffer) => void): void {
  let seen: Buffer = Buffer.alloc(0);
  const timer = setTimeout(() => socket.destroy(), timeoutMs);
  const onClose = () => clearTimeout(timer);
  // A client that ends before its header block does has nothing to ask.
  const onEnd = () => socket.destroy();
  const onReadable = () => {
    const chunk = socket.read() as Buffer | null;
    if (chunk === null) return;
    seen = Buffer.concat([seen, chunk]);
    if (seen.length < maximumPeekBytes && !seen.includes("\r\n\r\n")) return;
    clearTimeout(timer);
    socket.off("readable", onReadable);
    socket.off("close", onClose);
    socket.off("end", onEnd);
    handOver(seen);
  };
  socket.on("readable", onReadable);
  socket.on("close", onClose);
  socket.on("end", onEnd);
}

function withUpgrade(head: Buffer, isHijackRoute: (method: string, target: string) => boolean): Buffer {
  const end = head.indexOf("\r\n\r\n");
  const firstLine = head.indexOf("\r\n");
  if (end < 0 || firstLine < 0) return head;
  const [method, target] = head.toString("latin1", 0, firstLine).split(" ");
  if (method === undefined || target === undefined || !isHijackRoute(method, target)) return head;
  if (/\r\nupgrade:/i.test(head.toString("latin1", 0, end))) return head;
  return Buffer.concat([
    head.subarray(0, firstLine),
    Buffer.from(`\r\nUpgrade: ${rawProtocol}\r\nConnection: Upgrade`),
    head.subarray(firstLine),
  ]);
}
