import { familyOf, type IpAddress, ipToBytes, type MacAddress, macToBytes } from "../../base/ip.ts";

/**
 * The Ethernet frame that tells neighbours where `ip` is: a gratuitous ARP request (RFC 5227 s3, sender and target both the
 * address) or an unsolicited neighbour advertisement with the override flag (RFC 4861 s4.4, s7.2.6). Pure.
 */
export function announcement(ip: IpAddress, mac: MacAddress): Uint8Array {
  return familyOf(ip) === 4
    ? gratuitousArp(ipToBytes(ip), macToBytes(mac))
    : advertisement(ipToBytes(ip), macToBytes(mac));
}

/*
 * Ethernet   0 destination (6)   6 source (6)   12 type 0x0806
 * ARP       14 hardware 1   16 protocol 0x0800   18 lengths 6 4   20 operation 1
 *           22 sender MAC   28 sender IP   32 target MAC (zero)   38 target IP
 */
function gratuitousArp(ip: Uint8Array, mac: Uint8Array): Uint8Array {
  const frame = new Uint8Array(42);
  frame.fill(0xff, 0, 6);
  frame.set(mac, 6);
  frame.set([0x08, 0x06, 0, 1, 0x08, 0x00, 6, 4, 0, 1], 12);
  frame.set(mac, 22);
  frame.set(ip, 28);
  frame.set(ip, 38);
  return frame;
}

/*
 * Ethernet   0 33:33:00:00:00:01   6 source   12 type 0x86dd
 * IPv6      14 version 6   18 payload length 32   20 next header 58   21 hop limit 255   22 source   38 ff02::1
 * ICMPv6    54 type 136   55 code 0   56 checksum   58 flags (override)   62 target   78 option 2 length 1   80 MAC
 */
function advertisement(ip: Uint8Array, mac: Uint8Array): Uint8Array {
  const frame = new Uint8Array(86);
  frame.set([0x33, 0x33, 0, 0, 0, 1], 0);
  frame.set(mac, 6);
  frame.set([0x86, 0xdd, 0x60, 0, 0, 0, 0, 32, 58, 255], 12);
  frame.set(ip, 22);
  frame.set([0xff, 0x02], 38);
  frame[53] = 1;
  frame[54] = 136;
  frame[58] = 0x20;
  frame.set(ip, 62);
  frame.set([2, 1], 78);
  frame.set(mac, 80);
  const checksum = icmpv6Checksum(frame.subarray(22, 54), frame.subarray(54));
  frame.set([checksum >> 8, checksum & 0xff], 56);
  return frame;
}

/** RFC 4443 s2.3: over the pseudo-header (addresses, length, next header 58) and the message. */
function icmpv6Checksum(addresses: Uint8Array, message: Uint8Array): number {
  let sum = message.length + 58;
  for (const part of [addresses, message]) {
    for (let i = 0; i < part.length; i += 2) sum += ((part[i] as number) << 8) | (part[i + 1] as number);
  }
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return ~sum & 0xffff;
}
