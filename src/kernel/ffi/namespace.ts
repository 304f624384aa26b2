import { closeSync, fstatSync, openSync } from "node:fs";
import { InvariantError } from "../../base/errors.ts";
import { setNamespace, systemError } from "./libc.ts";

/**
 * The main thread's own network namespace, opened before it ever left it. It stays open for the life of the process:
 * it is the only way back.
 */
let home: number | undefined;

export function ownNamespaceFd(): number {
  home ??= openSync("/proc/thread-self/ns/net", "r");
  return home;
}

/** Inode of a network namespace: two descriptors of one namespace have the same. */
export function namespaceInode(fd: number): number {
  return fstatSync(fd).ino;
}

/**
 * Runs `body` with the main thread inside the namespace of `fd`. The body must be synchronous, and must not be the first to
 * use libuv's thread pool: its threads would live in that namespace for ever (openKernel warms the pool before).
 * A thread that cannot come back would build the next thing in the wrong namespace, hence the abort.
 */
export function inNamespace<T>(fd: number, body: () => T): T {
  const back = ownNamespaceFd();
  const number = setNamespace(fd);
  if (number !== 0) throw systemError("enter network namespace", number);
  let result: T;
  try {
    result = body();
  } finally {
    if (setNamespace(back) !== 0) process.abort();
  }
  if (result instanceof Promise) throw new InvariantError("a body run inside a namespace must be synchronous");
  return result;
}

export function openNamespaceFile(path: string): number {
  return openSync(path, "r");
}

export function closeNamespaceFile(fd: number): void {
  closeSync(fd);
}
