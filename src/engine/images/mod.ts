/**
 * Images on this host: names, registries, archives, and how they become content, snapshots and records of containerd.
 * Decides nothing about containers; who uses an image is asked of the caller. Calls containerd and registries.
 */
export { type ImagesDeps, openImages } from "./images.ts";
export { hostPlatform, type Platform } from "./platform.ts";
export {
  canonicalString,
  familiarName,
  familiarString,
  parseReference,
  type Reference,
  repositoryName,
  withDefaultTag,
} from "./reference.ts";
