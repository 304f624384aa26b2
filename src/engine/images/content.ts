import { createHash, type Hash } from "node:crypto";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import type { Clock } from "../../base/clock.ts";
import { crashPoint } from "../../base/crash-point.ts";
import {
  WriteAction,
  WriteContentRequestSchema,
  type WriteContentResponse,
} from "../../wire/gen/github.com/containerd/containerd/api/services/content/v1/content_pb.ts";
import { type Containerd, isAlreadyExists, isNotFound } from "../containerd/mod.ts";
import { digestOf } from "./codec.ts";

/** Messages of 1 MiB: containerd takes up to 16 MiB, and larger ones gain nothing. */
const chunkBytes = 1 << 20;
const closeTimeoutMs = 1000;
const lockedRetryMs = 50;
const lockedRetries = 100;

export interface BlobSpec {
  /** Name of the write; one that failed is taken up again under the same name. */
  readonly ref: string;
  /** Undefined where it is not known before the end; such a write cannot be taken up again. */
  readonly digest?: string;
  readonly sizeBytes?: number;
  readonly labels?: Readonly<Record<string, string>>;
}

/** A blob as it was stored. */
export interface Stored {
  readonly digest: string;
  readonly sizeBytes: number;
}

/** The bytes are not those that the digest promised. What was written is thrown away. */
export class DigestMismatch extends Error {
  constructor(digest: string, options?: { readonly cause?: unknown }) {
    // compat: dockerd's words
    super(`filesystem layer verification failed for digest ${digest}`, options);
    this.name = "DigestMismatch";
  }
}

/**
 * A write under way in containerd's content store. Disposal lets go of it; what was written stays for a later try unless it
 * was committed or aborted.
 */
export class BlobWriter implements AsyncDisposable {
  /** Bytes that an earlier try has left. */
  readonly offset: number;
  readonly #stream: WriteStream;
  readonly #spec: BlobSpec;
  /** Of what is written, where nobody has said the digest: containerd does not tell that of content it has already. */
  readonly #hash: Hash | undefined;
  #position: number;

  constructor(stream: WriteStream, spec: BlobSpec, offset: number) {
    this.#stream = stream;
    this.#spec = spec;
    this.#hash = spec.digest === undefined ? createHash("sha256") : undefined;
    this.offset = offset;
    this.#position = offset;
  }

  get position(): number {
    return this.#position;
  }

  /** Starts again from the first byte. */
  restart(): void {
    this.#position = 0;
  }

  /** Resolves when containerd can take more. */
  async write(data: Uint8Array): Promise<void> {
    this.#hash?.update(data);
    for (let at = 0; at < data.length; at += chunkBytes) {
      const piece = data.subarray(at, at + chunkBytes);
      await this.#stream.send({ action: WriteAction.WRITE, offset: BigInt(this.#position), data: piece });
      this.#position += piece.length;
    }
  }

