import { closeSync, openSync } from "node:fs";
import { InvariantError } from "../../base/errors.ts";
import { KernelError } from "../kernel.ts";
import { errno } from "./errno.ts";
import { closeFd, closeFdAside, duplicateFd } from "./libc.ts";

/** select(2) knows descriptors below this; glibc ends the process that asks it about another. */
export const selectLimit = 1024;

/** A race lost this often in a row is no race. */
const maxAttempts = 8;

/**
 * Moves a descriptor out of the way of those who need a low one. Where the process may not have so many, it stays where it is.
 * The new one is close-on-exec.
 */
export function raiseDescriptor(fd: number): number {
  if (fd >= selectLimit) return fd;
  const raised = duplicateFd(fd, selectLimit);
  if (raised === undefined) return fd;
  closeFd(fd);
  return raised;
}

/** Threads of the pool (it has four) that may be busy with closing, in this whole process. */
const maxClosing = 2;
const waiting: PromiseWithResolvers<void>[] = [];
let closing = 0;

/** Closes on a thread of the pool: the last descriptor of some sockets goes only after an RCU grace period, 6 to 25 ms. */
export async function closeAside(fd: number): Promise<void> {
  if (closing >= maxClosing) {
    const turn = Promise.withResolvers<void>();
    waiting.push(turn);
    await turn.promise;
  } else closing += 1;
  try {
    await closeFdAside(fd);
  } finally {
    const next = waiting.shift();
    if (next === undefined) closing -= 1;
    else next.resolve();
  }
}

/**
 * Descriptors below 1024, kept for a library that waits with select(2) and opens its own sockets. It gets the lowest free one, like
 * everybody: so one is set free just before. Another thread may be quicker, which `isIts` tells, and then it is tried again.
 */
export class LowDescriptors implements Disposable {
  readonly #count: number;
  readonly #placeholder: number;
  readonly #free: number[] = [];

  private constructor(count: number, placeholder: number) {
    this.#count = count;
    this.#placeholder = placeholder;
  }

  /** Best made early, while low ones are free. */
  static reserve(count: number): LowDescriptors {
    const reserved = new LowDescriptors(count, raiseDescriptor(openSync("/dev/null", "r")));
    reserved.#refill(0);
    return reserved;
  }

  /**
   * Opens what takes exactly one descriptor and keeps it, in one that is low. `isIts` says whether a descriptor is what was opened.
   * @throws {KernelError} EMFILE when no low descriptor is to be had.
   */
  open<T>(act: string, what: { open(): T; isIts(fd: number): boolean; close(opened: T): void }): LowDescriptor<T> {
    for (let attempt = 0; attempt < maxAttempts; attempt++) {
      const fd = this.#vacate();
      if (fd === undefined) break;
      const opened = what.open();
      if (what.isIts(fd)) return { opened, fd };
      what.close(opened);
      this.#refill(fd);
    }
    throw new KernelError(act, errno.EMFILE, `no descriptor below ${selectLimit} is free (EMFILE)`);
  }

  /** Keeps a low descriptor again, right after whoever had it closed it. */
  giveBack(fd: number): void {
    if (fd >= selectLimit) throw new InvariantError(`descriptor ${fd} is not a low one`);
    this.#refill(fd);
  }

  [Symbol.dispose](): void {
    for (const fd of this.#free.splice(0)) closeFd(fd);
    closeSync(this.#placeholder);
  }

  /** The descriptor that the next open gets: whichever is the lowest of those that are free and one of ours. */
  #vacate(): number | undefined {
    const lowest = duplicateFd(this.#placeholder, 0);
    if (lowest !== undefined && lowest < selectLimit) {
      closeFd(lowest);
      return lowest;
    }
    if (lowest !== undefined) closeFd(lowest);
    const own = this.#free.pop();
    if (own !== undefined) closeFd(own);
    return own;
  }

  /** `vacated` first: others that are free may not be low. */
  #refill(vacated: number): void {
    for (let atLeast = vacated; this.#free.length < this.#count; atLeast = 0) {
      const fd = duplicateFd(this.#placeholder, atLeast);
      if (fd === undefined) return;
      if (fd >= selectLimit) {
        closeFd(fd);
        if (atLeast === 0) return;
      } else this.#free.push(fd);
    }
  }
}

export interface LowDescriptor<T> {
  readonly opened: T;
  readonly fd: number;
}
