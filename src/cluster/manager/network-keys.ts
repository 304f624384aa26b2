import { create } from "@bufbuild/protobuf";
import type { Random } from "../../base/random.ts";
import { type EncryptionKey, EncryptionKey_Algorithm, EncryptionKeySchema } from "../../wire/gen/swarm_types_pb.ts";

export const gossipSubsystem = "networking:gossip";
export const ipsecSubsystem = "networking:ipsec";
const subsystems = [gossipSubsystem, ipsecSubsystem] as const;
/** Engines drop the keys of a subsystem with any other count, silently (trap T10). */
const ringSize = 3;
const keyBytes = 16;
export const keyRotationMs = 12 * 3_600_000;

/** Keys of both subsystems under one Lamport clock (reference: swarm-control-plane 11). */
export interface NetworkKeys {
  readonly keys: readonly EncryptionKey[];
  readonly clock: bigint;
}

/** Three keys per subsystem, gossip first, with six consecutive times from a random start. */
export function firstKeys(random: Random): NetworkKeys {
  const start = BigInt(random.below(65536));
  const keys = subsystems.flatMap((subsystem, s) =>
    Array.from({ length: ringSize }, (_, i) => newKey(subsystem, start + BigInt(s * ringSize + i), random)),
  );
  return { keys, clock: start + BigInt(subsystems.length * ringSize) };
}

/** One new key per subsystem for its oldest: engines apply one at a time (trap T12). */
export function rotateKeys(current: NetworkKeys, random: Random): NetworkKeys {
  const keys = subsystems.flatMap((subsystem, i) => {
    const ring = current.keys.filter((key) => key.subsystem === subsystem).sort(byTime);
    return [...ring.slice(1), newKey(subsystem, current.clock + BigInt(i), random)];
  });
  return { keys, clock: current.clock + BigInt(subsystems.length) };
}

function newKey(subsystem: string, lamportTime: bigint, random: Random): EncryptionKey {
  const algorithm = EncryptionKey_Algorithm.AES_128_GCM;
  return create(EncryptionKeySchema, { subsystem, algorithm, key: random.bytes(keyBytes), lamportTime });
}

function byTime(a: EncryptionKey, b: EncryptionKey): number {
  return a.lamportTime < b.lamportTime ? -1 : 1;
}
