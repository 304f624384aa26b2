import type { IncomingHttpHeaders } from "node:http";
import type { Readable, Writable } from "node:stream";
import type { Hijacked } from "../wire/http/mod.ts";
import type { Query } from "./query.ts";
import type { Rooms } from "./rooms.ts";
import type { ApiVersion } from "./version.ts";

/** One request, as a route sees it. */
export interface Call {
  readonly version: ApiVersion;
  /** Placeholders of the route's path, decoded. */
  readonly params: Readonly<Record<string, string>>;
  readonly query: Query;
  readonly headers: IncomingHttpHeaders;
  /** The body as JSON; undefined when there is none. @throws {EngineError} in Docker's words. */
  json(): Promise<unknown>;
  /** The body as it comes: archives. Not there for hijack routes. */
  readonly body: Readable;
  /** Aborts when the client has gone or closed its side. For reading requests: a change goes on to its end without it. */
  readonly gone: AbortSignal;
  /** Aborts when the daemon stops. */
  readonly signal: AbortSignal;
}

export type Reply =
  | { readonly kind: "json"; readonly status: number; readonly value: unknown }
  | { readonly kind: "empty"; readonly status: number }
  | {
      readonly kind: "text";
      readonly status: number;
      readonly text: string;
      readonly headers: Readonly<Record<string, string>>;
    }
  /** Headers go out at once, then whatever `run` writes. A failure after that can only end the stream. */
  | {
      readonly kind: "stream";
      readonly contentType: string;
      readonly run: (out: Writable) => Promise<void>;
    };

export type Handler = (call: Call, rooms: Rooms) => Promise<Reply> | Reply;

/**
 * Takes the connection over, or returns an ordinary reply instead. Before `accept` is called a failure is still an
 * ordinary error answer.
 */
export type HijackHandler = (
  call: Call,
  rooms: Rooms,
  accept: (tty: boolean) => Hijacked,
) => Promise<Reply | undefined>;

export type Route = {
  readonly method: "GET" | "HEAD" | "POST" | "PUT" | "DELETE";
  /** `/containers/{id}/json`; `{name...}` also takes slashes. */
  readonly path: string;
} & (
  | { readonly handle: Handler; readonly hijack?: undefined }
  | { readonly hijack: HijackHandler; readonly handle?: undefined }
);

export function json(value: unknown, status = 200): Reply {
  return { kind: "json", status, value };
}

export function empty(status = 204): Reply {
  return { kind: "empty", status };
}
