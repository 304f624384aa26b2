import { createCipheriv, createDecipheriv } from "node:crypto";
import { DecodeError } from "../../base/errors.ts";
import type { Random } from "../../base/random.ts";
import type { Keyring, RingKey } from "../keyring.ts";

//   offset  size  what (reference: network-data-plane 5.6)
//   0       1     version: 1, or 0 where the plain text is PKCS#7 padded (accepted, never sent)
//   1       12    random nonce
//   13      n     AES-GCM ciphertext
//   13+n    16    tag
const nonceBytes = 12;
const tagBytes = 16;
/** What sealing adds. */
export const envelopeOverheadBytes = 1 + nonceBytes + tagBytes;

/** Seals with the first key of the ring. `aad` is authenticated beside the text: empty for packets. */
export function seal(plain: Uint8Array, keyring: Keyring, random: Random, aad: Uint8Array): Uint8Array {
  const key = keyring[0];
  if (key === undefined) throw new TypeError("sealing needs a key");
  const nonce = random.bytes(nonceBytes);
  const cipher = createCipheriv(key.algorithm, key.key, nonce, { authTagLength: tagBytes });
  cipher.setAAD(aad);
  const body = cipher.update(plain);
  cipher.final();
  return Buffer.concat([Uint8Array.of(1), nonce, body, cipher.getAuthTag()]);
}

/** Tries every key. @throws {DecodeError} when none opens it. */
export function unseal(sealed: Uint8Array, keyring: Keyring, aad: Uint8Array): Uint8Array {
  const version = sealed[0];
  if (sealed.length < envelopeOverheadBytes) throw new DecodeError("envelope", 0, "shorter than its own header");
  if (version !== 0 && version !== 1) throw new DecodeError("envelope", 0, `unknown version ${version}`);
  for (const key of keyring) {
    const plain = tryKey(sealed, key, aad);
    if (plain !== undefined) return version === 0 ? withoutPadding(plain) : plain;
  }
  throw new DecodeError("envelope", 0, "no installed keys could decrypt the message");
}

function tryKey(sealed: Uint8Array, { algorithm, key }: RingKey, aad: Uint8Array): Uint8Array | undefined {
  const nonce = sealed.subarray(1, 1 + nonceBytes);
  const decipher = createDecipheriv(algorithm, key, nonce, { authTagLength: tagBytes });
  decipher.setAAD(aad);
  decipher.setAuthTag(sealed.subarray(sealed.length - tagBytes));
  const plain = decipher.update(sealed.subarray(1 + nonceBytes, sealed.length - tagBytes));
  try {
    decipher.final();
    return plain;
  } catch {
    return undefined;
  }
}

function withoutPadding(plain: Uint8Array): Uint8Array {
  const padding = plain.at(-1);
  if (padding === undefined || padding === 0 || padding > 16 || padding > plain.length) {
    throw new DecodeError("envelope", plain.length, "wrong padding");
  }
  return plain.subarray(0, plain.length - padding);
}
