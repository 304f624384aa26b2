interface Queued {
  readonly key: string | undefined;
  readonly bytes: Uint8Array;
  readonly order: number;
  transmits: number;
}

export interface TakeOptions {
  /** Cost of a message beside its own length. */
  readonly overheadBytes: number;
  readonly limitBytes: number;
  /** Number of nodes that shall hear of it; sets how often each message is sent. */
  readonly nodes: number;
}

const retransmitMultiplier = 4;

/** Messages to spread, each a limited number of times (reference: network-data-plane 5.8, broadcast queue order). */
export class BroadcastQueue {
  #queued: Queued[] = [];
  #order = 0;

  get length(): number {
    return this.#queued.length;
  }

  /** A newer message of the same `key` replaces the older; without a key nothing is replaced. */
  add(key: string | undefined, bytes: Uint8Array): void {
    if (key !== undefined) this.remove(key);
    this.#queued.push({ key, bytes, order: this.#order++, transmits: 0 });
  }

  remove(key: string): void {
    this.#queued = this.#queued.filter((item) => item.key !== key);
  }

  clear(): void {
    this.#queued = [];
  }

  /** Fewest transmissions first, larger ones first among them; what has been sent often enough leaves the queue. */
  take(options: TakeOptions): Uint8Array[] {
    const limit = transmitLimit(options.nodes);
    const taken: Uint8Array[] = [];
    let left = options.limitBytes;
    this.#queued.sort((a, b) => a.transmits - b.transmits || b.bytes.length - a.bytes.length || b.order - a.order);
    for (const item of this.#queued) {
      const cost = item.bytes.length + options.overheadBytes;
      if (cost > left) continue;
      left -= cost;
      item.transmits += 1;
      taken.push(item.bytes);
    }
    if (taken.length > 0) this.#queued = this.#queued.filter((item) => item.transmits < limit);
    return taken;
  }
}

export function transmitLimit(nodes: number): number {
  return retransmitMultiplier * Math.ceil(Math.log10(nodes + 1));
}
