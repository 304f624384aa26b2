import { execFile } from "node:child_process";
import { readFile } from "node:fs/promises";
import { crashPoint } from "../../base/crash-point.ts";
import { EngineError, messageOf } from "../../base/errors.ts";
import type { Log } from "../../base/log.ts";
import type { ForeignChains } from "../../kernel/mod.ts";
import {
  type ForeignChain,
  type ForwardStep,
  knownChains,
  legacyRule,
  nftRule,
  parseLegacyChain,
  parseNftChain,
  planForwardRule,
} from "./forward-rule.ts";

/** Whose chains, and what is said about it. Without `chains` those of nftables are left alone: a kernel in memory has none. */
export interface FirewallOptions {
  readonly chains: ForeignChains | undefined;
  readonly log: Log;
}

/**
 * Puts our one rule at the head of every foreign FORWARD chain of weftd's namespace (architecture: decision 4). Idempotent.
 * The legacy tables can only be reached by their own tools: those are run at start, never on a user's path.
 */
export async function ensureForwardRule(options: FirewallOptions, signal: AbortSignal): Promise<void> {
  await bring(true, options, signal);
}

/** Takes it away again. Idempotent. */
export async function removeForwardRule(options: FirewallOptions, signal: AbortSignal): Promise<void> {
  await bring(false, options, signal);
}

/** What stands in others' chains because of us; for `weft firewall`. */
export async function observeForwardChains(
  chains: ForeignChains | undefined,
  signal: AbortSignal,
): Promise<readonly ForeignChain[]> {
  return [...(await observeNft(chains, signal)), ...(await observeLegacy(signal))];
}

/** The same rule once more in the chains of nftables: somebody changed them. */
export async function repairForwardRule(
  { chains, log }: FirewallOptions & { readonly chains: ForeignChains },
  signal: AbortSignal,
): Promise<void> {
  await applyAll(planForwardRule(await observeNft(chains, signal), true), { chains, log }, signal);
}

async function bring(wanted: boolean, options: FirewallOptions, signal: AbortSignal): Promise<void> {
  await applyAll(planForwardRule(await observeForwardChains(options.chains, signal), wanted), options, signal);
}

async function applyAll(steps: readonly ForwardStep[], options: FirewallOptions, signal: AbortSignal): Promise<void> {
  for (const step of steps) {
    await apply(step, options.chains, signal);
    crashPoint(step.kind);
    options.log.info(step.kind === "forward-rule.ensure" ? "placed our rule in a foreign chain" : "removed our rule", {
      via: step.chain.via,
      table: step.chain.table,
      chain: step.chain.chain,
    });
  }
}

async function apply(step: ForwardStep, chains: ForeignChains | undefined, signal: AbortSignal): Promise<void> {
  const { chain } = step;
  if (chain.via === "nft") {
    if (step.kind === "forward-rule.ensure") await chains?.insertRule(chain, nftRule);
    else await chains?.deleteRule(chain, step.ours.handle ?? 0);
    return;
  }
  const rule = step.kind === "forward-rule.ensure" ? ["-I", "FORWARD", "1"] : ["-D", "FORWARD"];
  const spec = step.kind === "forward-rule.remove" ? [String(step.ours.place + 1)] : legacyRule;
  await run(chain.via, ["-w", ...rule, ...spec], signal);
}

async function observeNft(chains: ForeignChains | undefined, signal: AbortSignal): Promise<readonly ForeignChain[]> {
  const found: ForeignChain[] = [];
  for (const name of chains === undefined ? [] : knownChains) {
    signal.throwIfAborted();
    const listing = await chains?.list(name);
    if (listing === undefined || !listing.includes("hook forward")) continue;
    found.push({ via: "nft", ...name, ours: parseNftChain(listing) });
  }
  return found;
}

/** Naming a legacy table loads it: look only where the kernel says that this namespace has one already. */
async function observeLegacy(signal: AbortSignal): Promise<readonly ForeignChain[]> {
  const found: ForeignChain[] = [];
  for (const [file, via, family] of [
    ["/proc/self/net/ip_tables_names", "iptables-legacy", "ip"],
    ["/proc/self/net/ip6_tables_names", "ip6tables-legacy", "ip6"],
  ] as const) {
    const tables = await readFile(file, "utf8").catch(() => "");
    if (!tables.split("\n").includes("filter")) continue;
    const listing = await tryRun(via, ["-w", "-S", "FORWARD"], signal);
    if (listing === undefined) continue;
    found.push({ via, family, table: "filter", chain: "FORWARD", ours: parseLegacyChain(listing) });
  }
  return found;
}

async function tryRun(command: string, args: readonly string[], signal: AbortSignal): Promise<string | undefined> {
  try {
    return await run(command, args, signal);
  } catch (error) {
    signal.throwIfAborted();
    if (error instanceof EngineError) return undefined;
    throw error;
  }
}

function run(command: string, args: readonly string[], signal: AbortSignal): Promise<string> {
  return new Promise((resolve, reject) => {
    execFile(command, args, { signal, encoding: "utf8", timeout: 10_000 }, (error, stdout, stderr) => {
      if (error === null) resolve(stdout);
      else {
        const reason = stderr.trim() === "" ? messageOf(error) : stderr.trim();
        reject(new EngineError("unavailable", `cannot run ${command} ${args.join(" ")}: ${reason}`, { cause: error }));
      }
    });
  });
}
