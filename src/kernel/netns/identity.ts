import { statSync } from "node:fs";
import { namespaceInode, ownNamespaceFd } from "../ffi/namespace.ts";
import { isNamespaceFile } from "./namespaces.ts";

/** Inode of the network namespace this process was started in, the one called "host": equal ids are one namespace. */
export function hostNamespaceId(): number {
  return namespaceInode(ownNamespaceFd());
}

/** The same of a namespace file; undefined when there is no namespace at the path. */
export function namespaceId(path: string): number | undefined {
  return isNamespaceFile(path) ? statSync(path).ino : undefined;
}
