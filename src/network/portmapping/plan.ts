import { familyOf, type IpAddress, isUnspecified } from "../../base/ip.ts";
import type { PortBinding, PortPublish } from "../model.ts";

const anyV4 = "0.0.0.0" as IpAddress;
const anyV6 = "::" as IpAddress;

/**
 * Host addresses that one publish binds. compat: nothing said means 0.0.0.0 and [::] with the same port, the second only
 * where the host has IPv6 (reference: network-data-plane 9.5).
 */
export function hostAddresses(
  publish: PortPublish,
  defaults: { readonly address: IpAddress | undefined; readonly hasIpv6: boolean },
): readonly IpAddress[] {
  if (publish.hostAddress !== undefined) return [publish.hostAddress];
  const address = defaults.address ?? anyV4;
  if (address !== anyV4) return [address];
  return defaults.hasIpv6 ? [anyV4, anyV6] : [anyV4];
}

/** First and last host port to try; an open publish takes any of the system's ephemeral range. */
export function hostPorts(publish: PortPublish, ephemeral: PortRange): PortRange {
  if (publish.hostPortFirst === 0) return ephemeral;
  return { first: publish.hostPortFirst, last: Math.max(publish.hostPortFirst, publish.hostPortLast) };
}

export interface PortRange {
  readonly first: number;
  readonly last: number;
}

/** Content of `/proc/sys/net/ipv4/ip_local_port_range`. */
export function parsePortRange(text: string): PortRange {
  const [first, last] = text.trim().split(/\s+/).map(Number);
  const isPort = (n: number | undefined): n is number => n !== undefined && Number.isInteger(n) && n > 0 && n < 65536;
  return isPort(first) && isPort(last) && first <= last ? { first, last } : { first: 49153, last: 65535 };
}

/** Bindings of an earlier life that still answer this publish, so that a restart keeps every port. */
export function keptBindings(
  publish: PortPublish,
  addresses: readonly IpAddress[],
  earlier: readonly PortBinding[],
): readonly PortBinding[] | undefined {
  const mine = earlier.filter(
    (port) =>
      port.protocol === publish.protocol &&
      port.containerPort === publish.containerPort &&
      addresses.includes(port.hostAddress) &&
      (publish.hostPortFirst === 0 ||
        (port.hostPort >= publish.hostPortFirst &&
          port.hostPort <= Math.max(publish.hostPortFirst, publish.hostPortLast))),
  );
  const port = mine[0]?.hostPort;
  const kept = mine.filter((binding) => binding.hostPort === port);
  return addresses.every((address) => kept.some((binding) => binding.hostAddress === address)) ? kept : undefined;
}

/** Whether two bindings cannot exist side by side: the same port, and addresses of one family that meet. */
export function conflicts(a: PortBinding, b: PortBinding): boolean {
  if (a.protocol !== b.protocol || a.hostPort !== b.hostPort) return false;
  if (familyOf(a.hostAddress) !== familyOf(b.hostAddress)) return false;
  return a.hostAddress === b.hostAddress || isUnspecified(a.hostAddress) || isUnspecified(b.hostAddress);
}
