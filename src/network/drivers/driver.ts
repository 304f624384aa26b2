import type { Endpoint, Network, NetworkSpec } from "../model.ts";

/**
 * One kind of network on this host. Drivers own kernel units named `network/<id>` and `endpoint/<id>`; every method may be
 * called again after a crash with the same arguments and then repairs rather than repeats.
 */
export interface Driver {
  readonly name: string;
  /** Whether IPAM gives this driver's endpoints addresses at all. */
  readonly addresses: boolean;
  /** Refuses a spec this driver cannot do, in Docker's words. Pure. @throws {EngineError} */
  check(spec: NetworkSpec, existing: readonly Network[]): void;
  /** Brings up what the network needs before its first endpoint (a bridge); overlays do nothing here. */
  ensureNetwork(network: Network, signal: AbortSignal): Promise<void>;
  removeNetwork(network: Network, signal: AbortSignal): Promise<void>;
  /** Interface, addresses, routes of one endpoint inside `namespacePath`, and what makes it reachable. */
  join(network: Network, endpoint: Endpoint, namespacePath: string, signal: AbortSignal): Promise<void>;
  leave(network: Network, endpoint: Endpoint, signal: AbortSignal): Promise<void>;
}
