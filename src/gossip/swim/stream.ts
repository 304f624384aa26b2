import { DecodeError } from "../../base/errors.ts";
import type { Random } from "../../base/random.ts";
import { TruncatedError } from "../../wire/msgpack/mod.ts";
import type { Keyring } from "../keyring.ts";
import { decodeStreamMessage, encodeStreamMessage, messageType, type StreamMessage } from "./codec.ts";
import { envelopeOverheadBytes, seal, unseal } from "./envelope.ts";
import { encodeCompressed, inflate } from "./packet.ts";

// Each direction of a conversation is one blob (reference: network-data-plane 5.5):
//   0A | u32be length | envelope of the rest, the five bytes before it as additional data
//   09 | compress map, always written even if larger; a bare message is accepted
const headerBytes = 5;
const maxInflatedBytes = 40 << 20;
const maxSealedBytes = maxInflatedBytes + envelopeOverheadBytes;

export function encodeStream(message: StreamMessage, keyring: Keyring, random: Random): Uint8Array {
  const blob = encodeCompressed(encodeStreamMessage(message));
  if (keyring.length === 0) return blob;
  const header = new Uint8Array(headerBytes);
  header[0] = messageType.encrypt;
  new DataView(header.buffer).setUint32(1, blob.length + envelopeOverheadBytes);
  return Buffer.concat([header, seal(blob, keyring, random, header)]);
}

/** Gathers one direction of one conversation. Bytes behind the message are ignored. */
export class StreamDecoder {
  readonly #keyring: Keyring;
  readonly #chunks: Uint8Array[] = [];
  #length = 0;
  /** No use looking before this many bytes are there. */
  #wantedBytes = 1;

  constructor(keyring: Keyring) {
    this.#keyring = keyring;
  }

  /** The message once it is complete. @throws {DecodeError} */
  push(chunk: Uint8Array): StreamMessage | undefined {
    this.#chunks.push(chunk);
    this.#length += chunk.length;
    if (this.#length > maxSealedBytes + headerBytes) throw new DecodeError("stream", this.#length, "too long");
    if (this.#length < this.#wantedBytes) return undefined;
    const bytes = Buffer.concat(this.#chunks);
    this.#chunks.splice(0, this.#chunks.length, bytes);
    return this.#keyring.length > 0 ? this.#sealed(bytes) : this.#clear(bytes);
  }

  #sealed(bytes: Uint8Array): StreamMessage | undefined {
    if (bytes[0] !== messageType.encrypt) {
      throw new DecodeError("stream", 0, "encryption is configured but remote state is not encrypted");
    }
    if (bytes.length < headerBytes) {
      this.#wantedBytes = headerBytes;
      return undefined;
    }
    const length = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength).getUint32(1);
    if (length > maxSealedBytes)
      throw new DecodeError("stream", 1, `remote node state is larger than limit (${length})`);
    this.#wantedBytes = headerBytes + length;
    if (bytes.length < this.#wantedBytes) return undefined;
    const blob = unseal(bytes.subarray(headerBytes, this.#wantedBytes), this.#keyring, bytes.subarray(0, headerBytes));
    return decodeBlob(blob);
  }

  #clear(bytes: Uint8Array): StreamMessage | undefined {
    if (bytes[0] === messageType.encrypt) {
      throw new DecodeError("stream", 0, "remote state is encrypted and encryption is not configured");
    }
    try {
      return decodeBlob(bytes);
    } catch (error) {
      if (!(error instanceof TruncatedError)) throw error;
      // Without a length up front the only way is to look again. Clear streams exist in tests only.
      this.#wantedBytes = bytes.length + 1;
      return undefined;
    }
  }
}

function decodeBlob(blob: Uint8Array): StreamMessage {
  return decodeStreamMessage(blob[0] === messageType.compress ? inflate(blob, maxInflatedBytes) : blob);
}
