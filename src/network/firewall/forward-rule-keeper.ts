import type { Clock } from "../../base/clock.ts";
import { messageOf } from "../../base/errors.ts";
import type { Log } from "../../base/log.ts";
import type { ForeignChains } from "../../kernel/mod.ts";
import { ensureForwardRule, repairForwardRule } from "./foreign-firewall.ts";
import { knownChains } from "./forward-rule.ts";

/** A firewall that is loaded anew makes many changes: it is looked at once they are over. */
const settleMs = 200;

export interface ForwardRuleKeeperOptions {
  readonly chains: ForeignChains | undefined;
  readonly clock: Clock;
  readonly log: Log;
}

/**
 * Keeps our rule at the head of foreign FORWARD chains: whenever somebody changes their tables, it looks again. Disposing ends that
 * and leaves the rule where it is. Legacy tables tell nobody of their changes; they are looked at by `ensure` alone.
 */
export class ForwardRuleKeeper implements AsyncDisposable {
  readonly #options: ForwardRuleKeeperOptions;
  readonly #stop = new AbortController();
  #watch: Disposable | undefined;
  #pending: Disposable | undefined;
  #repairing: Promise<void> = Promise.resolve();

  constructor(options: ForwardRuleKeeperOptions) {
    this.#options = options;
  }

  /** Without the rule a host's own firewall may drop containers' traffic, but everything else works: said, not fatal. */
  async ensure(signal: AbortSignal): Promise<void> {
    const { chains } = this.#options;
    try {
      // Before the look: what changes in between is seen.
      this.#watch ??= chains?.watch(knownChains, () => this.#lookSoon());
      await ensureForwardRule(this.#options, signal);
    } catch (error) {
      signal.throwIfAborted();
      this.#options.log.warn("could not place the forward rule", { error: messageOf(error) });
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    this.#watch?.[Symbol.dispose]();
    this.#pending?.[Symbol.dispose]();
    await this.#repairing;
  }

  #lookSoon(): void {
    if (this.#pending !== undefined || this.#stop.signal.aborted) return;
    this.#pending = this.#options.clock.after(settleMs, () => {
      this.#pending = undefined;
      this.#repairing = this.#repairing.then(() => this.#repair());
    });
  }

  /** Never rejects. */
  async #repair(): Promise<void> {
    const { chains, log } = this.#options;
    const { signal } = this.#stop;
    if (chains === undefined || signal.aborted) return;
    try {
      await repairForwardRule({ chains, log }, signal);
    } catch (error) {
      // A chain that went between the look and the insertion: its going is a change of its own.
      if (!signal.aborted) log.warn("could not repair the forward rule", { error: messageOf(error) });
    }
  }
}
