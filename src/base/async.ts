/** A promise with its handles outside. */
export interface Deferred<T> {
  readonly promise: Promise<T>;
  resolve(value: T): void;
  reject(error: unknown): void;
}

export function deferred<T>(): Deferred<T> {
  return Promise.withResolvers<T>();
}

/** Runs the calls given for one key one after another; different keys run side by side. */
export class KeyedMutex {
  readonly #tails = new Map<string, Promise<void>>();

  async run<T>(key: string, act: () => Promise<T>): Promise<T> {
    const before = this.#tails.get(key) ?? Promise.resolve();
    const done = deferred<void>();
    const tail = before.then(() => done.promise);
    this.#tails.set(key, tail);
    await before;
    try {
      return await act();
    } finally {
      done.resolve();
      if (this.#tails.get(key) === tail) this.#tails.delete(key);
    }
  }
}

/** Unbounded queue between a producer that must not wait and one async consumer. */
export class AsyncQueue<T> implements AsyncIterable<T> {
  readonly #items: T[] = [];
  #waiting: Deferred<void> | undefined;
  #closed = false;

  push(item: T): void {
    if (this.#closed) return;
    this.#items.push(item);
    this.#waiting?.resolve();
    this.#waiting = undefined;
  }

  /** Ends the iteration after what is queued. */
  close(): void {
    this.#closed = true;
    this.#waiting?.resolve();
    this.#waiting = undefined;
  }

  get length(): number {
    return this.#items.length;
  }

  async *[Symbol.asyncIterator](): AsyncIterator<T> {
    for (;;) {
      while (this.#items.length > 0) yield this.#items.shift() as T;
      if (this.#closed) return;
      this.#waiting = deferred<void>();
      await this.#waiting.promise;
    }
  }
}

/** Listeners called in order, synchronously; a listener is removed by disposing what `listen` returned. */
export class Hub<T> {
  readonly #listeners = new Set<(event: T) => void>();

  listen(listener: (event: T) => void): Disposable {
    this.#listeners.add(listener);
    return { [Symbol.dispose]: () => this.#listeners.delete(listener) };
  }

  emit(event: T): void {
    for (const listener of [...this.#listeners]) listener(event);
  }

  get size(): number {
    return this.#listeners.size;
  }
}

/** Aborts when any of the given signals does. */
export function anySignal(...signals: readonly AbortSignal[]): AbortSignal {
  return AbortSignal.any([...signals]);
}

/** `promise`, or the signal's reason as a rejection when that comes first. */
export async function withSignal<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  signal.throwIfAborted();
  const aborted = deferred<never>();
  const onAbort = () => aborted.reject(signal.reason);
  signal.addEventListener("abort", onAbort, { once: true });
  try {
    return await Promise.race([promise, aborted.promise]);
  } finally {
    signal.removeEventListener("abort", onAbort);
  }
}
