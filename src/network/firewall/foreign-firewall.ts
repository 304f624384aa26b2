import { execFile } from "node:child_process";
import { readFile } from "node:fs/promises";
import { crashPoint } from "../../base/crash-point.ts";
import { EngineError, messageOf } from "../../base/errors.ts";
import type { Log } from "../../base/log.ts";
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

/**
 * Puts our one rule at the head of every foreign FORWARD chain of weftd's namespace (architecture: decision 4). Idempotent;
 * runs at start and when drift is looked for, never on a user's path, which is why the firewall's own tools will do.
 */
export async function ensureForwardRule(options: { readonly log: Log }, signal: AbortSignal): Promise<void> {
  await bring(true, options.log, signal);
}

/** Takes it away again: `weft down`. Idempotent. */
export async function removeForwardRule(options: { readonly log: Log }, signal: AbortSignal): Promise<void> {
  await bring(false, options.log, signal);
}

/** What stands in others' chains because of us; for `weft firewall`. */
export async function observeForwardChains(signal: AbortSignal): Promise<readonly ForeignChain[]> {
  return [...(await observeNft(signal)), ...(await observeLegacy(signal))];
}

async function bring(wanted: boolean, log: Log, signal: AbortSignal): Promise<void> {
  for (const step of planForwardRule(await observeForwardChains(signal), wanted)) {
    await apply(step, signal);
    crashPoint(step.kind);
    log.info(step.kind === "forward-rule.ensure" ? "placed our rule in a foreign chain" : "removed our rule", {
      via: step.chain.via,
      table: step.chain.table,
      chain: step.chain.chain,
    });
  }
}

async function apply(step: ForwardStep, signal: AbortSignal): Promise<void> {
  const { chain } = step;
  if (chain.via === "nft") {
    const where = [chain.family, chain.table, chain.chain];
    const command = step.kind === "forward-rule.ensure" ? ["insert"] : ["delete"];
    const rule = step.kind === "forward-rule.ensure" ? [nftRule] : ["handle", String(step.ours.handle)];
    await run("nft", [...command, "rule", ...where, ...rule], signal);
    return;
  }
  const rule = step.kind === "forward-rule.ensure" ? ["-I", "FORWARD", "1"] : ["-D", "FORWARD"];
  const spec = step.kind === "forward-rule.remove" ? [String(step.ours.place + 1)] : legacyRule;
  await run(chain.via, ["-w", ...rule, ...spec], signal);
}

async function observeNft(signal: AbortSignal): Promise<readonly ForeignChain[]> {
  const found: ForeignChain[] = [];
  for (const { family, table, chain } of knownChains) {
    const listing = await tryRun("nft", ["-a", "list", "chain", family, table, chain], signal);
    if (listing === undefined || !listing.includes("hook forward")) continue;
    found.push({ via: "nft", family, table, chain, ours: parseNftChain(listing) });
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
