import { errno } from "../ffi/errno.ts";
import { KernelError } from "../kernel.ts";
import type { NftTable } from "../model.ts";
import { decodeAttributes, MessageBuilder } from "../netlink/codec.ts";
import { flags, type NetlinkSocket } from "../netlink/socket.ts";

/** linux/netfilter/nf_tables.h */
const NFT_MSG_GETTABLE = (10 << 8) | 1;
const NFTA_TABLE = { NAME: 1, USERDATA: 6 } as const;
/** libnftnl's udata.h: type-length-value triples, the comment is type 0. */
const NFTNL_UDATA_TABLE_COMMENT = 0;
/** linux/netfilter.h */
const families = { inet: 1, ip: 2, bridge: 7, ip6: 10 } as const;

/** The comment of a table, "" when it has none, undefined when there is no such table. libnftables' JSON leaves it out. */
export function commentOf(socket: NetlinkSocket, table: Pick<NftTable, "family" | "name">): string | undefined {
  // struct nfgenmsg: u8 family, u8 version, u16 resource
  const message = new MessageBuilder(NFT_MSG_GETTABLE, flags.request)
    .raw(Uint8Array.of(families[table.family], 0, 0, 0))
    .string(NFTA_TABLE.NAME, table.name);
  try {
    const reply = socket.get(`look for table ${table.family} ${table.name}`, message);
    const userdata = decodeAttributes(reply.payload.subarray(4), reply.offset + 4).bytes(NFTA_TABLE.USERDATA);
    return userdata === undefined ? "" : (decodeComment(userdata) ?? "");
  } catch (error) {
    if (error instanceof KernelError && error.errno === errno.ENOENT) return undefined;
    throw error;
  }
}

/** Undefined when there is none or the bytes are no such triples. Pure. */
export function decodeComment(userdata: Uint8Array): string | undefined {
  let at = 0;
  while (at + 2 <= userdata.length) {
    const end = at + 2 + (userdata[at + 1] as number);
    if (end > userdata.length) return undefined;
    if (userdata[at] === NFTNL_UDATA_TABLE_COMMENT) {
      return new TextDecoder().decode(userdata.subarray(at + 2, end)).replace(/\0.*$/s, "");
    }
    at = end;
  }
  return undefined;
}
