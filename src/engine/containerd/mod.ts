/**
 * The adapter to containerd: its gRPC services as typed clients, and a containerd process of our own that outlives weftd.
 * Decides nothing about containers or images; those call it.
 */
export {
  type Containerd,
  type ContainerdOptions,
  isAlreadyExists,
  isFailedPrecondition,
  isNotFound,
  isUnavailable,
  openContainerd,
  rawMessage,
} from "./client.ts";
export { type ContainerdProcess, type ContainerdProcessOptions, startContainerd } from "./process.ts";
