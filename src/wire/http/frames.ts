import { DecodeError } from "../../base/errors.ts";

/** 0 stdin (never sent by us), 1 stdout, 2 stderr, 3 an error of the engine itself. */
export type FrameStream = 0 | 1 | 2 | 3;

// Docker Engine API, "Attach to a container", stream format:
//   0  1  stream
//   1  3  zero
//   4  4  payload length, big endian
const headerBytes = 8;
const maximumPayloadBytes = 16 * 1024 * 1024;

/** One frame of `application/vnd.docker.multiplexed-stream`. */
export function encodeFrame(stream: FrameStream, payload: Uint8Array): Buffer {
  const frame = Buffer.allocUnsafe(headerBytes + payload.length);
  frame.writeUInt32BE(stream * 0x1000000, 0);
  frame.writeUInt32BE(payload.length, 4);
  frame.set(payload, headerBytes);
  return frame;
}

/** Cuts a multiplexed stream into frames, whatever pieces it arrives in. */
export class FrameDecoder {
  #rest: Buffer = Buffer.alloc(0);
  #consumed = 0;

  /** @throws {DecodeError} on an unknown stream or a length beyond 16 MiB. */
  push(bytes: Uint8Array): readonly { readonly stream: FrameStream; readonly payload: Uint8Array }[] {
    let input = this.#rest.length === 0 ? Buffer.from(bytes) : Buffer.concat([this.#rest, bytes]);
    const frames: { stream: FrameStream; payload: Uint8Array }[] = [];
    while (input.length >= headerBytes) {
      const stream = input.readUInt8(0);
      const length = input.readUInt32BE(4);
      if (stream > 3) throw new DecodeError("frame stream", this.#consumed, `unknown stream ${stream}`);
      if (length > maximumPayloadBytes)
        throw new DecodeError("frame length", this.#consumed + 4, `${length} is too long`);
      if (input.length < headerBytes + length) break;
      frames.push({ stream: stream as FrameStream, payload: input.subarray(headerBytes, headerBytes + length) });
      this.#consumed += headerBytes + length;
      input = input.subarray(headerBytes + length);
    }
    this.#rest = input;
    return frames;
  }
}
