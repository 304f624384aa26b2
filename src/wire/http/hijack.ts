import type { IncomingMessage } from "node:http";
import type { Duplex } from "node:stream";
import { rawProtocol } from "./front.ts";

/** A connection taken over from HTTP. Closed by `end` (after what was written) or `destroy`. */
export interface Hijacked {
  /**
   * What the client sends after its request, up to its half-close. Its end is the end of stdin and never a disconnect:
   * `docker exec` without -i half-closes at once and still waits for the output.
   */
  readonly stream: Duplex;
  /** Resolves once the connection is gone, in whatever way. */
  readonly closed: Promise<void>;
  end(): void;
}

/**
 * Answers an upgrade request and takes its connection over. `head` must hold no bytes of the request's body any more
 * (see `readUpgradeBody`); what it holds is the beginning of stdin.
 */
export function acceptHijack(
  request: IncomingMessage,
  socket: Duplex,
  options: { readonly contentType: string; readonly headers: readonly string[]; readonly stdinStart: Uint8Array },
): Hijacked {
  const closed = new Promise<void>((resolve) => {
    if (socket.destroyed) resolve();
    else socket.once("close", () => resolve());
  });
  // After our end the client may still send, and it may be gone before: neither is anybody's failure.
  socket.on("error", () => socket.destroy());
  if ("setTimeout" in socket && typeof socket.setTimeout === "function") socket.setTimeout(0);
  socket.write(head(request, options.contentType, options.headers));
  if (options.stdinStart.length > 0) socket.unshift(options.stdinStart);
  return {
    stream: socket,
    closed,
    end: () => {
      if (socket.destroyed) return;
      // A half-open peer would keep the socket for ever: drain what it still sends, and close when ours is flushed.
      socket.end(() => {
        socket.resume();
        setTimeout(() => socket.destroy(), 1000).unref();
      });
    },
  };
}

/**
 * The JSON body of an upgrade request. It arrives in `head` and on the socket on Node 20 to 24, on the request stream
 * from Node 26; the rest of `head` is stdin.
 */
export async function readUpgradeBody(
  request: IncomingMessage,
  socket: Duplex,
  head: Buffer,
): Promise<{ readonly body: Buffer; readonly rest: Buffer }> {
  const length = Number(request.headers["content-length"] ?? "0");
  if (request.headers["transfer-encoding"] !== undefined) return readChunked(socket, head);
  if (length === 0) return { body: Buffer.alloc(0), rest: head };
  return collect(socket, head, (bytes) =>
    bytes.length >= length ? { body: bytes.subarray(0, length), rest: bytes.subarray(length) } : undefined,
  );
}

const maximumBodyBytes = 1024 * 1024;

function readChunked(socket: Duplex, head: Buffer): Promise<{ readonly body: Buffer; readonly rest: Buffer }> {
  return collect(socket, head, decodeChunked);
}

/** RFC 9112 s7.1, without trailers; undefined while incomplete. */
export function decodeChunked(bytes: Buffer): { readonly body: Buffer; readonly rest: Buffer } | undefined {
  const parts: Buffer[] = [];
  let at = 0;
  for (;;) {
    const lineEnd = bytes.indexOf("\r\n", at);
    if (lineEnd < 0) return undefined;
    const size = Number.parseInt(bytes.toString("latin1", at, lineEnd), 16);
    if (!Number.isInteger(size) || size < 0) throw new SyntaxError("invalid chunk size in request body");
    const start = lineEnd + 2;
    if (bytes.length < start + size + 2) return undefined;
    if (size === 0) return { body: Buffer.concat(parts), rest: bytes.subarray(start + 2) };
    parts.push(bytes.subarray(start, start + size));
    at = start + size + 2;
  }
}

async function collect<T>(socket: Duplex, head: Buffer, take: (bytes: Buffer) => T | undefined): Promise<T> {
  let bytes = head;
  for (;;) {
    const taken = take(bytes);
    if (taken !== undefined) return taken;
    if (bytes.length > maximumBodyBytes) throw new SyntaxError("request body too large");
    bytes = Buffer.concat([bytes, await nextChunk(socket)]);
  }
}

function nextChunk(socket: Duplex): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const settle = (act: () => void) => {
      socket.off("readable", onReadable);
      socket.off("end", onGone);
      socket.off("close", onGone);
      act();
    };
    const onGone = () => settle(() => reject(new SyntaxError("got EOF while reading request body")));
    const onReadable = () => {
      const chunk = socket.read() as Buffer | null;
      if (chunk !== null) settle(() => resolve(chunk));
    };
    socket.on("readable", onReadable);
    socket.once("end", onGone);
    socket.once("close", onGone);
    onReadable();
  });
}

/** Answers an upgrade request with an ordinary response and closes the connection. */
export function refuseHijack(
  socket: Duplex,
  response: { readonly status: number; readonly reason: string; readonly body: string },
): void {
  socket.on("error", () => socket.destroy());
  const body = Buffer.from(response.body);
  socket.end(
    Buffer.concat([
      Buffer.from(
        `HTTP/1.1 ${response.status} ${response.reason}\r\nContent-Type: application/json\r\n` +
          `Content-Length: ${body.length}\r\nConnection: close\r\n\r\n`,
      ),
      body,
    ]),
    () => socket.destroy(),
  );
}

function head(request: IncomingMessage, contentType: string, headers: readonly string[]): string {
  const extra = headers.map((line) => `${line}\r\n`).join("");
  if (request.headers.upgrade === rawProtocol) {
    return `HTTP/1.1 200 OK\r\nContent-Type: ${contentType}\r\n${extra}\r\n`;
  }
  return `HTTP/1.1 101 UPGRADED\r\nContent-Type: ${contentType}\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n${extra}\r\n`;
}
