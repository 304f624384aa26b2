import type { Cidr, IpAddress, IpFamily } from "../../base/ip.ts";

/** `base` is cut into blocks of prefix length `size`, first free in order (reference: network-data-plane 11.1). */
export interface DefaultPool {
  readonly base: Cidr;
  readonly size: number;
}

/** Derived from stored records, never stored itself. */
export interface AddressUse {
  readonly subnet: Cidr;
  /** Dynamic addresses come only from here; the subnet when undefined. */
  readonly range: Cidr | undefined;
  isTaken(ip: IpAddress): boolean;
}

export interface Ipam {
  /** First free default block that overlaps nothing in `taken`. @throws {EngineError} `invalid` `all predefined address pools have been fully subnetted`. */
  choosePool(pools: readonly DefaultPool[], family: IpFamily, taken: readonly Cidr[]): Cidr;
  /**
   * One address. `wanted` is taken or refused (`forbidden` `Address already in use`; `invalid` when outside the subnet); else the next free one after
   * `last` (wrapping; `last` undefined: lowest free). Network and broadcast are never given.
   * @throws {EngineError} `exhausted` when none is free.
   */
  chooseAddress(use: AddressUse, options: { readonly wanted?: IpAddress; readonly last?: IpAddress }): IpAddress;
}
