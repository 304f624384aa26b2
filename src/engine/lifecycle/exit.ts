import { withSignal } from "../../base/async.ts";
import type { Clock } from "../../base/clock.ts";
import type { Log } from "../../base/log.ts";
import { type Containerd, isNotFound, isUnavailable } from "../containerd/mod.ts";

/** How a run ended, as containerd tells. */
export interface Exit {
  readonly exitCode: number;
  readonly exitedAt: string | undefined;
}

/** A `wait` that has been sent already: before the start, so that a process that ends at once is not missed. */
export type PendingExit = ReturnType<Containerd["tasks"]["wait"]>;

const retryMs = 200;

/** Survives restarts of containerd. undefined: the daemon ends. */
export async function awaitExit(
  context: { readonly containerd: Containerd; readonly clock: Clock; readonly log: Log },
  wait: { readonly containerId: string; readonly first: PendingExit },
  signal: AbortSignal,
): Promise<Exit | undefined> {
  const { containerId, first } = wait;
  for (let waiting = first; !signal.aborted; ) {
    try {
      const response = await withSignal(waiting, signal);
      return { exitCode: response.exitStatus, exitedAt: formatTimestamp(response.exitedAt) };
    } catch (error) {
      if (signal.aborted) return undefined;
      if (isNotFound(error)) return { exitCode: 255, exitedAt: undefined };
      if (!isUnavailable(error)) context.log.warn("waiting for a container failed", { container: containerId, error });
      await context.clock.sleep(retryMs, signal).catch(() => {});
      waiting = context.containerd.tasks.wait({ containerId });
      waiting.catch(() => {});
    }
  }
  return undefined;
}

function formatTimestamp(time: { readonly seconds: bigint; readonly nanos: number } | undefined): string | undefined {
  if (time === undefined) return undefined;
  const text = new Date(Number(time.seconds) * 1000).toISOString();
  return text.replace(/\.\d+Z$/, `.${String(time.nanos).padStart(9, "0")}Z`);
}
