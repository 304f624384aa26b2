import type { ForeignChainName } from "../../kernel/mod.ts";
import { forwardMark } from "./host-table.ts";

/** A FORWARD chain of somebody else's that can drop what our tables allow. */
export interface ForeignChain extends ForeignChainName {
  readonly via: "nft" | "iptables-legacy" | "ip6tables-legacy";
  /** Our rules in it: place (0 is the head) and, with nft, the handle to delete it by. */
  readonly ours: readonly { readonly place: number; readonly handle: number | undefined }[];
}

export type ForwardStep =
  | { readonly kind: "forward-rule.ensure"; readonly chain: ForeignChain }
  | { readonly kind: "forward-rule.remove"; readonly chain: ForeignChain; readonly ours: ForeignChain["ours"][number] };

/** Chains that firewall tools keep for forwarded packets; the rest of a host's rules is none of our business. */
export const knownChains: readonly ForeignChainName[] = [
  { family: "ip", table: "filter", chain: "FORWARD" },
  { family: "ip6", table: "filter", chain: "FORWARD" },
  { family: "inet", table: "firewalld", chain: "filter_FORWARD" },
];

const mark = `0x${forwardMark.toString(16).padStart(8, "0")}`;
export const ruleComment = "weft";
/** Written so that iptables-nft shows it as `-m mark --mark … -m comment --comment weft -j ACCEPT`, and saves it as such. */
export const nftRule = `meta mark & ${mark} == ${mark} counter accept comment "${ruleComment}"`;
export const legacyRule: readonly string[] = [
  ...["-m", "mark", "--mark", `${mark}/${mark}`],
  ...["-m", "comment", "--comment", ruleComment, "-j", "ACCEPT"],
];

/** One rule of ours at the head of each chain, or none anywhere. Ensuring comes before removing strays: no gap. Pure. */
export function planForwardRule(chains: readonly ForeignChain[], wanted: boolean): readonly ForwardStep[] {
  return chains.flatMap((chain): readonly ForwardStep[] => {
    const atHead = wanted ? chain.ours.find(({ place }) => place === 0) : undefined;
    const strays = chain.ours.filter((rule) => rule !== atHead);
    const isInserted = wanted && atHead === undefined;
    // Legacy rules are deleted by place: from the tail, and one further down once there is a new head.
    const remove = strays.toReversed().map((rule) => ({
      kind: "forward-rule.remove" as const,
      chain,
      ours: { ...rule, place: rule.place + Number(isInserted) },
    }));
    return isInserted ? [{ kind: "forward-rule.ensure", chain }, ...remove] : remove;
  });
}

/** Our rules in `nft -a list chain …` output. Pure. */
export function parseNftChain(listing: string): ForeignChain["ours"] {
  const rules = listing.split("\n").filter((line) => /# handle \d+\s*$/.test(line) && !/^\s*(table|chain) /.test(line));
  return rules.flatMap((line, place) =>
    line.includes(`comment "${ruleComment}"`) ? [{ place, handle: Number(/# handle (\d+)/.exec(line)?.[1]) }] : [],
  );
}

/** Our rules in `iptables-legacy -S FORWARD` output. Pure. */
export function parseLegacyChain(listing: string): ForeignChain["ours"] {
  const rules = listing.split("\n").filter((line) => line.startsWith("-A "));
  return rules.flatMap((line, place) =>
    line.includes(`--comment ${ruleComment} `) ? [{ place, handle: undefined }] : [],
  );
}
