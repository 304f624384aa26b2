import { DecodeError } from "../../base/errors.ts";
import type { Netns } from "../model.ts";
import { decodeAttributes, decodeMessages } from "../netlink/codec.ts";
import { watchGroups } from "../netlink/watcher.ts";
import type { NftContexts } from "./contexts.ts";

/** A chain in a table of somebody else's. */
export interface ForeignChainName {
  readonly family: "ip" | "ip6" | "inet";
  readonly table: string;
  readonly chain: string;
}

/**
 * The only way into others' nftables: single rules in chains that are named. Nothing here is part of a unit, and no sweep touches it.
 */
export interface ForeignChains {
  /** What `nft -a list chain` prints; undefined when there is no such chain. */
  list(chain: ForeignChainName): Promise<string | undefined>;
  /** Before all other rules. @throws {KernelError} */
  insertRule(chain: ForeignChainName, rule: string): Promise<void>;
  /** @throws {KernelError} ENOENT when it is gone. */
  deleteRule(chain: ForeignChainName, handle: number): Promise<void>;
  /** Calls `listener` (on a later tick) when rules or chains in one of the tables changed. Level-triggered: look again. */
  watch(tables: readonly Pick<ForeignChainName, "family" | "table">[], listener: () => void): Disposable;
}

const host: Netns = "host";

/** Those of the namespace called "host". @param inHost runs its argument there. */
export function openForeignChains(contexts: NftContexts, inHost: <T>(body: () => T) => T): ForeignChains {
  const run = (command: string) => contexts.use(host, (nft) => nft.run(command, command));
  return {
    list(name) {
      const command = `list chain ${written(name)}`;
      return contexts.use(host, async (nft) => nft.queryAs("handles", command, command));
    },
    insertRule: (name, rule) => run(`insert rule ${written(name)} ${rule}`),
    deleteRule: (name, handle) => run(`delete rule ${written(name)} handle ${handle}`),
    watch(tables, listener) {
      const events = { step: "watch nftables", protocol: "netfilter", groups: nftablesGroup } as const;
      return inHost(() => watchGroups(events, (datagram) => concernsTable(datagram, tables), listener));
    },
  };
}

function written({ family, table, chain }: ForeignChainName): string {
  return `${family} ${table} ${chain}`;
}

/** linux/netfilter/nfnetlink.h: NFNLGRP_NFTABLES is group 7. */
const nftablesGroup = 1 << (7 - 1);

const NFNL_SUBSYS_NFTABLES = 10;
/** linux/netfilter/nf_tables.h: new and deleted tables, chains and rules. All name their table in attribute 1. */
const tableChainRule: ReadonlySet<number> = new Set([0, 2, 3, 5, 6, 8]);
const familyNumbers = { inet: 1, ip: 2, ip6: 10 } as const;

/** Whether a datagram of nfnetlink events is about one of the tables; one that cannot be read may be. Pure. */
export function concernsTable(
  datagram: Uint8Array,
  tables: readonly Pick<ForeignChainName, "family" | "table">[],
): boolean {
  try {
    return decodeMessages(datagram).some(({ type, payload, offset }) => {
      if (type >> 8 !== NFNL_SUBSYS_NFTABLES || !tableChainRule.has(type & 0xff)) return false;
      // struct nfgenmsg: u8 family, u8 version, u16 resource
      const name = decodeAttributes(payload.subarray(4), offset + 4).string(1);
      return tables.some(({ family, table }) => familyNumbers[family] === payload[0] && table === name);
    });
  } catch (error) {
    if (error instanceof DecodeError) return true;
    throw error;
  }
}
