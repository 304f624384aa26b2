import { closeAside, type LowDescriptors, selectLimit } from "../ffi/descriptors.ts";
import { errno } from "../ffi/errno.ts";
import { AF, duplicateFd, socketOption } from "../ffi/libc.ts";
import { libnftables, type NftHandle } from "../ffi/libnftables.ts";
import { inNamespace } from "../ffi/namespace.ts";
import { KernelError } from "../kernel.ts";
import { protocols } from "../netlink/socket.ts";

/** Scripts longer than this (some thousand elements, tens of ms) run on a thread of the pool. */
const asideBytes = 128 * 1024;

/** libnftables on one namespace: its socket is opened with it and stays there. One call at a time. */
export class NftContext implements AsyncDisposable {
  readonly #handle: NftHandle;
  readonly #socket: number;
  readonly #low: LowDescriptors;
  #deleted = false;

  /** About 60 µs and 130 KB. Its socket takes a low descriptor: libnftables waits with select(2). */
  constructor(namespaceFd: number, low: LowDescriptors) {
    const library = libnftables();
    const { opened, fd } = low.open("open nftables", {
      open: () => inNamespace(namespaceFd, () => library.open()),
      isIts: isNetfilterSocket,
      close: (handle) => library.free(handle),
    });
    this.#handle = opened;
    this.#socket = fd;
    this.#low = low;
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

  /** The same as JSON (libnftables-json(5)), or with the handles that rules are deleted by. */
  queryAs(output: "json" | "handles", step: string, command: string): string | undefined {
    libnftables().setOutput(this.#handle, output);
    try {
      return this.query(step, command);
    } finally {
      libnftables().setOutput(this.#handle, "plain");
    }
  }

  /**
   * Closing the socket may wait for what the last transaction deleted, some ms. A second descriptor keeps it until a thread of the
   * pool closes that one, so that the low one is ours again before anybody else can take it.
   */
  async [Symbol.asyncDispose](): Promise<void> {
    const last = duplicateFd(this.#socket, selectLimit);
    libnftables().free(this.#handle);
    this.#low.giveBack(this.#socket);
    if (last !== undefined) await closeAside(last);
  }
}

const SO_PROTOCOL: readonly [number, number] = [1, 38];
const SO_DOMAIN: readonly [number, number] = [1, 39];

function isNetfilterSocket(fd: number): boolean {
  return socketOption(fd, SO_DOMAIN) === AF.netlink && socketOption(fd, SO_PROTOCOL) === protocols.netfilter;
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
