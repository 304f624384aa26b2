import assert from "node:assert/strict";
import { test } from "node:test";
import type { ContainerRecord, ContainerState } from "../model.ts";
import {
  type ObservedTask,
  planCreate,
  planForget,
  planLeave,
  planRecovery,
  planRelease,
  planRemove,
  planStart,
  type Step,
} from "./plan.ts";
import { nextRestartDelayMs, restartsAfterExit, restartsWithDaemon } from "./restart.ts";

const exited: ContainerState = {
  kind: "exited",
  exitCode: 1,
  startedAt: "",
  finishedAt: "",
  oomKilled: false,
  error: "",
};
const running: ContainerState = { kind: "running", pid: 1, startedAt: "" };

function container(changes: Partial<ContainerRecord>, policy = "no", maximumRetryCount = 0): ContainerRecord {
  const restartPolicy = { name: policy, maximumRetryCount };
  return { state: exited, restartCount: 0, spec: { host: { restartPolicy } }, ...changes } as ContainerRecord;
}

const show = (steps: readonly Step[]) => steps.map(({ phase, kind }) => `${phase} ${kind}`).join("\n");

test("plans read as the life of a container", () => {
  assert.equal(show(planCreate(true)), "0 snapshot.ensure\n0 files.ensure\n1 volumes.fill\n2 record.write");
  assert.equal(
    show(planStart(container({}))),
    "0 record.write\n1 sandbox.prepare\n2 sandbox.open\n2 task.ensure\n3 task.start",
  );
  assert.equal(show(planStart(container({ sandboxOwner: "o" }))), "0 record.write\n1 task.ensure\n2 task.start");
  assert.equal(
    show(planRelease(container({ sandboxId: "s" }), true)),
    "0 output.drain\n0 task.remove\n0 sandbox.close",
  );
  assert.equal(
    show(planRelease(container({ sandboxId: "s", sandboxOwner: "o" }), false)),
    "0 task.kill\n1 task.remove",
  );
  assert.equal(
    show(planRemove(container({ removeVolumes: true }), false)),
    "0 task.kill\n1 task.remove\n2 snapshot.remove\n2 files.remove\n2 volumes.remove\n3 record.remove",
  );
  assert.equal(show(planLeave(container({ sandboxId: "s" }))), "0 output.drain\n0 sandbox.close");
  assert.equal(show(planForget(container({ removeVolumes: true }))), "0 volumes.remove");
  assert.equal(show(planRemove(container({}), true)), "0 snapshot.remove\n0 files.remove\n1 record.remove");
});

test("planRecovery() decides by record and task", () => {
  const task = { none: { kind: "none" }, created: { kind: "created" }, running: { kind: "running", pid: 7 } } as const;
  const stopped: ObservedTask = { kind: "stopped", exitCode: 3, exitedAt: undefined };
  const removing: ContainerState = { kind: "removing", exitCode: 0, startedAt: "", finishedAt: "" };
  const kind = (record: Partial<ContainerRecord>, observed: ObservedTask) =>
    planRecovery(container(record), observed).kind;
  assert.equal(kind({}, task.none), "keep");
  assert.equal(kind({ sandboxId: "s" }, task.none), "abandon-start");
  assert.equal(kind({ sandboxId: "s" }, task.created), "abandon-start");
  assert.equal(kind({ sandboxId: "s" }, task.running), "adopt");
  assert.equal(kind({ state: running, sandboxId: "s" }, task.running), "adopt");
  assert.equal(kind({ state: running, sandboxId: "s" }, stopped), "exit");
  assert.equal(kind({ state: running, sandboxId: "s" }, task.none), "lost");
  assert.equal(kind({ state: removing }, task.running), "finish-removal");
});

test("restart policies", () => {
  assert.ok(!restartsAfterExit(container({}), 1));
  assert.ok(restartsAfterExit(container({}, "always"), 0));
  assert.ok(!restartsAfterExit(container({ stoppedByUser: true }, "always"), 137));
  assert.ok(!restartsAfterExit(container({}, "on-failure"), 0));
  assert.ok(restartsAfterExit(container({ restartCount: 50 }, "on-failure"), 1));
  assert.ok(restartsAfterExit(container({ restartCount: 1 }, "on-failure", 2), 1));
  assert.ok(!restartsAfterExit(container({ restartCount: 2 }, "on-failure", 2), 1));
  assert.ok(restartsWithDaemon(container({ stoppedByUser: true }, "always"), false));
  assert.ok(!restartsWithDaemon(container({ stoppedByUser: true }, "unless-stopped"), false));
  assert.ok(!restartsWithDaemon(container({ state: { kind: "created" } }, "always"), false));
});

test("delays double up to a minute, and begin anew after a run that held", () => {
  const delays = [0, 1, 2, 3].reduce<number[]>((seen) => [...seen, nextRestartDelayMs(seen.at(-1) ?? 0, 0)], []);
  assert.deepEqual(delays, [100, 200, 400, 800]);
  assert.equal(nextRestartDelayMs(50_000, 0), 60_000);
  assert.equal(nextRestartDelayMs(50_000, 11_000), 100);
});
