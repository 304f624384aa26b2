import type { Cidr, IpAddress } from "../base/ip.ts";
import type { DefaultPool } from "./ipam/ipam.ts";
import type { DnsOptions } from "./model.ts";

/** This room's slice of the daemon's configuration. */
export interface NetworksConfig {
  /** Device of the default bridge, `docker0` unless given. */
  readonly bridgeName: string | undefined;
  readonly bip: Cidr | undefined;
  readonly fixedCidr: Cidr | undefined;
  readonly defaultGateway: IpAddress | undefined;
  readonly mtuBytes: number;
  /** undefined: Docker's own list. */
  readonly defaultAddressPools: readonly DefaultPool[] | undefined;
  readonly dns: DnsOptions;
  readonly icc: boolean;
  readonly ipMasquerade: boolean;
  /** `--ip`: where ports are published when nothing is said. */
  readonly defaultPublishAddress: IpAddress | undefined;
  /** Switch forwarding on. */
  readonly ipForward: boolean;
}

export const defaultNetworksConfig: NetworksConfig = {
  bridgeName: undefined,
  bip: undefined,
  fixedCidr: undefined,
  defaultGateway: undefined,
  mtuBytes: 1500,
  defaultAddressPools: undefined,
  dns: { servers: [], search: [], options: [] },
  icc: true,
  ipMasquerade: true,
  defaultPublishAddress: undefined,
  ipForward: true,
};
