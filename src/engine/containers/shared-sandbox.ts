import { EngineError, messageOf } from "../../base/errors.ts";
import type { LiveContainer } from "../lifecycle/container.ts";
import type { ContainerRecord } from "../model.ts";
import type { ContainerDirectory } from "./directory.ts";

/** `container:TERM`: whose sandbox is shared. @throws {EngineError} in Docker's words when there is none to share. */
export function sandboxOwnerOf(record: ContainerRecord, directory: ContainerDirectory): LiveContainer | undefined {
  const { networkMode } = record.spec;
  if (!networkMode.startsWith("container:")) return undefined;
  let owner: LiveContainer;
  try {
    owner = directory.find(networkMode.slice("container:".length));
  } catch (error) {
    // compat:
    throw new EngineError("not-found", `joining network namespace of container: ${messageOf(error)}`, { cause: error });
  }
  if (owner.id === record.id) {
    // compat:
    throw new EngineError("invalid", "joining network namespace of container: cannot join own network namespace");
  }
  if (owner.isRunning) {
    // Sharing with one who shares is sharing with the same third.
    const { sandboxOwner } = owner.record;
    return (sandboxOwner === undefined ? undefined : directory.get(sandboxOwner)) ?? owner;
  }
  // compat:
  throw new EngineError(
    "conflict",
    `cannot join network namespace of a non running container: container ${owner.record.name} is ${owner.record.state.kind}`,
  );
}
