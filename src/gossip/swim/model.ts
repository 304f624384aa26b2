import { formatHostPort, type IpAddress } from "../../base/ip.ts";

export interface Endpoint {
  readonly address: IpAddress;
  readonly portHostOrder: number;
}

/** Protocol minimum, maximum, current; then the same of the application ("delegate") (reference: network-data-plane 5.1). */
export type Versions = readonly [number, number, number, number, number, number];

/** Delegate minimum, maximum, current: 0,0,0 for Docker; 2,5,5 for serf. */
export type DelegateVersions = readonly [number, number, number];

export type MemberStateKind = "alive" | "suspect" | "dead" | "left";

export interface Member extends Endpoint {
  readonly name: string;
  readonly meta: Uint8Array;
  readonly versions: Versions | undefined;
  readonly incarnation: number;
  readonly state: MemberStateKind;
}

export function isSameEndpoint(a: Endpoint, b: Endpoint): boolean {
  return a.address === b.address && a.portHostOrder === b.portHostOrder;
}

export function formatEndpoint(endpoint: Endpoint): string {
  return formatHostPort(endpoint.address, endpoint.portHostOrder);
}
