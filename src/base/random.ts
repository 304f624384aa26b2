import { randomBytes } from "node:crypto";

/** The only source of chance. Simulations pass a seeded one. */
export interface Random {
  bytes(count: number): Uint8Array;
  /** Uniform in [0, bound), an integer; `bound` from 1 to 2^32. */
  below(bound: number): number;
}

export const systemRandom: Random = {
  bytes: (count) => new Uint8Array(randomBytes(count)),
  below(bound) {
    return Math.floor((randomBytes(6).readUIntBE(0, 6) / 2 ** 48) * bound);
  },
};

/** Deterministic (xorshift128 seeded by splitmix); for tests and simulations only, never for keys. */
export function seededRandom(seed: number): Random {
  let mix = seed >>> 0;
  const next = () => {
    mix = (mix + 0x9e3779b9) >>> 0;
    let z = mix;
    z = Math.imul(z ^ (z >>> 16), 0x85ebca6b);
    z = Math.imul(z ^ (z >>> 13), 0xc2b2ae35);
    return (z ^ (z >>> 16)) >>> 0;
  };
  return {
    bytes: (count) => Uint8Array.from({ length: count }, () => next() & 0xff),
    below: (bound) => Math.floor((next() / 2 ** 32) * bound),
  };
}

/** Fisher-Yates; returns a new array. */
export function shuffled<T>(items: readonly T[], random: Random): T[] {
  const out = [...items];
  for (let i = out.length - 1; i > 0; i--) {
    const j = random.below(i + 1);
    const a = out[i] as T;
    out[i] = out[j] as T;
    out[j] = a;
  }
  return out;
}
