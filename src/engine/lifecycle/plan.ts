import type { ContainerRecord } from "../model.ts";

/**
 * What a container's life is made of. Each step is idempotent: `ensure` finds or makes, `remove` and `close` do not mind
 * what is gone already. Steps of one phase run side by side.
 */
export type StepKind =
  | "snapshot.ensure"
  | "volumes.fill"
  | "files.ensure"
  | "record.write"
  | "sandbox.prepare"
  | "sandbox.open"
  | "task.ensure"
  | "task.start"
  | "task.kill"
  | "output.drain"
  | "task.remove"
  | "sandbox.close"
  | "snapshot.remove"
  | "files.remove"
  | "volumes.remove"
  | "record.remove";

export interface Step {
  readonly kind: StepKind;
  readonly phase: number;
}

/** What containerd has under a container's id. */
export type ObservedTask =
  | { readonly kind: "none" }
  | { readonly kind: "created" }
  | { readonly kind: "running"; readonly pid: number }
  | { readonly kind: "stopped"; readonly exitCode: number; readonly exitedAt: string | undefined };

function inPhases(...phases: readonly (readonly StepKind[])[]): readonly Step[] {
  return phases.flatMap((kinds, phase) => kinds.map((kind) => ({ kind, phase })));
}

/** The record comes last: until it is there the container does not exist, and recovery removes the rest. */
export function planCreate(fillsVolumes: boolean): readonly Step[] {
  return inPhases(["snapshot.ensure", "files.ensure"], fillsVolumes ? ["volumes.fill"] : [], ["record.write"]);
}

/** The runtime is started while the network is being built; the process only once both are there. */
export function planStart(container: ContainerRecord): readonly Step[] {
  if (container.sandboxOwner !== undefined) return inPhases(["record.write"], ["task.ensure"], ["task.start"]);
  return inPhases(["record.write"], ["sandbox.prepare"], ["sandbox.open", "task.ensure"], ["task.start"]);
}

/**
 * After an exit, or a start that failed (nothing `ran` then): all that belongs to a run goes, the container stays. A task
 * that was made and never started is killed first: its shim waits two seconds for output before it lets it be removed.
 */
export function planRelease(container: ContainerRecord, ran: boolean): readonly Step[] {
  return inPhases(...releasePhases(container, ran));
}

/** The end of a run, as far as others can see it. */
export function planLeave(container: ContainerRecord): readonly Step[] {
  const ownsSandbox = container.sandboxId !== undefined && container.sandboxOwner === undefined;
  return inPhases(["output.drain", ...(ownsSandbox ? (["sandbox.close"] as const) : [])]);
}

/** What others may want at once of a container that is being removed. */
export function planForget(container: ContainerRecord): readonly Step[] {
  return container.removeVolumes === true ? inPhases(["volumes.remove"]) : [];
}

function releasePhases(container: ContainerRecord, ran: boolean): readonly (readonly StepKind[])[] {
  const ownsSandbox = container.sandboxId !== undefined && container.sandboxOwner === undefined;
  const remove: readonly StepKind[] = ["task.remove", ...(ownsSandbox ? (["sandbox.close"] as const) : [])];
  return ran ? [["output.drain", ...remove]] : [["task.kill"], remove];
}

/** The record goes last, so that a removal that died half-way is taken up again. `isReleased`: nothing of a run is left. */
export function planRemove(container: ContainerRecord, isReleased: boolean): readonly Step[] {
  return inPhases(
    ...(isReleased ? [] : releasePhases(container, false)),
    ["snapshot.remove", "files.remove", ...(container.removeVolumes === true ? (["volumes.remove"] as const) : [])],
    ["record.remove"],
  );
}

/** What start-up does with one container, from its record and what containerd shows. */
export type Recovery =
  | { readonly kind: "keep" }
  /** Its process runs: take its streams and its network up again. */
  | { readonly kind: "adopt"; readonly pid: number }
  /** It ended while nobody looked. */
  | { readonly kind: "exit"; readonly exitCode: number; readonly exitedAt: string | undefined }
  /** A start that was under way and did not get to the process. */
  | { readonly kind: "abandon-start" }
  /** The machine was restarted under it. */
  | { readonly kind: "lost" }
  | { readonly kind: "finish-removal" };

export function planRecovery(container: ContainerRecord, task: ObservedTask): Recovery {
  const { state } = container;
  if (state.kind === "removing") return { kind: "finish-removal" };
  // `--rm`: its end had been written down, its removal not yet.
  if (state.kind === "exited" && container.spec.host.autoRemove) return { kind: "finish-removal" };
  switch (task.kind) {
    case "running":
      return { kind: "adopt", pid: task.pid };
    case "stopped":
      return { kind: "exit", exitCode: task.exitCode, exitedAt: task.exitedAt };
    case "created":
      return { kind: "abandon-start" };
    case "none":
      if (state.kind === "running") return { kind: "lost" };
      return container.sandboxId === undefined ? { kind: "keep" } : { kind: "abandon-start" };
  }
}
