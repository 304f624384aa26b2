import { isNotFound } from "../kernel.ts";
import { changeLink, deleteGroup, deleteLink, getLinkByIndex } from "./link.ts";
import type { NetlinkSocket } from "./socket.ts";

/** Calls under way at a time: each holds one of the four threads of the pool. */
const maxFlights = 2;
/** Links that one call deletes together wait in the group of its slot: 0x77656678 and following. */
const firstDyingGroup = 0x77656678;

interface Slot {
  readonly group: number;
  /** Used by the pool's thread alone while a call is under way. */
  readonly socket: NetlinkSocket;
}

/**
 * Deletes links of one namespace. The kernel takes a link off its lists within a millisecond, but the call returns only after RCU
 * barriers (10 to 25 ms): it is made on a thread of the pool, and waited for only until the link is no longer listed.
 * Links that come while all calls are under way are deleted by the next one together.
 */
export class LinkReaper implements AsyncDisposable {
  readonly #ask: NetlinkSocket;
  readonly #open: () => NetlinkSocket;
  readonly #idle: Slot[] = [];
  readonly #flights = new Set<Promise<void>>();
  readonly #waiting = new Set<number>();
  readonly #dying = new Map<string, Promise<void>>();
  #slots = 0;

  /** @param sockets for questions, and a way to more of them in the same namespace. */
  constructor(sockets: { readonly ask: NetlinkSocket; open(): NetlinkSocket }) {
    this.#ask = sockets.ask;
    this.#open = () => sockets.open();
  }

  /** Resolves once the namespace has no such link any more. @throws {KernelError} */
  remove(step: string, link: { readonly index: number; readonly name: string }): Promise<void> {
    const removal = this.#remove(step, link.index).finally(() => {
      if (this.#dying.get(link.name) === removal) this.#dying.delete(link.name);
    });
    this.#dying.set(link.name, removal);
    return removal;
  }

  /** Resolves when the name is free again; undefined when no link of that name is on its way out. */
  gone(name: string): Promise<void> | undefined {
    return this.#dying.get(name)?.catch(() => {
      // Whoever asked for the removal sees why it failed.
    });
  }

  async #remove(step: string, index: number): Promise<void> {
    while (this.#flights.size >= maxFlights) {
      this.#waiting.add(index);
      await Promise.race(this.#flights);
      if (!this.#isListed(index)) return;
    }
    const indexes = new Set([...this.#waiting, index]);
    this.#waiting.clear();
    let landed = false;
    let failure: unknown;
    const slot = this.#idle.pop() ?? { group: firstDyingGroup + this.#slots++, socket: this.#open() };
    const flight = this.#send(step, slot, indexes)
      .catch((error: unknown) => {
        failure = error;
      })
      .finally(() => {
        landed = true;
        this.#idle.push(slot);
        this.#flights.delete(flight);
      });
    this.#flights.add(flight);
    while (!landed && this.#isListed(index)) await new Promise(setImmediate);
    if (failure !== undefined && !isNotFound(failure)) throw failure;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#flights);
    for (const { socket } of this.#idle) socket[Symbol.dispose]();
  }

  async #send(step: string, { socket, group }: Slot, indexes: ReadonlySet<number>): Promise<void> {
    const [first] = indexes;
    if (indexes.size === 1 && first !== undefined) return socket.requestAside(step, deleteLink(first));
    for (const index of indexes) {
      try {
        this.#ask.request(step, changeLink(index, { group }));
      } catch (error) {
        if (!isNotFound(error)) throw error;
      }
    }
    return socket.requestAside(step, deleteGroup(group));
  }

  #isListed(index: number): boolean {
    try {
      this.#ask.get("look for a link", getLinkByIndex(index));
      return true;
    } catch (error) {
      if (isNotFound(error)) return false;
      throw error;
    }
  }
}
