import { type Cidr, familyOf, ipFromBytes, ipToBytes, lastAddress } from "../../base/ip.ts";
import { MessageBuilder, type NetlinkMessage, splitPayload } from "./codec.ts";
import { flags } from "./socket.ts";

const RTM_NEWADDR = 20;
const RTM_DELADDR = 21;
const RTM_GETADDR = 22;

/** linux/if_addr.h */
const IFA = { ADDRESS: 1, LOCAL: 2, BROADCAST: 4 } as const;
const IFA_F_NODAD = 2;
const AF_INET = 2;
const AF_INET6 = 10;

export interface AddressRecord {
  readonly linkIndex: number;
  readonly address: Cidr;
}

/** struct ifaddrmsg: 0 u8 family, 1 u8 prefix length, 2 u8 flags, 3 u8 scope, 4 u32 link index. */
function addressHeader(family: number, prefix: number, linkIndex: number, addressFlags = 0): Uint8Array {
  const bytes = Uint8Array.of(family, prefix, addressFlags, 0, 0, 0, 0, 0);
  new DataView(bytes.buffer).setUint32(4, linkIndex, true);
  return bytes;
}

export function newAddress(linkIndex: number, cidr: Cidr, noDad: boolean): MessageBuilder {
  const message = addressMessage(RTM_NEWADDR, flags.create | flags.replace, { linkIndex, cidr, noDad });
  // As Docker has it, `ip addr` shows the broadcast address.
  if (familyOf(cidr.address) === 4 && cidr.prefix < 31) message.bytes(IFA.BROADCAST, ipToBytes(lastAddress(cidr)));
  return message;
}

export function deleteAddress(linkIndex: number, cidr: Cidr): MessageBuilder {
  return addressMessage(RTM_DELADDR, 0, { linkIndex, cidr, noDad: false });
}

function addressMessage(
  type: number,
  extraFlags: number,
  { linkIndex, cidr, noDad }: { readonly linkIndex: number; readonly cidr: Cidr; readonly noDad: boolean },
): MessageBuilder {
  const family = familyOf(cidr.address) === 4 ? AF_INET : AF_INET6;
  const bytes = ipToBytes(cidr.address);
  return new MessageBuilder(type, flags.request | flags.acknowledge | extraFlags)
    .raw(addressHeader(family, cidr.prefix, linkIndex, noDad ? IFA_F_NODAD : 0))
    .bytes(IFA.LOCAL, bytes)
    .bytes(IFA.ADDRESS, bytes);
}

export function dumpAddresses(): MessageBuilder {
  return new MessageBuilder(RTM_GETADDR, flags.request | flags.dump).raw(addressHeader(0, 0, 0));
}

/** Undefined for families other than IP. @throws {DecodeError} */
export function decodeAddress(message: NetlinkMessage): AddressRecord | undefined {
  const { fixed, attributes } = splitPayload(message, "ifaddrmsg", 8);
  const family = fixed.getUint8(0);
  if (family !== AF_INET && family !== AF_INET6) return undefined;
  const length = family === AF_INET ? 4 : 16;
  // On a point-to-point link IFA_ADDRESS is the other side's.
  const bytes = attributes.sized(IFA.LOCAL, length) ?? attributes.sized(IFA.ADDRESS, length);
  if (bytes === undefined) return undefined;
  return {
    linkIndex: fixed.getUint32(4, true),
    address: { address: ipFromBytes(bytes), prefix: Math.min(fixed.getUint8(1), length * 8) },
  };
}
