import { mkdtemp, rm } from "node:fs/promises";
import { connect, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { silentLog } from "../base/log.ts";
import { type FakeRooms, fakeRooms } from "./fake.ts";
import type { ApiSettings } from "./rooms.ts";
import { openApi } from "./server.ts";

/** A server over fake rooms on a socket of its own; for tests. */
export interface ApiFixture extends AsyncDisposable {
  readonly rooms: FakeRooms;
  readonly socketPath: string;
  /** Sends bytes as they are; the socket stays open for more. */
  open(bytes: string | Uint8Array): Client;
  /** A request whose answer ends the connection; status, headers and body as they came. */
  request(method: string, path: string, body?: unknown, headers?: Readonly<Record<string, string>>): Promise<Answer>;
}

export interface Answer {
  readonly status: number;
  readonly head: string;
  readonly text: string;
  json<T = Record<string, unknown>>(): T;
}

/** One connection as a client sees it. */
export class Client {
  readonly socket: Socket;
  received = "";
  ended = false;

  constructor(socket: Socket) {
    this.socket = socket;
    socket.on("data", (chunk: Buffer) => {
      this.received += chunk.toString("latin1");
    });
    socket.on("end", () => {
      this.ended = true;
    });
    socket.on("error", () => {
      this.ended = true;
    });
    socket.on("close", () => {
      this.ended = true;
    });
  }

  /** Waits until what has come in matches. */
  async until(pattern: RegExp | "end", timeoutMs = 3000): Promise<string> {
    const deadline = Date.now() + timeoutMs;
    while (pattern === "end" ? !this.ended : !pattern.test(this.received)) {
      if (Date.now() > deadline) throw new Error(`waited for ${pattern}, got ${JSON.stringify(this.received)}`);
      await new Promise((done) => setTimeout(done, 2));
    }
    return this.received;
  }
}

export async function openFixture(
  options: { readonly settings?: Partial<ApiSettings>; readonly headTimeoutMs?: number } = {},
): Promise<ApiFixture> {
  const directory = await mkdtemp(join(tmpdir(), "weft-api-"));
  const socketPath = join(directory, "sock");
  const rooms = fakeRooms(options.settings);
  const api = await openApi(
    {
      rooms,
      listeners: [{ kind: "unix", path: socketPath, group: "" }],
      log: silentLog,
      ...(options.headTimeoutMs === undefined ? {} : { headTimeoutMs: options.headTimeoutMs }),
    },
    new AbortController().signal,
  );
  const open = (bytes: string | Uint8Array) => {
    const client = new Client(connect({ path: socketPath, allowHalfOpen: true }));
    client.socket.write(bytes);
    return client;
  };
  return {
    rooms,
    socketPath,
    open,
    async request(method, path, body, headers = {}) {
      const text = body === undefined ? "" : typeof body === "string" ? body : JSON.stringify(body);
      const lines = Object.entries({
        Host: "docker",
        Connection: "close",
        ...(body === undefined
          ? {}
          : { "Content-Type": "application/json", "Content-Length": Buffer.byteLength(text) }),
        ...headers,
      }).map(([name, value]) => `${name}: ${value}\r\n`);
      const client = open(`${method} ${path} HTTP/1.1\r\n${lines.join("")}\r\n${text}`);
      await client.until("end");
      client.socket.destroy();
      return parseAnswer(client.received);
    },
    async [Symbol.asyncDispose]() {
      await api[Symbol.asyncDispose]();
      await rm(directory, { recursive: true, force: true });
    },
  };
}

function parseAnswer(received: string): Answer {
  const at = received.indexOf("\r\n\r\n");
  const head = received.slice(0, at);
  const text = received.slice(at + 4);
  return {
    status: Number(/^HTTP\/1\.1 (\d+)/.exec(head)?.[1]),
    head,
    text,
    json: <T>() => JSON.parse(text) as T,
  };
}
