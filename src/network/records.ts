import type { Cidr } from "../base/ip.ts";
import type { RecordCodec } from "../store/mod.ts";
import type { Endpoint, Network } from "./model.ts";

/** `network/<id>`: local networks, and swarm ones as last installed, so that a restart does not wait for a manager. */
export interface NetworkRecord {
  readonly network: Network;
  /** This node's load-balancer address on a swarm network. */
  readonly nodeAddress?: Cidr;
}

export const networkCodec: RecordCodec<NetworkRecord> = {
  version: 1,
  upgrade: (json) => {
    const record = json as NetworkRecord | null;
    if (typeof record?.network?.id !== "string") throw new TypeError("not a network record");
    return record;
  },
};

/** `endpoint/<id>`: the only truth that address use is derived from. */
export const endpointCodec: RecordCodec<Endpoint> = {
  version: 1,
  upgrade: (json) => {
    const record = json as Endpoint | null;
    if (typeof record?.id !== "string" || typeof record.networkId !== "string") {
      throw new TypeError("not an endpoint record");
    }
    return record;
  },
};
