import { spawn } from "node:child_process";
import { posix } from "node:path";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { createGunzip, createZstdDecompress } from "node:zlib";
import { type Extract, extract, type Header } from "tar-stream";
import { EngineError, messageOf } from "../../base/errors.ts";

export type Compression = "none" | "gzip" | "zstd" | "xz" | "bzip2";

const magics: readonly (readonly [Compression, readonly number[]])[] = [
  ["gzip", [0x1f, 0x8b, 0x08]],
  ["zstd", [0x28, 0xb5, 0x2f, 0xfd]],
  ["xz", [0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00]],
  ["bzip2", [0x42, 0x5a, 0x68]],
];
const longestMagicBytes = 6;
const maxEntries = 1_000_000;

/** By the first bytes, whatever the name says. Pure. */
export function detectCompression(head: Uint8Array): Compression {
  return magics.find(([, magic]) => magic.every((byte, i) => head[i] === byte))?.[0] ?? "none";
}

/** Reads until the first bytes are known; `body` still yields them. */
export async function peek(
  source: AsyncIterable<Uint8Array>,
): Promise<{ head: Uint8Array; body: AsyncIterable<Uint8Array> }> {
  const iterator = source[Symbol.asyncIterator]();
  let head: Uint8Array = new Uint8Array(0);
  let done = false;
  while (head.length < longestMagicBytes && !done) {
    const next = await iterator.next();
    if (next.done === true) done = true;
    else head = head.length === 0 ? next.value : Buffer.concat([head, next.value]);
  }
  async function* body(): AsyncGenerator<Uint8Array> {
    try {
      if (head.length > 0) yield head;
      while (!done) {
        const next = await iterator.next();
        if (next.done === true) return;
        yield next.value;
      }
    } finally {
      await iterator.return?.();
    }
  }
  return { head, body: body() };
}

/**
 * The bytes without their compression; gzip and zstd here, xz and bzip2 by the programs of that name.
 *
 * The iteration throws {EngineError} `invalid` where the data is damaged.
 */
export async function* decompress(source: AsyncIterable<Uint8Array>, signal: AbortSignal): AsyncGenerator<Uint8Array> {
  const { head, body } = await peek(source);
  const kind = detectCompression(head);
  switch (kind) {
    case "none":
      yield* body;
      return;
    case "gzip":
    case "zstd": {
      const inflate = kind === "gzip" ? createGunzip() : createZstdDecompress();
      yield* through(Readable.from(body), inflate, inflate, signal);
      return;
    }
    case "xz":
    case "bzip2": {
      const child = spawn(kind, ["-dcq"], { stdio: ["pipe", "pipe", "ignore"] });
      const ended = new Promise<number | null>((resolve, reject) => {
        child.once("error", () =>
          reject(new EngineError("unsupported", `cannot decompress: ${kind} is not installed`)),
        );
        child.once("close", resolve);
      });
      ended.catch(() => {});
      try {
        yield* through(Readable.from(body), child.stdin, child.stdout, signal);
        if ((await ended) !== 0) throw new EngineError("invalid", `cannot decompress the archive: ${kind} failed`);
      } finally {
        child.kill("SIGKILL");
      }
    }
  }
}

async function* through(
  source: Readable,
  input: NodeJS.WritableStream,
  output: AsyncIterable<Uint8Array> & { destroy(error?: Error): unknown },
  signal: AbortSignal,
): AsyncGenerator<Uint8Array> {
  const fed = pipeline(source, input, { signal }).catch((error: unknown) => {
    output.destroy(error instanceof Error ? error : new Error(String(error)));
    throw error;
  });
  fed.catch(() => {});
  try {
    yield* output;
    await fed;
  } catch (error) {
    throw archiveError(error, signal);
  } finally {
    source.destroy();
  }
}

export interface ArchiveEntry {
  /** Relative and clean: no `.`, `..` or slash at either end. */
  readonly path: string;
  readonly type: "file" | "link";
  readonly sizeBytes: number;
  /** For links: the entry meant, as a path of the archive. */
  readonly target: string;
  readonly body: AsyncIterable<Uint8Array>;
}

