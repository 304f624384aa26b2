import { maxMessageSize } from "./codec.ts";

/** A message as it goes over TCP: its length in two bytes, big-endian, then itself (RFC 1035 s4.2.2). */
export function frame(message: Uint8Array): Uint8Array {
  if (message.length > maxMessageSize)
    throw new RangeError(`a DNS message has at most 65535 bytes, got ${message.length}`);
  const out = new Uint8Array(2 + message.length);
  out[0] = message.length >>> 8;
  out[1] = message.length;
  out.set(message, 2);
  return out;
}

/** Cuts a TCP stream into messages. Keeps at most one unfinished message, so at most 64 KiB. */
export class FrameDecoder {
  #rest: Uint8Array = new Uint8Array(0);

  /** The messages that are complete now, in order; views that stay valid. */
  push(chunk: Uint8Array): Uint8Array[] {
    const input = this.#rest.length === 0 ? chunk : Buffer.concat([this.#rest, chunk]);
    const messages: Uint8Array[] = [];
    let offset = 0;
    while (input.length - offset >= 2) {
      const end = offset + 2 + (((input[offset] as number) << 8) | (input[offset + 1] as number));
      if (end > input.length) break;
      messages.push(input.subarray(offset + 2, end));
      offset = end;
    }
    // A copy: a view would keep the whole chunk.
    this.#rest = new Uint8Array(input.subarray(offset));
    return messages;
  }

  /** Whether a message has begun and not ended. */
  get isMidMessage(): boolean {
    return this.#rest.length > 0;
  }
}
