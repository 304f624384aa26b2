import type { IncomingMessage } from "node:http";
import { DecodeError, EngineError } from "../base/errors.ts";
import { invalid } from "./errors.ts";

/** Bodies of JSON requests; archives are streamed and have no limit here. */
export const maximumJsonBytes = 4 * 1024 * 1024;

/** Reads a whole request body. @throws {EngineError} `invalid` when it is too large or breaks off. */
export async function readBody(request: IncomingMessage, limitBytes: number): Promise<Buffer> {
  const parts: Buffer[] = [];
  let size = 0;
  try {
    for await (const chunk of request) {
      size += (chunk as Buffer).length;
      if (size > limitBytes) throw invalid(`request body too large: more than ${limitBytes} bytes`);
      parts.push(chunk as Buffer);
    }
  } catch (error) {
    if (error instanceof EngineError) throw error;
    throw new EngineError("invalid", "invalid JSON: unexpected EOF", { cause: error });
  }
  return Buffer.concat(parts);
}

/**
 * A JSON body in Docker's words where it is none. Like Docker, a body needs the content type `application/json`,
 * and an empty one is none.
 */
export function parseJson(bytes: Uint8Array, contentType: string | undefined): unknown {
  if (bytes.length === 0) return undefined;
  const type = contentType?.split(";")[0]?.trim().toLowerCase();
  if (type !== "application/json") {
    throw invalid(`unsupported Content-Type header (${contentType ?? ""}): must be 'application/json'`);
  }
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch (cause) {
    throw new EngineError("invalid", "invalid JSON: invalid UTF-8", {
      cause: new DecodeError("body", 0, String(cause)),
    });
  }
  if (text.trim() === "") return undefined;
  try {
    return JSON.parse(text);
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    if (/after JSON/.test(reason)) throw new EngineError("invalid", "unexpected content after JSON", { cause });
    if (/end of JSON|Unterminated/.test(reason))
      throw new EngineError("invalid", "invalid JSON: unexpected EOF", { cause });
    throw new EngineError("invalid", `invalid JSON: ${describe(reason, text)}`, { cause });
  }
}

/** V8 quotes the whole text around a fault; the position and the character say enough. */
function describe(reason: string, text: string): string {
  const position = /at position (\d+)/.exec(reason)?.[1];
  if (position === undefined) return `invalid character in ${JSON.stringify(text.slice(0, 20))}`;
  return `invalid character '${text[Number(position)] ?? ""}' at position ${position}`;
}
