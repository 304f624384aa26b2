import { createHash, timingSafeEqual } from "node:crypto";
import { EngineError } from "../../base/errors.ts";
import type { Random } from "../../base/random.ts";
import { Secret } from "../../base/secret.ts";

// SWMTKN-1-<digest 50>-<secret 25>; version 2 (clusters that mandate FIPS) has one more part, 0 or 1, after the version.
// Digest and secret are unsigned integers in base 36, left-padded (reference: swarm-control-plane 2).
const digestChars = 50;
const secretChars = 25;
const secretBytes = 16;
const pattern = /^SWMTKN-(?:1|2-[01])-([0-9a-z]{50})-([0-9a-z]{25})$/;

/** A token for joining the cluster whose root certificate is exactly these bytes. */
export function newJoinToken(rootPem: Uint8Array, random: Random): Secret<string> {
  const digest = base36(createHash("sha256").update(rootPem).digest(), digestChars);
  return new Secret(`SWMTKN-1-${digest}-${base36(random.bytes(secretBytes), secretChars)}`);
}

/**
 * SHA-256 (64 hex digits) of the root certificate that the token vouches for.
 *
 * @throws {EngineError} `invalid` when the text is no join token; the text itself is not repeated.
 */
export function rootDigestOf(token: Secret<string>): string {
  const match = pattern.exec(token.reveal());
  const hex = match === null ? "" : parseBase36(match[1] as string).toString(16);
  // 50 base-36 digits reach a little beyond 256 bits.
  if (match === null || hex.length > 64) throw new EngineError("invalid", "invalid join token"); // compat:
  return hex.padStart(64, "0");
}

/** Whether `rootPem` is the certificate that a token's digest stands for. */
export function isRoot(rootPem: Uint8Array, digestHex: string): boolean {
  return createHash("sha256").update(rootPem).digest("hex") === digestHex;
}

/** Compares whole tokens in constant time. */
export function isSameToken(a: string, b: string): boolean {
  const digest = (text: string) => createHash("sha256").update(text).digest();
  return timingSafeEqual(digest(a), digest(b));
}

function base36(bytes: Uint8Array, width: number): string {
  return BigInt(`0x${Buffer.from(bytes).toString("hex")}`)
    .toString(36)
    .padStart(width, "0");
}

function parseBase36(text: string): bigint {
  let value = 0n;
  for (const char of text) value = value * 36n + BigInt(Number.parseInt(char, 36));
  return value;
}
