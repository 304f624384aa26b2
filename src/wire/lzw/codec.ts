import { DecodeError } from "../../base/errors.ts";

// The GIF variant with 8-bit literals, least significant bit first (reference: network-data-plane 5.7). Codes start 9 bits
// wide, behind a clear code; the width grows when the next free code reaches a power of two, to 12 bits.
const clearCode = 256;
const endCode = 257;
const firstWidth = 9;
const maxWidth = 12;
const maxCode = (1 << maxWidth) - 1;

export function compress(input: Uint8Array): Uint8Array {
  const bits = new BitWriter(input.length);
  // Key: the code so far and the next byte; value: the code of both together.
  let table = new Map<number, number>();
  let width = firstWidth;
  let highest = endCode;
  const grow = (): boolean => {
    highest += 1;
    if (highest === 1 << width) width += 1;
    if (highest !== maxCode) return true;
    bits.write(clearCode, maxWidth);
    width = firstWidth;
    highest = endCode;
    table = new Map();
    return false;
  };

  bits.write(clearCode, width);
  let code: number | undefined;
  for (const byte of input) {
    if (code === undefined) {
      code = byte;
      continue;
    }
    const key: number = (code << 8) | byte;
    const known = table.get(key);
    if (known !== undefined) {
      code = known;
      continue;
    }
    bits.write(code, width);
    code = byte;
    if (grow()) table.set(key, highest);
  }
  if (code !== undefined) {
    bits.write(code, width);
    grow();
  }
  bits.write(endCode, width);
  return bits.finish();
}

/**
 * @param maxBytes Largest output accepted.
 * @throws {DecodeError} on an impossible code, a missing end code, or an output beyond `maxBytes`.
 */
export function decompress(input: Uint8Array, maxBytes: number): Uint8Array {
  const prefix = new Uint16Array(maxCode + 1);
  const suffix = new Uint8Array(maxCode + 1);
  const stack = new Uint8Array(maxCode + 2);
  let out = new Uint8Array(Math.min(maxBytes, Math.max(64, input.length * 3)));
  let length = 0;
  let offset = 0;
  let pending = 0;
  let pendingBits = 0;
  let width = firstWidth;
  let highest = endCode;
  let last = -1;

  for (;;) {
    while (pendingBits < width) {
      const byte = input[offset];
      if (byte === undefined) throw new DecodeError("lzw", offset, "no end code");
      pending |= byte << pendingBits;
      pendingBits += 8;
      offset += 1;
    }
    const code = pending & ((1 << width) - 1);
    pending >>>= width;
    pendingBits -= width;

    if (code === clearCode) {
      width = firstWidth;
      highest = endCode;
      last = -1;
      continue;
    }
    if (code === endCode) return out.subarray(0, length);
    if (code > highest) throw new DecodeError("lzw", offset, `code ${code} where at most ${highest} is defined`);

    // Walks the chain of prefixes from the end, so the bytes come out reversed.
    let depth = 0;
    let walk = code;
    if (code === highest && last >= 0) {
      // The code being defined right now: the last expansion and its own first byte.
      stack[depth++] = firstByte(last, prefix);
      walk = last;
    }
    while (walk >= clearCode) {
      stack[depth++] = suffix[walk] as number;
      walk = prefix[walk] as number;
    }
    stack[depth++] = walk;

    if (length + depth > maxBytes) throw new DecodeError("lzw", offset, `more than ${maxBytes} bytes come out`);
    if (length + depth > out.length) {
      const larger = new Uint8Array(Math.min(maxBytes, Math.max(out.length * 2, length + depth)));
      larger.set(out.subarray(0, length));
      out = larger;
    }
    while (depth > 0) out[length++] = stack[--depth] as number;

    if (last >= 0) {
      suffix[highest] = walk;
      prefix[highest] = last;
    }
    last = code;
    highest += 1;
    if (highest === 1 << width) {
      if (width < maxWidth) width += 1;
      else {
        // A full table: codes go on being read but none is added until a clear code.
        last = -1;
        highest -= 1;
      }
    }
  }
}

function firstByte(code: number, prefix: Uint16Array): number {
  let walk = code;
  while (walk >= clearCode) walk = prefix[walk] as number;
  return walk;
}

class BitWriter {
  #out: Uint8Array;
  #length = 0;
  #pending = 0;
  #pendingBits = 0;

  constructor(inputBytes: number) {
    // Worst case: every byte becomes a code of its own of at most 12 bits, with clear codes between.
    this.#out = new Uint8Array(inputBytes * 2 + 8);
  }

  write(code: number, width: number): void {
    this.#pending |= code << this.#pendingBits;
    this.#pendingBits += width;
    while (this.#pendingBits >= 8) {
      this.#out[this.#length++] = this.#pending & 0xff;
      this.#pending >>>= 8;
      this.#pendingBits -= 8;
    }
  }

  finish(): Uint8Array {
    if (this.#pendingBits > 0) this.#out[this.#length++] = this.#pending & 0xff;
    return this.#out.subarray(0, this.#length);
  }
}
