import { EngineError } from "../base/errors.ts";
import type { GossipKey } from "./gossip.ts";

/** The keys in use, the transmit key first. Empty only in tests: then everything travels in clear. */
export type Keyring = readonly Uint8Array[];

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
  for (const key of sorted) {
    if (![16, 24, 32].includes(key.length)) {
      throw new EngineError(
        "invalid",
        `Cannot set the gossip keys: found a key of ${key.length} bytes, expected 16, 24 or 32`,
      );
    }
  }
  const [oldest, second, ...rest] = sorted as [Uint8Array, ...Uint8Array[]];
  return second === undefined ? [oldest] : [second, oldest, ...rest];
}
