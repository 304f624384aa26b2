import type { RecordCodec } from "../../store/mod.ts";
import type { ContainerRecord, ContainerState } from "../model.ts";

export const containerCodec: RecordCodec<ContainerRecord> = {
  version: 1,
  upgrade: (json) => json as ContainerRecord,
};

/** Go's zero time: never. */
export const neverTime = "0001-01-01T00:00:00Z";

export function startedAtOf(state: ContainerState): string {
  return state.kind === "created" ? neverTime : state.startedAt;
}

export function exitCodeOf(state: ContainerState): number {
  if (state.kind === "created") return state.failure?.exitCode ?? 0;
  return state.kind === "running" ? 0 : state.exitCode;
}