/**
 * Walks a tar archive, compressed or not, files and links only. Nothing is written to disk, and a path or link that would
 * leave the archive is refused.
 *
 * The iteration throws {EngineError} `invalid` for what is no tar, is cut off or is damaged.
 */
export async function* readArchive(
  source: AsyncIterable<Uint8Array>,
  signal: AbortSignal,
): AsyncGenerator<ArchiveEntry> {
  const tar = extract();
  const fed = feed(decompress(source, signal), tar);
  let entries = 0;
  try {
    for await (const entry of tar) {
      entries += 1;
      if (entries > maxEntries) throw new EngineError("invalid", `archive has more than ${maxEntries} entries`);
      const { header } = entry;
      const path = cleanPath(header.name);
      const body = bytesOf(entry, signal);
      const isLink = header.type === "symlink" || header.type === "link";
      if (header.type === "file" || header.type === "contiguous-file") {
        yield { path, type: "file", sizeBytes: header.size, target: "", body };
      } else if (isLink) {
        yield { path, type: "link", sizeBytes: 0, target: linkTarget(path, header), body };
      }
      // What the reader has left of it.
      for await (const _ of body);
    }
  } catch (error) {
    throw archiveError(error, signal);
  } finally {
    tar.destroy(new Error("closed"));
    await fed;
  }
}

/** An entry's own failures come to whoever reads it, in the same words. */
async function* bytesOf(entry: unknown, signal: AbortSignal): AsyncGenerator<Uint8Array> {
  try {
    // Its type says no more than that it is a stream; `extract` yields buffers.
    yield* entry as AsyncIterable<Uint8Array>;
  } catch (error) {
    throw archiveError(error, signal);
  }
}

/**
 * Passes a tar on as it is, and throws at the end of what is none or is cut off: containerd takes such for an empty one.
 */
export async function* checkTar(source: AsyncIterable<Uint8Array>, signal: AbortSignal): AsyncGenerator<Uint8Array> {
  const tar = extract();
  const read = (async () => {
    for await (const entry of tar) for await (const _ of bytesOf(entry, signal));
  })();
  read.catch(() => {});
  try {
    for await (const chunk of source) {
      if (!tar.write(chunk)) await drained(tar);
      if (tar.destroying) break;
      yield chunk;
    }
    if (!tar.destroying) tar.end(undefined);
    await read;
  } catch (error) {
    throw archiveError(error, signal);
  } finally {
    tar.destroy(new Error("closed"));
  }
}

/** Room again, or closed. */
function drained(tar: Extract): Promise<void> {
  return new Promise((resolve) => {
    if (tar.destroying) {
      resolve();
      return;
    }
    const done = () => {
      tar.off("drain", done);
      tar.off("close", done);
      resolve();
    };
    tar.on("drain", done);
    tar.on("close", done);
  });
}

/** A failure goes on through the extractor, whose reader throws it; this never rejects. */
async function feed(chunks: AsyncIterable<Uint8Array>, tar: Extract): Promise<void> {
  try {
    for await (const chunk of chunks) {
      if (!tar.write(chunk)) await drained(tar);
      if (tar.destroying) return;
    }
    tar.end(undefined);
  } catch (error) {
    tar.destroy(error instanceof Error ? error : new Error(String(error)));
  }
}

function linkTarget(path: string, header: Header): string {
  const name = header.linkname;
  return cleanPath(header.type === "link" ? name : posix.join(posix.dirname(path), name));
}

function cleanPath(name: string): string {
  const path = posix.normalize(`./${name}`).replace(/\/$/, "");
  if (path === ".." || path.startsWith("../")) {
    throw new EngineError("invalid", `invalid archive: the path ${JSON.stringify(name)} leads out of it`);
  }
  return path;
}

/** compat: Go's words where it has some; a reader of the CLI sees them. */
function archiveError(error: unknown, signal: AbortSignal): unknown {
  if (signal.aborted) return signal.reason;
  if (error instanceof EngineError) return error;
  const text = messageOf(error);
  if (/unexpected end/i.test(text)) return new EngineError("invalid", "unexpected EOF", { cause: error });
  if (/tar header|checksum/i.test(text))
    return new EngineError("invalid", "archive/tar: invalid tar header", { cause: error });
  return new EngineError("invalid", `cannot read the archive: ${text}`, { cause: error });
}
