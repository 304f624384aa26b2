import { z } from "zod";
import { EngineError, messageOf } from "../../../base/errors.ts";
import { familiarName, familiarString, type Reference } from "../reference.ts";

/** A registry's refusal: status and, where it sent some, its error codes (distribution spec, "Error Codes"). */
export class RegistryError extends Error {
  readonly status: number;
  readonly codes: readonly string[];

  constructor(status: number, codes: readonly string[], message: string) {
    super(message);
    this.name = "RegistryError";
    this.status = status;
    this.codes = codes;
  }
}

/** A request that got no answer. `retryable`: trying again may help. */
export class TransportError extends Error {
  readonly retryable: boolean;

  constructor(message: string, retryable: boolean, options?: { readonly cause?: unknown }) {
    super(message, options);
    this.name = "TransportError";
    this.retryable = retryable;
  }
}

const errorBody = z.object({
  errors: z.array(z.object({ code: z.string().optional(), message: z.string().optional() })).min(1),
});
const detailsBody = z.object({ details: z.string() });

/** Reads a registry's error body; anything else becomes the status line. compat: texts of distribution's client. Pure. */
export function decodeRegistryError(status: number, body: string): RegistryError {
  let json: unknown;
  try {
    json = JSON.parse(body);
  } catch {
    return new RegistryError(status, [], `received unexpected HTTP status: ${statusLine(status)}`);
  }
  const parsed = errorBody.safeParse(json);
  if (parsed.success) {
    const texts = parsed.data.errors.map(({ code, message }) => {
      const word = (code ?? "UNKNOWN").toLowerCase().replaceAll("_", " ");
      return `${word}: ${message ?? word}`;
    });
    const codes = parsed.data.errors.map(({ code }) => code ?? "UNKNOWN");
    const message = texts.length === 1 ? (texts[0] as string) : `errors:\n${texts.join("\n")}\n`;
    return new RegistryError(status, codes, message);
  }
  const details = detailsBody.safeParse(json);
  if (details.success) {
    const word = status === 401 ? "unauthorized" : status === 403 ? "denied" : "unknown";
    return new RegistryError(status, [word.toUpperCase()], `${word}: ${details.data.details}`);
  }
  if (status === 401) return new RegistryError(status, ["UNAUTHORIZED"], "unauthorized: authentication required");
  return new RegistryError(status, [], `received unexpected HTTP status: ${statusLine(status)}`);
}

const reasons: Readonly<Record<number, string>> = {
  400: "Bad Request",
  401: "Unauthorized",
  403: "Forbidden",
  404: "Not Found",
  405: "Method Not Allowed",
  429: "Too Many Requests",
  500: "Internal Server Error",
  502: "Bad Gateway",
  503: "Service Unavailable",
  504: "Gateway Timeout",
};

function statusLine(status: number): string {
  return `${status} ${reasons[status] ?? ""}`.trimEnd();
}

/**
 * The message a failed pull ends with. compat: texts of dockerd's distribution package, which people and scripts search
 * the web for.
 */
export function pullError(error: unknown, reference: Reference): unknown {
  if (error instanceof RegistryError) {
    const name = familiarName(reference);
    if (error.codes.includes("DENIED") || (error.status === 401 && error.codes.includes("UNAUTHORIZED"))) {
      return new EngineError(
        "not-found",
        `pull access denied for ${name}, repository does not exist or may require 'docker login': ${error.message}`,
        { cause: error },
      );
    }
    if (error.codes.includes("MANIFEST_UNKNOWN")) {
      const message = `manifest for ${familiarString(reference)} not found: ${error.message}`;
      return new EngineError("not-found", message, { cause: error });
    }
    if (error.codes.includes("NAME_UNKNOWN")) {
      return new EngineError("not-found", `repository ${name} not found: ${error.message}`, { cause: error });
    }
    if (error.status === 429)
      return new EngineError("unavailable", `toomanyrequests: ${error.message}`, { cause: error });
    return new EngineError(error.status === 404 ? "not-found" : "internal", error.message, { cause: error });
  }
  if (error instanceof TransportError) return new EngineError("internal", messageOf(error), { cause: error });
  return error;
}
