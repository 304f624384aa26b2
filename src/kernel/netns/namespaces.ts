import {
  closeSync,
  existsSync,
  fstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  rmSync,
  statfsSync,
  statSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { Announcer } from "../announce/announce.ts";
import { raiseDescriptor } from "../ffi/descriptors.ts";
import { errno } from "../ffi/errno.ts";
import { bindMount, systemError, unmount, unshareNetwork } from "../ffi/libc.ts";
import { inNamespace, ownNamespaceFd } from "../ffi/namespace.ts";
import { KernelError } from "../kernel.ts";
import { type Netns, nsKey } from "../model.ts";
import { LinkReaper } from "../netlink/reaper.ts";
import { type NetlinkSocket, openNetlink } from "../netlink/socket.ts";
import { compareText } from "../plan.ts";

/** What a plain descriptor of a namespace needs to be kept for: opened once, closed when the namespace goes. */
export interface OpenNamespace {
  readonly fd: number;
  readonly inode: number;
  route(): NetlinkSocket;
  /** Not opened for one use and closed: closing waits when something was deleted lately (nftables/contexts.ts). */
  netfilter(): NetlinkSocket;
  reaper(): LinkReaper;
  announcer(): Announcer;
  /** Link indexes by name, as last seen; a stale one gives ENODEV and is then looked up afresh. */
  readonly linkIndexes: Map<string, number>;
}

/** nsfs of linux/magic.h: the file is a namespace, not what is left of one. */
const NSFS_MAGIC = 0x6e736673;

/** Namespaces by path: makes and removes them, keeps their descriptors and rtnetlink sockets. */
export class Namespaces implements AsyncDisposable {
  readonly #open = new Map<string, CachedNamespace>();
  readonly #closing = new Set<Promise<void>>();

  /** @throws {KernelError} ENOENT when there is none at the path. */
  get(ns: Netns): OpenNamespace {
    const key = nsKey(ns);
    if (ns !== "host") this.#forgetIfReplaced(ns.path);
    const known = this.#open.get(key);
    if (known !== undefined) return known;
    const opened = new CachedNamespace(ns === "host" ? ownNamespaceFd() : openPath(ns.path), ns !== "host");
    this.#open.set(key, opened);
    return opened;
  }

  /** Those in use now; "host" first. */
  known(): readonly Netns[] {
    return ["host", ...[...this.#open.keys()].filter((key) => key !== "host").map((path) => ({ path }))];
  }

  /** Makes the namespace unless the path is one already. Returns whether it was made. */
  ensure(path: string): boolean {
    if (isNamespaceFile(path)) return false;
    this.#forget(path);
    const step = `make network namespace "${path}"`;
    mkdirSync(dirname(path), { recursive: true });
    // A path that was mounted over, or is left from before a reboot, is no namespace: it is only the place for one.
    closeSync(openSync(path, "a", 0o444));
    inNamespace(ownNamespaceFd(), () => {
      unshareNetwork(step);
      bindMount(step, "/proc/thread-self/ns/net", path);
    });
    return true;
  }

  /** Idempotent. The namespace itself lives on while processes or sockets are in it. */
  remove(path: string): void {
    this.#forget(path);
    removeNamespaceFile(path);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const key of [...this.#open.keys()]) this.#forget(key);
    await Promise.all(this.#closing);
  }

  #forget(key: string): void {
    const closing = this.#open.get(key)?.close();
    this.#open.delete(key);
    if (closing === undefined) return;
    const tracked = closing.finally(() => this.#closing.delete(tracked));
    this.#closing.add(tracked);
  }

  /**
   * Somebody else may have removed the namespace, or made another one at the same path (a /proc path, even by the reuse of a
   * process id). While we hold one open nothing else can have its inode.
   */
  #forgetIfReplaced(path: string): void {
    const known = this.#open.get(path);
    if (known === undefined) return;
    const now = statSync(path, { throwIfNoEntry: false });
    if (now?.ino !== known.inode || now.dev !== known.device) this.#forget(path);
  }
}

class CachedNamespace implements OpenNamespace {
  readonly fd: number;
  readonly inode: number;
  readonly device: number;
  readonly linkIndexes = new Map<string, number>();
  readonly #owned: boolean;
  #route: NetlinkSocket | undefined;
  #netfilter: NetlinkSocket | undefined;
  #reaper: LinkReaper | undefined;
  #announcer: Announcer | undefined;

  constructor(fd: number, owned: boolean) {
    this.fd = fd;
    const { ino, dev } = fstatSync(fd);
    this.inode = ino;
    this.device = dev;
    this.#owned = owned;
  }

  route(): NetlinkSocket {
    this.#route ??= inNamespace(this.fd, () => openNetlink("route"));
    return this.#route;
  }

  netfilter(): NetlinkSocket {
    this.#netfilter ??= inNamespace(this.fd, () => openNetlink("netfilter"));
    return this.#netfilter;
  }

  reaper(): LinkReaper {
    const { fd } = this;
    this.#reaper ??= new LinkReaper({ ask: this.route(), open: () => inNamespace(fd, () => openNetlink("route")) });
    return this.#reaper;
  }

  announcer(): Announcer {
    this.#announcer ??= inNamespace(this.fd, () => new Announcer());
    return this.#announcer;
  }

  /** Resolves when the last deletion is through; without one, all but the announcer is closed on return. */
  async close(): Promise<void> {
    const [route, reaper] = [this.#route, this.#reaper];
    this.#route = undefined;
    this.#reaper = undefined;
    if (reaper !== undefined) await reaper[Symbol.asyncDispose]();
    route?.[Symbol.dispose]();
    this.#netfilter?.[Symbol.dispose]();
    if (this.#owned) closeSync(this.fd);
    await this.#announcer?.[Symbol.asyncDispose]();
  }
}

/** @throws {KernelError} ENOENT */
function openPath(path: string): number {
  if (!isNamespaceFile(path)) {
    throw new KernelError("open network namespace", errno.ENOENT, `there is no network namespace at "${path}"`);
  }
  return raiseDescriptor(openSync(path, "r"));
}

export function isNamespaceFile(path: string): boolean {
  try {
    return statfsSync(path).type === NSFS_MAGIC;
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    if (code === "ENOENT" || code === "ENOTDIR") return false;
    throw error;
  }
}

/** Takes everything off the path that is mounted there (a crash between two daemons can leave two) and the file itself. */
export function removeNamespaceFile(path: string): void {
  if (!existsSync(path)) return;
  const step = `remove network namespace "${path}"`;
  while (unmount(step, path));
  try {
    rmSync(path, { force: true });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "EBUSY") throw systemError(step, errno.EBUSY);
    throw error;
  }
}

/** Paths of the namespace files in a directory: live ones, and the empty files that dead ones leave. */
export function namespaceFiles(directory: string): readonly string[] {
  if (!existsSync(directory)) return [];
  return readdirSync(directory, { withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(directory, entry.name))
    .filter((path) => isNamespaceFile(path) || statSync(path).size === 0)
    .sort(compareText);
}
