import type { IpFamily } from "../../base/ip.ts";
import type { Random } from "../../base/random.ts";
import {
  addressOfReverseName,
  encodeAddresses,
  encodeEmpty,
  encodePointer,
  type Query,
  rcode,
  recordType,
} from "../../wire/dns/mod.ts";
import type { NameView } from "./dns.ts";

/** Of every local answer (reference: network-data-plane 7.3). */
const ttlSeconds = 600;

export interface ResolverOptions {
  readonly names: NameView;
  readonly ndotsConfigured: boolean;
  readonly random: Random;
}

/** The answer from this host's own names, or undefined when the query is to be forwarded. */
export function answerLocally(query: Query, limitBytes: number, options: ResolverOptions): Uint8Array | undefined {
  const { name } = query;
  if (name === undefined || name === "" || !query.isInternet) return undefined;
  switch (query.type) {
    case recordType.A:
      return answerAddress(query, name, 4, limitBytes, options);
    case recordType.AAAA:
      return answerAddress(query, name, 6, limitBytes, options);
    case recordType.PTR: {
      const ip = addressOfReverseName(name);
      const target = ip === undefined ? undefined : options.names.reverse(ip);
      return target === undefined ? undefined : encodePointer(query, { target, ttlSeconds }, limitBytes);
    }
    case recordType.MX: {
      const known = options.names.lookup(name, 4) ?? options.names.lookup(name, 6);
      return known === undefined ? undefined : encodeEmpty(query, rcode.noError);
    }
    default:
      return undefined;
  }
}

function answerAddress(
  query: Query,
  name: string,
  family: IpFamily,
  limitBytes: number,
  options: ResolverOptions,
): Uint8Array | undefined {
  const addresses = options.names.lookup(name, family);
  if (addresses !== undefined) {
    const order = addresses.length > 1 ? shuffledQuickly(addresses, options.random) : addresses;
    return encodeAddresses(query, { family, addresses: order, ttlSeconds }, limitBytes);
  }
  // A user's ndots makes the client append its search domains, which it does only after an answer without an error.
  return options.ndotsConfigured && !name.includes(".") ? encodeEmpty(query, rcode.noError) : undefined;
}

/** Fisher-Yates fed by one draw (xorshift32): a draw per address would cost more than the rest of the answer. */
function shuffledQuickly<T>(items: readonly T[], random: Random): T[] {
  const out = [...items];
  let state = random.below(0xffffffff) + 1;
  for (let i = out.length - 1; i > 0; i--) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    const j = (state >>> 0) % (i + 1);
    const a = out[i] as T;
    out[i] = out[j] as T;
    out[j] = a;
  }
  return out;
}
