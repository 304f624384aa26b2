/** Lamport clock of 64 bits, wrapping as Go's does (reference: network-data-plane 4.4). */
export class LamportClock {
  #time = 0n;

  get time(): bigint {
    return this.#time;
  }

  increment(): bigint {
    this.#time = BigInt.asUintN(64, this.#time + 1n);
    return this.#time;
  }

  witness(seen: bigint): void {
    if (seen >= this.#time) this.#time = BigInt.asUintN(64, seen + 1n);
  }
}
