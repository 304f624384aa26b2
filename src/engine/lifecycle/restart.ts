import type { ContainerRecord } from "../model.ts";

const firstDelayMs = 100;
const longestDelayMs = 60_000;
/** A run this long counts as a success: the delay begins anew. */
const settledAfterMs = 10_000;

/** Whether a container that exited by itself is started again. Pure. */
export function restartsAfterExit(container: ContainerRecord, exitCode: number): boolean {
  const { restartPolicy: policy } = container.spec.host;
  if (container.stoppedByUser === true) return false;
  switch (policy.name) {
    case "always":
    case "unless-stopped":
      return true;
    case "on-failure":
      return exitCode !== 0 && (policy.maximumRetryCount === 0 || container.restartCount < policy.maximumRetryCount);
    default:
      return false;
  }
}

/** Whether a container that is not running is started with the daemon. */
export function restartsWithDaemon(container: ContainerRecord, ranBefore: boolean): boolean {
  const { restartPolicy: policy } = container.spec.host;
  if (container.state.kind === "created" || container.state.kind === "removing") return false;
  if (policy.name === "always") return true;
  if (container.stoppedByUser === true) return false;
  if (policy.name === "unless-stopped") return true;
  return policy.name === "on-failure" && ranBefore && restartsAfterExit(container, exitCodeIn(container));
}

function exitCodeIn(container: ContainerRecord): number {
  return container.state.kind === "exited" ? container.state.exitCode : 0;
}

/** Doubles from 100 ms to a minute. */
export function nextRestartDelayMs(previousMs: number, ranForMs: number): number {
  if (previousMs === 0 || ranForMs >= settledAfterMs) return firstDelayMs;
  return Math.min(previousMs * 2, longestDelayMs);
}
