import { createSecretKey, type KeyObject } from "node:crypto";
import { EngineError } from "../base/errors.ts";
import type { GossipKey } from "./gossip.ts";

/** A key as the ciphers want it: making one of the bytes anew for each packet costs more than the packet itself. */
export interface RingKey {
  readonly algorithm: "aes-128-gcm" | "aes-192-gcm" | "aes-256-gcm";
  readonly key: KeyObject;
}

/** The keys in use, the transmit key first. Empty only in tests: then everything travels in clear. */
export type Keyring = readonly RingKey[];

/**
 * Orders the manager's keys as the reference does (network-data-plane 3.2): sorted by Lamport time the second oldest
 * transmits, all are accepted. A lone key transmits.
 *
 * @throws {EngineError} `invalid` without a key or with one of a length AES does not know.
 */
export function keyringOf(keys: readonly GossipKey[]): Keyring {
  if (keys.length === 0) {
    throw new EngineError("invalid", "Cannot set the gossip keys: 0 keys given, expected at least 1");
  }
  const sorted = [...keys].sort((a, b) => (a.lamportTime < b.lamportTime ? -1 : 1)).map(({ key }) => key);
  const [oldest, second, ...rest] = sorted.map(ringKey) as [RingKey, ...RingKey[]];
  return second === undefined ? [oldest] : [second, oldest, ...rest];
}

/** @throws {EngineError} `invalid` for a length AES does not know. */
export function ringKey(bytes: Uint8Array): RingKey {
  const algorithm = algorithms[bytes.length];
  if (algorithm === undefined) {
    const found = `found a key of ${bytes.length} bytes, expected 16, 24 or 32`;
    throw new EngineError("invalid", `Cannot set the gossip keys: ${found}`);
  }
  return { algorithm, key: createSecretKey(bytes) };
}

const algorithms: Readonly<Record<number, RingKey["algorithm"]>> = {
  16: "aes-128-gcm",
  24: "aes-192-gcm",
  32: "aes-256-gcm",
};
