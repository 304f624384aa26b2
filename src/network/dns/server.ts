import type { Clock } from "../../base/clock.ts";
import type { Log } from "../../base/log.ts";
import type { Random } from "../../base/random.ts";
import type { Kernel } from "../../kernel/mod.ts";
import type { DnsServer, DnsServerOptions } from "./dns.ts";

export interface DnsServerDeps {
  readonly kernel: Pick<Kernel, "openSocket" | "openUnbound">;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
}

/** Opens the resolver's sockets; `signal` only covers the opening, disposing the result ends it. */
export async function openDnsServer(
  deps: DnsServerDeps,
  options: DnsServerOptions,
  signal: AbortSignal,
): Promise<DnsServer> {
  signal.throwIfAborted();
  throw new Error(`not yet ${String(deps)} ${String(options)}`);
}
