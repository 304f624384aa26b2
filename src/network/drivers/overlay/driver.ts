import type { Clock } from "../../../base/clock.ts";
import type { Log } from "../../../base/log.ts";
import type { Kernel } from "../../../kernel/mod.ts";
import type { Network } from "../../model.ts";
import type { PeerTable, SwarmNetworks } from "../../networks.ts";
import type { Driver } from "../driver.ts";

export interface OverlayDeps {
  readonly kernel: Kernel;
  readonly peers: PeerTable;
  readonly swarm: () => Pick<SwarmNetworks, "dataPath">;
  /** `<exec root>/netns`, where sandboxes live too. */
  readonly netnsDirectory: string;
  readonly clock: Clock;
  readonly log: Log;
}

/**
 * `ensureNetwork` installs: it joins the network's gossip and keeps its peers in memory, no more. `removeNetwork` uninstalls.
 * The kernel objects come with the first `join` and go with the last `leave`; both publish and withdraw the endpoint's peer record.
 */
export interface OverlayDriver extends Driver, AsyncDisposable {
  /** Networks installed now. */
  installed(): readonly Network[];
  /** Resolves when every peer change seen so far is in the kernel. For tests and shutdown. */
  settle(): Promise<void>;
}

export function openOverlayDriver(_deps: OverlayDeps): OverlayDriver {
  throw new Error("not yet");
}
