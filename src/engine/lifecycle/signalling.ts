import type { Clock } from "../../base/clock.ts";
import { EngineError, messageOf } from "../../base/errors.ts";
import { type Containerd, isFailedPrecondition, isNotFound, rawMessage } from "../containerd/mod.ts";
import { parseSignal } from "../containers/signals.ts";
import type { LiveContainer, Run } from "./container.ts";

export interface SignalContext {
  readonly containerd: Containerd;
  readonly clock: Clock;
  readonly emit: (container: LiveContainer, action: string, attributes: Readonly<Record<string, string>>) => void;
}

export const sigkill = 9;
export const killWaitMs = 10_000;

/** A process that has ended meanwhile is no failure: its exit is being seen to. */
export async function signalTask(context: SignalContext, container: LiveContainer, number: number): Promise<void> {
  try {
    await context.containerd.tasks.kill({ containerId: container.id, signal: number });
  } catch (error) {
    // It ended by itself; its exit is being seen to.
    if (!isNotFound(error) && !isFailedPrecondition(error)) {
      throw new EngineError("internal", `cannot kill container: ${container.id}: ${rawMessage(error)}`, {
        cause: error,
      });
    }
  }
  context.emit(container, "kill", { signal: String(number) });
}

/** SIGKILL, and the end of the run. @throws {EngineError} `internal` when it does not come. */
export async function killRun(
  context: SignalContext,
  target: { readonly container: LiveContainer; readonly run: Run },
  signal: AbortSignal,
): Promise<void> {
  const { container, run } = target;
  await signalTask(context, container, sigkill);
  if (await finishedWithin(context.clock, { run, timeoutMs: killWaitMs }, signal)) return;
  throw new EngineError(
    "internal",
    `cannot stop container: ${container.id}: tried to kill container, but did not receive an exit event`,
  );
}

/** True when the run was over in time; without a time it waits for ever. */
export async function finishedWithin(
  clock: Clock,
  wait: { readonly run: Run; readonly timeoutMs: number | undefined },
  signal: AbortSignal,
): Promise<boolean> {
  const { run, timeoutMs } = wait;
  const giveUp = new AbortController();
  const over = run.finished.promise.then(() => true);
  const either = AbortSignal.any([giveUp.signal, signal]);
  const timeout =
    timeoutMs === undefined
      ? new Promise<never>((_, reject) => either.addEventListener("abort", () => reject(either.reason), { once: true }))
      : clock.sleep(timeoutMs, either).then(() => false);
  timeout.catch(() => {});
  try {
    return await Promise.race([over, timeout]);
  } finally {
    giveUp.abort();
  }
}

/** What `docker stop` sends. */
export function stopSignalOf(container: LiveContainer): number {
  const { stopSignal } = container.record.spec;
  return parseSignal(stopSignal === "" ? "TERM" : stopSignal);
}

/** @throws {EngineError} `invalid` in the words of `docker kill`. */
export function parsedForKill(container: LiveContainer, text: string): number {
  try {
    return parseSignal(text);
  } catch (error) {
    // compat:
    throw new EngineError("invalid", `cannot kill container: ${container.record.name}: ${messageOf(error)}`, {
      cause: error,
    });
  }
}
