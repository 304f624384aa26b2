import { KeyedMutex } from "../../base/async.ts";
import type { Clock } from "../../base/clock.ts";
import { newHexId } from "../../base/ids.ts";
import type { Log } from "../../base/log.ts";
import type { Random } from "../../base/random.ts";
import { type Containerd, isNotFound } from "../containerd/mod.ts";

const ownerLabel = "weft.lease";
const ownerValue = "images";
/** If weftd never comes back, containerd drops the lease by itself. */
const expiryMs = 24 * 3600 * 1000;

/** containerd under a lease: what is made or named through it is not collected while the work goes on. */
export interface Leased {
  readonly containerd: Containerd;
  /** Keeps a thing that is there already; ask whether it is there only afterwards. */
  keep(resource: { readonly id: string; readonly type: string }): Promise<void>;
}

/**
 * One lease shared by all image work under way; the last to leave deletes it. Shared, because pulls share layers: what
 * one has downloaded must not vanish with its lease while another still needs it.
 */
export class WorkLease {
  readonly #containerd: Containerd;
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #log: Log;
  readonly #mutex = new KeyedMutex();
  #current: { readonly id: string; readonly leased: Leased; failed: boolean } | undefined;
  #users = 0;

  constructor(deps: { containerd: Containerd; clock: Clock; random: Random; log: Log }) {
    this.#containerd = deps.containerd;
    this.#clock = deps.clock;
    this.#random = deps.random;
    this.#log = deps.log;
  }

  /** Removes what a weftd that was killed has left; its unfinished work is collected at once. */
  async removeStale(signal: AbortSignal): Promise<void> {
    const { leases } = await this.#containerd.leases.list(
      { filters: [`labels."${ownerLabel}"==${ownerValue}`] },
      { signal },
    );
    for (const [index, { id }] of leases.entries()) await this.#delete(id, index === leases.length - 1);
  }

  async run<T>(work: (leased: Leased) => Promise<T>): Promise<T> {
    const lease = await this.#mutex.run("", () => this.#enter());
    try {
      return await work(lease.leased);
    } catch (error) {
      lease.failed = true;
      throw error;
    } finally {
      await this.#mutex.run("", () => this.#leave());
    }
  }

  async #enter(): Promise<{ readonly leased: Leased; failed: boolean }> {
    this.#users += 1;
    if (this.#current !== undefined) return this.#current;
    const id = `weft-images-${newHexId(this.#random).slice(0, 16)}`;
    try {
      const labels = {
        [ownerLabel]: ownerValue,
        "containerd.io/gc.expire": new Date(this.#clock.wall().getTime() + expiryMs).toISOString(),
      };
      await this.#containerd.leases.create({ id, labels });
    } catch (error) {
      this.#users -= 1;
      throw error;
    }
    const leased: Leased = {
      containerd: this.#containerd.withLease(id),
      keep: async (resource) => {
        await this.#containerd.leases.addResource({ id, resource });
      },
    };
    this.#current = { id, leased, failed: false };
    return this.#current;
  }

  async #leave(): Promise<void> {
    this.#users -= 1;
    const current = this.#current;
    if (this.#users > 0 || current === undefined) return;
    this.#current = undefined;
    try {
      // After a failure there is garbage: collect it now. Otherwise nothing hangs on the lease alone.
      await this.#delete(current.id, current.failed);
    } catch (error) {
      this.#log.warn("cannot delete a lease; it expires by itself", { lease: current.id, error });
    }
  }

  async #delete(id: string, sync: boolean): Promise<void> {
    try {
      await this.#containerd.leases.delete({ id, sync });
    } catch (error) {
      if (!isNotFound(error)) throw error;
    }
  }
}