  /** @throws {DigestMismatch} */
  async commit(): Promise<Stored> {
    const { sizeBytes, labels = {} } = this.#spec;
    const digest = this.#spec.digest ?? `sha256:${this.#hash?.digest("hex")}`;
    await this.#stream.send({
      action: WriteAction.COMMIT,
      offset: BigInt(this.#position),
      total: BigInt(sizeBytes ?? this.#position),
      expected: digest,
      labels: { ...labels },
    });
    try {
      await this.#stream.committed;
      crashPoint("content.write");
    } catch (error) {
      if (/unexpected commit digest/.test(String(error))) throw new DigestMismatch(digest, { cause: error });
      // containerd has put it under our lease all the same.
      if (!isAlreadyExists(error)) throw error;
    }
    return { digest, sizeBytes: this.#position };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stream.close();
  }
}

/** Opens a write. Returns undefined when the content is there already (a lease now keeps it). */
export async function openBlob(
  containerd: Containerd,
  spec: BlobSpec,
  clock: Clock,
  signal: AbortSignal,
): Promise<BlobWriter | undefined> {
  for (let attempt = 0; ; attempt++) {
    const stream = new WriteStream(containerd, spec.ref, clock, signal);
    try {
      await stream.send({
        action: WriteAction.STAT,
        expected: spec.digest ?? "",
        total: BigInt(spec.sizeBytes ?? 0),
      });
      return new BlobWriter(stream, spec, Number((await stream.opened).offset));
    } catch (error) {
      await stream.close();
      if (isAlreadyExists(error)) return undefined;
      // A writer that was cut off holds its lock until containerd has noticed.
      const locked = error instanceof ConnectError && error.code === Code.Unavailable && /locked/.test(error.message);
      if (!locked || attempt === lockedRetries) throw error;
      await clock.sleep(lockedRetryMs, signal);
    }
  }
}

/** Stores small content whole. Idempotent; labels are ensured also where the content was there before. */
export async function ensureBlob(
  containerd: Containerd,
  blob: { readonly bytes: Uint8Array; readonly labels: Readonly<Record<string, string>> },
  clock: Clock,
  signal: AbortSignal,
): Promise<Stored> {
  const digest = digestOf(blob.bytes);
  const spec = { ref: `weft-${digest}`, digest, sizeBytes: blob.bytes.length, labels: blob.labels };
  await using writer = await openBlob(containerd, spec, clock, signal);
  if (writer !== undefined) {
    writer.restart();
    await writer.write(blob.bytes);
    await writer.commit();
  }
  await ensureLabels(containerd, digest, blob.labels, signal);
  return { digest, sizeBytes: blob.bytes.length };
}

/** Adds labels to stored content; others stay. */
export async function ensureLabels(
  containerd: Containerd,
  digest: string,
  labels: Readonly<Record<string, string>>,
  signal: AbortSignal,
): Promise<void> {
  const paths = Object.keys(labels).map((key) => `labels.${key}`);
  if (paths.length === 0) return;
  await containerd.content.update({ info: { digest, labels: { ...labels } }, updateMask: { paths } }, { signal });
}

/** Reads content whole. @throws not found, as containerd says it. */
export async function readBlob(containerd: Containerd, digest: string, maxBytes: number): Promise<Uint8Array> {
  const chunks: Uint8Array[] = [];
  let length = 0;
  for await (const { data } of containerd.content.read({ digest, offset: 0n, size: 0n })) {
    length += data.length;
    if (length > maxBytes) throw new RangeError(`content ${digest} is longer than ${maxBytes} bytes`);
    chunks.push(data);
  }
  return Buffer.concat(chunks, length);
}

/** Size of stored content, undefined when there is none. */
export async function findBlob(
  containerd: Containerd,
  digest: string,
  signal: AbortSignal,
): Promise<number | undefined> {
  try {
    return Number((await containerd.content.info({ digest }, { signal })).info?.size ?? 0n);
  } catch (error) {
    if (isNotFound(error)) return undefined;
    throw error;
  }
}

/** Throws away an unfinished write. */
export async function abortBlob(containerd: Containerd, ref: string): Promise<void> {
  try {
    await containerd.content.abort({ ref });
  } catch (error) {
    if (!isNotFound(error)) throw error;
  }
}

/** Joins small chunks, so that each message carries its weight. */
export async function* coalesce(source: AsyncIterable<Uint8Array>, minBytes: number): AsyncGenerator<Uint8Array> {
  let held: Uint8Array[] = [];
  let length = 0;
  for await (const chunk of source) {
    held.push(chunk);
    length += chunk.length;
    if (length < minBytes) continue;
    yield held.length === 1 ? chunk : Buffer.concat(held, length);
    held = [];
    length = 0;
  }
  if (length > 0) yield Buffer.concat(held, length);
}

type WriteInit = MessageInitShape<typeof WriteContentRequestSchema>;

/** One `Content.Write` call: requests are handed over one at a time, answers read as they come. */
class WriteStream {
  readonly opened: Promise<WriteContentResponse>;
  readonly committed: Promise<WriteContentResponse>;
  readonly #ref: string;
  readonly #clock: Clock;
  readonly #abort = new AbortController();
  readonly #answers: Promise<void>;
  #pending: { message: WriteInit; taken: () => void } | undefined;
  #wake: (() => void) | undefined;
  #ended = false;
  #failure: { readonly error: unknown } | undefined;
  #onFailure: ((error: unknown) => void) | undefined;

  constructor(containerd: Containerd, ref: string, clock: Clock, signal: AbortSignal) {
    this.#ref = ref;
    this.#clock = clock;
    const opened = Promise.withResolvers<WriteContentResponse>();
    const committed = Promise.withResolvers<WriteContentResponse>();
    this.opened = opened.promise;
    this.committed = committed.promise;
    // Whoever waits sees the failure; a stream that is merely closed must not count as unhandled.
    this.opened.catch(() => {});
    this.committed.catch(() => {});
    const options = { signal: AbortSignal.any([signal, this.#abort.signal]) };
    this.#answers = this.#read(containerd.content.write(this.#requests(), options), opened, committed);
  }

  /** Resolves when the transport has taken the message. */
  async send(message: WriteInit): Promise<void> {
    if (this.#failure !== undefined) throw this.#failure.error;
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    this.#onFailure = reject;
    this.#pending = { message, taken: resolve };
    this.#wake?.();
    await promise;
  }

  async close(): Promise<void> {
    this.#ended = true;
    this.#wake?.();
    // An orderly end frees containerd's lock at once; one that hangs is cut off.
    using _cut = this.#clock.after(closeTimeoutMs, () => this.#abort.abort(new Error("closed")));
    await this.#answers;
  }

  async *#requests(): AsyncGenerator<WriteInit> {
    for (;;) {
      const { pending } = this.#take();
      if (pending !== undefined) {
        yield create(WriteContentRequestSchema, { ref: this.#ref, ...pending.message });
        pending.taken();
        continue;
      }
      if (this.#ended) return;
      const { promise, resolve } = Promise.withResolvers<void>();
      this.#wake = resolve;
      await promise;
    }
  }

  #take(): { pending: { message: WriteInit; taken: () => void } | undefined } {
    const pending = this.#pending;
    this.#pending = undefined;
    return { pending };
  }

  async #read(
    answers: AsyncIterable<WriteContentResponse>,
    opened: PromiseWithResolvers<WriteContentResponse>,
    committed: PromiseWithResolvers<WriteContentResponse>,
  ): Promise<void> {
    let error: unknown = new ConnectError("containerd ended the write", Code.Aborted);
    try {
      for await (const answer of answers) {
        opened.resolve(answer);
        if (answer.action === WriteAction.COMMIT) committed.resolve(answer);
      }
    } catch (caught) {
      error = caught;
    }
    this.#failure = { error };
    this.#ended = true;
    this.#wake?.();
    opened.reject(error);
    committed.reject(error);
    this.#onFailure?.(error);
  }
}
