import type { Random } from "../../base/random.ts";
import type { WeightedPeer } from "../../wire/gen/swarm_types_pb.ts";

export interface ManagerPeer {
  readonly nodeId: string;
  readonly address: string;
}

// Reference: swarm-control-plane 8.1.
const smoothing = 0.5;
const bias = 0.001;
const limit = 256;
const step = 10;

/** The managers this node knows, with how well they answered. */
export class Remotes {
  #peers = new Map<string, { readonly peer: ManagerPeer; readonly weight: number }>();

  constructor(peers: readonly ManagerPeer[]) {
    for (const peer of peers) this.#peers.set(peer.address, { peer, weight: 0 });
  }

  list(): readonly ManagerPeer[] {
    return [...this.#peers.values()].map(({ peer }) => peer);
  }

  /** Weighted random; undefined when none is known. */
  pick(random: Random): ManagerPeer | undefined {
    const all = [...this.#peers.values()];
    const weights = all.map(({ weight }) => Math.max(0, weight) + bias);
    let at = (random.below(2 ** 32) / 2 ** 32) * weights.reduce((sum, weight) => sum + weight, 0);
    for (const [i, weight] of weights.entries()) {
      at -= weight;
      if (at < 0) return all[i]?.peer;
    }
    return all.at(-1)?.peer;
  }

  /** One that has been forgotten meanwhile stays so, and what the managers said of themselves stands. */
  observe(peer: ManagerPeer, verdict: "good" | "bad"): void {
    const known = this.#peers.get(peer.address);
    if (known !== undefined) this.#observe(known.peer, verdict === "good" ? step : -step);
  }

  /** The manager's own list: others are forgotten, entries without an address are ignored. An empty one changes nothing. */
  replace(managers: readonly WeightedPeer[]): void {
    const named = managers.filter(({ peer }) => peer !== undefined && peer.addr !== "");
    if (named.length === 0) return;
    const addresses = new Set(named.map(({ peer }) => peer?.addr));
    for (const address of this.#peers.keys()) if (!addresses.has(address)) this.#peers.delete(address);
    for (const { peer, weight } of named) {
      if (peer !== undefined) this.#observe({ nodeId: peer.nodeId, address: peer.addr }, Number(weight));
    }
  }

  #observe(peer: ManagerPeer, weight: number): void {
    const before = this.#peers.get(peer.address)?.weight ?? 0;
    const smoothed = before + smoothing * (weight - before);
    this.#peers.set(peer.address, { peer, weight: Math.max(-limit, Math.min(limit, smoothed)) });
  }
}
