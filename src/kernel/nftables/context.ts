import { errno } from "../ffi/errno.ts";
import { libnftables, type NftHandle } from "../ffi/libnftables.ts";
import { inNamespace } from "../ffi/namespace.ts";
import { KernelError } from "../kernel.ts";

/** Scripts longer than this (some thousand elements, tens of ms) run on a thread of the pool. */
const asideBytes = 128 * 1024;

/** libnftables on one namespace: its socket is opened with it and stays there. One call at a time. */
export class NftContext implements AsyncDisposable {
  readonly #handle: NftHandle;
  #deleted = false;

  /** About 60 µs and 130 KB. */
  constructor(namespaceFd: number) {
    const library = libnftables();
    this.#handle = inNamespace(namespaceFd, () => library.open());
  }

  /** All of the script or nothing of it. @throws {KernelError} with nft's first line of complaint. */
  async run(step: string, script: string): Promise<void> {
    const library = libnftables();
    this.#deleted ||= /^delete /m.test(script);
    const result =
      script.length > asideBytes ? await library.runAside(this.#handle, script) : library.run(this.#handle, script);
    if (result !== 0) throw nftError(step, library.errors(this.#handle));
    library.output(this.#handle);
  }

  /** Whether a script that it ran had deletions in it. */
  get hasDeleted(): boolean {
    return this.#deleted;
  }

  /** What a `list` or `get` prints, or undefined when there is no such thing. */
  query(step: string, command: string): string | undefined {
    const library = libnftables();
    if (library.run(this.#handle, command) === 0) return library.output(this.#handle);
    const error = nftError(step, library.errors(this.#handle));
    if (error.errno === errno.ENOENT) return undefined;
    throw error;
  }

  /** The same as JSON (libnftables-json(5)). */
  queryJson(step: string, command: string): string | undefined {
    libnftables().setJson(this.#handle, true);
    try {
      return this.query(step, command);
    } finally {
      libnftables().setJson(this.#handle, false);
    }
  }

  /** On a thread of the pool: closing the socket may wait for what the last transaction deleted, some ms. */
  [Symbol.asyncDispose](): Promise<void> {
    return libnftables().freeAside(this.#handle);
  }
}

/** libnftables tells the errno only in words. */
const errnoInWords: readonly (readonly [words: string, number: number])[] = [
  ["No such file or directory", errno.ENOENT],
  ["File exists", errno.EEXIST],
  ["Device or resource busy", errno.EBUSY],
  ["Operation not permitted", errno.EPERM],
  ["Operation not supported", errno.EOPNOTSUPP],
  ["Cannot allocate memory", errno.ENOMEM],
  ["No space left on device", errno.ENOSPC],
  ["No buffer space available", errno.ENOBUFS],
];

export function nftError(step: string, complaint: string): KernelError {
  const lines = complaint.trim().split("\n");
  const number = errnoInWords.find(([words]) => complaint.includes(words))?.[1] ?? errno.EINVAL;
  return new KernelError(step, number, lines.slice(0, 3).join(" | ").slice(0, 600) || "libnftables failed");
}
