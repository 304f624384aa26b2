import type { Clock } from "../../base/clock.ts";
import { messageOf } from "../../base/errors.ts";
import type { Containerd } from "../containerd/mod.ts";
import type { Progress } from "../engine.ts";
import { type Descriptor, digestOf } from "./codec.ts";
import { abortBlob, type BlobWriter, coalesce, DigestMismatch, findBlob, openBlob } from "./content.ts";
import type { Leased } from "./lease.ts";
import type { Repository } from "./registry/client.ts";
import { RegistryError, TransportError } from "./registry/errors.ts";

const maxAttempts = 5;
const progressPeriodMs = 100;
const writeBytes = 1 << 20;

/** A blob ended before its size, or went past it. */
class WrongLength extends Error {}

export interface Download {
  readonly repository: Repository;
  readonly blob: Descriptor;
  readonly clock: Clock;
  /** containerd under the work's lease, and without. */
  readonly leased: Leased;
  readonly unleased: Containerd;
  readonly progress: (p: Progress) => void;
}

/**
 * Brings a layer into the content store. What a broken connection (or a killed weftd) has left is taken up where it ended;
 * containerd checks the digest as it writes and on commit.
 */
export async function downloadLayer(download: Download, signal: AbortSignal): Promise<void> {
  const { blob, clock, progress } = download;
  const ref = `weft-layer-${blob.digest}`;
  await download.leased.keep({ id: blob.digest, type: "content" });
  if ((await findBlob(download.unleased, blob.digest, signal)) !== undefined) return;
  let attempt = 0;
  let best = 0;
  for (;;) {
    // A write begun without a lease is kept for a day, one begun under a lease goes with it: to be able to go on after a
    // failed pull it is begun without, and continued under the lease, so that the committed content is ours.
    const begun = await openBlob(download.unleased, { ref, sizeBytes: blob.sizeBytes }, clock, signal);
    await begun?.[Symbol.asyncDispose]();
    await using writer = await openBlob(
      download.leased.containerd,
      { ref, digest: blob.digest, sizeBytes: blob.sizeBytes },
      clock,
      signal,
    );
    if (writer === undefined) return;
    try {
      await fill(writer, download, signal);
      progress({ status: "Verifying Checksum" });
      await writer.commit();
      return;
    } catch (error) {
      signal.throwIfAborted();
      await writer[Symbol.asyncDispose]();
      const damaged = error instanceof DigestMismatch || error instanceof WrongLength;
      if (damaged) await abortBlob(download.unleased, ref);
      if (damaged && writer.offset === 0) throw error;
      if (writer.position > best) {
        best = writer.position;
        attempt = 0;
      }
      attempt += 1;
      if (!damaged && (attempt === maxAttempts || !isWorthAnother(error))) throw error;
      await waitToRetry(attempt, clock, progress, signal);
    }
  }
}

/** Fetches a small document whole and checks it. */
export async function downloadDocument(
  repository: Repository,
  blob: Descriptor,
  maxBytes: number,
  signal: AbortSignal,
): Promise<Uint8Array> {
  if (blob.sizeBytes > maxBytes) throw new RegistryError(200, [], `${blob.digest} is longer than ${maxBytes} bytes`);
  const { body } = await repository.fetchBlob(blob.digest, 0, signal);
  const chunks: Uint8Array[] = [];
  let length = 0;
  for await (const chunk of body as AsyncIterable<Uint8Array>) {
    length += chunk.length;
    if (length > blob.sizeBytes) break;
    chunks.push(chunk);
  }
  const bytes = Buffer.concat(chunks);
  // compat: dockerd's words
  if (digestOf(bytes) !== blob.digest) {
    throw new RegistryError(200, [], `image config verification failed for digest ${blob.digest}`);
  }
  return bytes;
}

async function fill(writer: BlobWriter, download: Download, signal: AbortSignal): Promise<void> {
  const { blob, clock, progress, repository } = download;
  const totalBytes = blob.sizeBytes;
  if (writer.position === totalBytes && totalBytes > 0) return;
  const { start, body } = await repository.fetchBlob(blob.digest, writer.position, signal);
  if (start !== writer.position) writer.restart();
  let reportedAt = Number.NEGATIVE_INFINITY;
  try {
    for await (const chunk of coalesce(body as AsyncIterable<Uint8Array>, writeBytes)) {
      if (writer.position + chunk.length > totalBytes) {
        throw new WrongLength(`layer ${blob.digest} is longer than the ${totalBytes} bytes of its manifest`);
      }
      await writer.write(chunk);
      if (clock.now() - reportedAt < progressPeriodMs) continue;
      reportedAt = clock.now();
      progress({ status: "Downloading", currentBytes: writer.position, totalBytes });
    }
  } catch (error) {
    if (error instanceof WrongLength || signal.aborted) throw error;
    throw new TransportError(`cannot read layer ${blob.digest}: ${messageOf(error)}`, true, { cause: error });
  } finally {
    body.destroy();
  }
  if (writer.position < totalBytes) {
    throw new TransportError(`cannot read layer ${blob.digest}: unexpected EOF`, true);
  }
}

function isWorthAnother(error: unknown): boolean {
  if (error instanceof TransportError) return error.retryable;
  return error instanceof RegistryError && (error.status >= 500 || error.status === 429);
}

/** compat: dockerd counts the seconds down on the layer's line. */
async function waitToRetry(
  attempt: number,
  clock: Clock,
  progress: (p: Progress) => void,
  signal: AbortSignal,
): Promise<void> {
  for (let seconds = attempt; seconds > 0; seconds--) {
    progress({ status: `Retrying in ${seconds} second${seconds === 1 ? "" : "s"}` });
    await clock.sleep(1000, signal);
  }
}
