import type { Clock } from "../base/clock.ts";
import type { Log } from "../base/log.ts";
import type { Random } from "../base/random.ts";
import type { HostKernel, Kernel } from "../kernel/mod.ts";
import type { Seal, Store } from "../store/mod.ts";
import type { NetworksConfig } from "./config.ts";
import type { DnsServer, DnsServerOptions } from "./dns/dns.ts";
import type { PeerTable, SwarmNetworks } from "./networks.ts";

/** What this room is made from; `daemon/` has it. */
export interface NetworksOptions {
  readonly kernel: Kernel & Partial<Pick<HostKernel, "foreignChains">>;
  readonly store: Store;
  readonly seal: Seal;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  /** Namespaces are kept by files in `<execRoot>/netns`. */
  readonly execRoot: string;
  readonly config: NetworksConfig;
  /** Gives networks with IPv6 a pool of this engine's own when the configured ones have none. */
  readonly engineId?: string;
  /** Asked each time: the swarm may come and go. */
  readonly swarm: () => SwarmNetworks;
  readonly peerTable: () => PeerTable | undefined;
  /** Whether ports are published on IPv6 as well; looked up when not said. */
  readonly hasIpv6?: boolean;
  /** Puts our rule at the head of foreign FORWARD chains; tests on a fake kernel have no such chains. */
  readonly forwardRule?: (signal: AbortSignal) => Promise<void>;
  /** Tests may put their own; the real one is `dns/`. */
  readonly openDns?: (options: DnsServerOptions, signal: AbortSignal) => Promise<DnsServer>;
}
