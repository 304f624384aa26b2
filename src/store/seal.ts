import { createCipheriv, createDecipheriv, randomBytes } from "node:crypto";
import { DecodeError } from "../base/errors.ts";

/** Seals secret values. `context` (the record's key) is authenticated, so that a sealed value cannot be moved to another record. */
export interface Seal {
  seal(plain: Uint8Array, context: string): Uint8Array;
  /** @throws {DecodeError} when the value was not sealed with this key for this context. */
  open(sealed: Uint8Array, context: string): Uint8Array;
}

// version 1 | nonce 12 | tag 16 | ciphertext
const version = 1;
const headerBytes = 1 + 12 + 16;

/** AES-256-GCM. `key` is 32 bytes. */
export function aesSeal(key: Uint8Array): Seal {
  return {
    seal(plain, context) {
      const nonce = randomBytes(12);
      const cipher = createCipheriv("aes-256-gcm", key, nonce);
      cipher.setAAD(Buffer.from(context));
      const body = Buffer.concat([cipher.update(plain), cipher.final()]);
      return new Uint8Array(Buffer.concat([Uint8Array.of(version), nonce, cipher.getAuthTag(), body]));
    },
    open(sealed, context) {
      if (sealed.length < headerBytes || sealed[0] !== version) {
        throw new DecodeError("sealed value", 0, `not a version ${version} sealed value`);
      }
      const decipher = createDecipheriv("aes-256-gcm", key, sealed.subarray(1, 13));
      decipher.setAAD(Buffer.from(context));
      decipher.setAuthTag(sealed.subarray(13, headerBytes));
      try {
        return new Uint8Array(Buffer.concat([decipher.update(sealed.subarray(headerBytes)), decipher.final()]));
      } catch (cause) {
        throw new DecodeError("sealed value", 13, `wrong key or damaged: ${String(cause)}`);
      }
    },
  };
}
