import { readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import type { Log } from "../../base/log.ts";
import type { Networks } from "../../network/mod.ts";
import { Status } from "../../wire/gen/github.com/containerd/containerd/api/types/task/task_pb.ts";
import { type Containerd, isNotFound } from "../containerd/mod.ts";
import type { ContainerDirectory } from "../containers/directory.ts";
import type { ContainerPlaces, LiveContainer } from "./container.ts";
import type { Lifecycle } from "./lifecycle.ts";
import { type ObservedTask, planRecovery } from "./plan.ts";
import { restartsWithDaemon } from "./restart.ts";
import { ownerLabel, type StepContext, type StepRunner } from "./steps.ts";

export interface RecoveryContext {
  readonly containerd: Containerd;
  readonly snapshotter: string;
  readonly networks: Networks;
  readonly directory: ContainerDirectory;
  readonly lifecycle: Lifecycle;
  readonly steps: StepRunner;
  readonly sandboxRequest: StepContext["sandboxRequest"];
  readonly places: ContainerPlaces;
  readonly log: Log;
}

/**
 * Brings records and containerd together after a restart of the daemon: what runs is followed again with its streams and
 * network, what ended meanwhile is cleaned up, what was half done is finished or undone. Returns the containers that a
 * restart policy wants started now.
 */
export async function recover(context: RecoveryContext, signal: AbortSignal): Promise<readonly LiveContainer[]> {
  const tasks = await observeTasks(context.containerd);
  await sweepStrangers(context, tasks);
  for (const place of Object.values(context.places)) await sweepDirectories(place, context.directory);
  const live = new Set<string>();
  const toStart: LiveContainer[] = [];
  const recoverAndNote = async (container: LiveContainer) => {
    const ranBefore = container.isRunning;
    try {
      await recoverOne(context, container, tasks.get(container.id) ?? { kind: "none" }, signal);
    } catch (error) {
      context.log.error("cannot recover a container", { container: container.id, error });
    }
    const { record } = container;
    if (container.isRunning && record.sandboxId !== undefined) live.add(record.sandboxId);
    else if (!container.isRunning && restartsWithDaemon(record, ranBefore)) toStart.push(container);
  };
  // Owners of shared sandboxes, and those whom others link to, before those who need them.
  const containers = context.directory.all();
  await Promise.all(containers.filter((container) => !needsOthers(container)).map(recoverAndNote));
  await Promise.all(containers.filter(needsOthers).map(recoverAndNote));
  await context.networks.recovered(live, signal);
  return toStart;
}

function needsOthers({ record }: LiveContainer): boolean {
  return record.sandboxOwner !== undefined || record.spec.host.links.length > 0;
}

async function recoverOne(
  context: RecoveryContext,
  container: LiveContainer,
  task: ObservedTask,
  signal: AbortSignal,
): Promise<void> {
  const { lifecycle, networks } = context;
  const decision = planRecovery(container.record, task);
  context.log.debug("recovering a container", { container: container.id, decision: decision.kind });
  switch (decision.kind) {
    case "keep":
      container.isReleased = true;
      return;
    case "finish-removal":
      await lifecycle.finishRemoval(container, true, signal);
      return;
    case "abandon-start":
      await lifecycle.abandonStart(container, undefined);
      return;
    case "lost":
      await lifecycle.finishRun(container, container.beginRun(), { exitCode: 255, exitedAt: undefined });
      return;
    case "exit":
      await lifecycle.adoptStreams(container);
      await lifecycle.finishRun(container, container.beginRun(), decision);
      return;
    case "adopt": {
      await lifecycle.adoptStreams(container);
      const run = container.beginRun();
      await lifecycle.adopt(container, decision.pid);
      if (container.record.sandboxOwner === undefined) {
        try {
          await networks.openSandbox(context.sandboxRequest(container), signal);
        } catch (error) {
          // The process goes on; its network is reported broken, and mended by the next attempt.
          context.log.error("cannot rebuild a container's network", { container: container.id, error });
        }
      }
      lifecycle.follow(container, run);
      return;
    }
  }
}

async function observeTasks(containerd: Containerd): Promise<ReadonlyMap<string, ObservedTask>> {
  const { tasks } = await containerd.tasks.list({});
  const observed = new Map<string, ObservedTask>();
  for (const task of tasks) {
    // Which of the two holds the container's id differs between containerd's answers.
    const id = task.containerId !== "" ? task.containerId : task.id;
    observed.set(id, observedOf(task));
  }
  return observed;
}

function observedOf(task: {
  readonly status: Status;
  readonly pid: number;
  readonly exitStatus: number;
  readonly exitedAt?: { readonly seconds: bigint } | undefined;
}): ObservedTask {
  switch (task.status) {
    case Status.CREATED:
      return { kind: "created" };
    case Status.RUNNING:
    case Status.PAUSED:
    case Status.PAUSING:
      return { kind: "running", pid: task.pid };
    default: {
      const seconds = Number(task.exitedAt?.seconds ?? 0n);
      const exitedAt = seconds > 0 ? new Date(seconds * 1000).toISOString() : undefined;
      return { kind: "stopped", exitCode: task.exitStatus, exitedAt };
    }
  }
}

/** Tasks, containers and snapshots that carry our mark and belong to no record: creations and removals that died. */
async function sweepStrangers(context: RecoveryContext, tasks: ReadonlyMap<string, ObservedTask>): Promise<void> {
  const { containerd, directory, steps, log } = context;
  const marked = new Set<string>();
  const { containers } = await containerd.containers.list({});
  for (const { id, labels } of containers) if (labels[ownerLabel] === id) marked.add(id);
  for (const id of marked) {
    if (directory.get(id) !== undefined) continue;
    log.info("removing a container that no record knows", { container: id, task: tasks.get(id)?.kind ?? "none" });
    await steps.removeTask(id);
  }
  const keys: string[] = [];
  try {
    for await (const { info } of containerd.snapshots.list({ snapshotter: context.snapshotter })) {
      for (const { name, labels } of info) if (labels[ownerLabel] === name) keys.push(name);
    }
  } catch (error) {
    if (!isNotFound(error)) throw error;
  }
  for (const key of keys) if (directory.get(key) === undefined) await steps.removeSnapshot(key);
}

/** Files of containers that no record knows. */
async function sweepDirectories(place: string, directory: ContainerDirectory): Promise<void> {
  for (const name of await readdir(place)) {
    if (!/^[0-9a-f]{64}$/.test(name) || directory.get(name) !== undefined) continue;
    await rm(join(place, name), { recursive: true, force: true });
  }
}
