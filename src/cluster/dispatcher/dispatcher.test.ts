import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { create } from "@bufbuild/protobuf";
import { durationMs } from "@bufbuild/protobuf/wkt";
import { Code, type ConnectError } from "@connectrpc/connect";
import type { Clock } from "../../base/clock.ts";
import { systemClock } from "../../base/clock.ts";
import { silentLog } from "../../base/log.ts";
import { seededRandom } from "../../base/random.ts";
import { aesSeal, MemoryStore } from "../../store/mod.ts";
import {
  AssignmentChange_AssignmentAction,
  SessionRequestSchema,
  UpdateTaskStatusRequestSchema,
} from "../../wire/gen/swarm_dispatcher_pb.ts";
import { ClusterSchema, NodeSchema, TaskSchema } from "../../wire/gen/swarm_objects_pb.ts";
import { NodeStatus_State, PeerSchema, TaskState } from "../../wire/gen/swarm_types_pb.ts";
import { ObjectStore } from "../state/objects.ts";
import { planAssignments } from "./assignments.ts";
import { Dispatcher } from "./dispatcher.ts";

/** Timers fire when told to. */
function manualClock() {
  let now = 0;
  const timers = new Set<{ readonly at: number; readonly run: () => void }>();
  const clock: Clock = {
    ...systemClock,
    now: () => now,
    after(delayMs, run) {
      const timer = { at: now + delayMs, run };
      timers.add(timer);
      return { [Symbol.dispose]: () => timers.delete(timer) };
    },
  };
  const advance = (ms: number) => {
    now += ms;
    for (const timer of [...timers]) {
      if (timer.at > now || !timers.delete(timer)) continue;
      timer.run();
    }
  };
  return { clock, advance };
}

async function setUp() {
  const { clock, advance } = manualClock();
  const objects = await ObjectStore.load({ store: new MemoryStore(), seal: aesSeal(new Uint8Array(32)), clock });
  await objects.write((draft) => {
    draft.put("cluster", create(ClusterSchema, { id: "c", rootCa: { caCert: Uint8Array.of(1) } }));
    for (const id of ["n1", "n2"])
      draft.put("node", create(NodeSchema, { id, status: { state: NodeStatus_State.READY } }));
    draft.put(
      "task",
      create(TaskSchema, {
        id: "t1",
        nodeId: "n1",
        status: { state: TaskState.ASSIGNED },
        spec: { runtime: { case: "attachment", value: {} } },
      }),
    );
  });
  const peer = create(PeerSchema, { nodeId: "m", addr: "10.0.0.1:2377" });
  const dispatcher = new Dispatcher({
    objects,
    clock,
    random: seededRandom(1),
    log: silentLog,
    managers: () => [peer],
    nodeId: "m",
    reallocate: () => {},
  });
  const stop = new AbortController();
  const session = async (nodeId: string, sessionId = "", isOurs = false) => {
    const stream = dispatcher.session(
      { nodeId, address: "10.0.0.9", isOurs },
      create(SessionRequestSchema, { sessionId }),
      stop.signal,
    );
    const first = await stream.next();
    assert.ok(first.done !== true);
    return { stream, message: first.value };
  };
  const stateOf = (id: string) => objects.get("node", id)?.status;
  const settle = () => objects.write(() => {});
  return { objects, dispatcher, advance, session, stateOf, settle, stop };
}

describe("Dispatcher", () => {
  it("registers a node: all five fields, READY with its address; the same session id goes on", async () => {
    const { session, stateOf, dispatcher } = await setUp();
    const { message } = await session("n1");
    assert.match(message.sessionId, /^[0-9a-z]{25}$/);
    assert.equal(message.node?.id, "n1");
    assert.deepEqual(
      message.managers.map(({ peer, weight }) => [peer?.addr, weight]),
      [["10.0.0.1:2377", 10n]],
    );
    assert.deepEqual(message.RootCA, Uint8Array.of(1));
    assert.equal(stateOf("n1")?.state, NodeStatus_State.READY);
    assert.equal(stateOf("n1")?.addr, "10.0.0.9");
    assert.equal((await session("n1", message.sessionId)).message.sessionId, message.sessionId);
    dispatcher[Symbol.dispose]();
  });

  it("marks a node down after three periods without a heartbeat, and ends its streams", async () => {
    const { session, stateOf, dispatcher, advance, settle } = await setUp();
    const { stream, message } = await session("n1");
    advance(14_000);
    const period = durationMs(
      dispatcher.heartbeat("n1", message.sessionId).period ?? {
        seconds: 0n,
        nanos: 0,
        $typeName: "google.protobuf.Duration",
      },
    );
    assert.ok(period >= 4500 && period < 5500);
    advance(13_000);
    await settle();
    assert.equal(stateOf("n1")?.state, NodeStatus_State.READY);
    const next = stream.next().then(
      () => assert.fail("ends"),
      (error: ConnectError) => error,
    );
    advance(4000);
    await settle();
    assert.equal(stateOf("n1")?.state, NodeStatus_State.DOWN);
    assert.equal(stateOf("n1")?.message, "heartbeat failure");
    assert.equal((await next).code, Code.Aborted);
    assert.throws(() => dispatcher.heartbeat("n1", message.sessionId), /node not registered/);
    dispatcher[Symbol.dispose]();
  });

  it("gives known nodes a longer grace after its own start", async () => {
    const { dispatcher, stateOf, advance, settle, session } = await setUp();
    await dispatcher.start();
    assert.equal(stateOf("n1")?.state, NodeStatus_State.UNKNOWN);
    await session("n2");
    advance(29_000);
    await settle();
    assert.equal(stateOf("n1")?.state, NodeStatus_State.UNKNOWN);
    advance(2000);
    await settle();
    assert.equal(stateOf("n1")?.state, NodeStatus_State.DOWN);
    dispatcher[Symbol.dispose]();
  });

  it("refuses unknown nodes, wrong sessions and too many registrations", async () => {
    const { dispatcher, session, advance } = await setUp();
    await assert.rejects(session("nobody"), /node not registered/);
    await session("n1");
    assert.throws(() => dispatcher.heartbeat("n1", "other"), /session invalid/);
    await session("n1");
    await session("n1");
    await assert.rejects(session("n1"), /node n1 exceeded rate limit count of registrations/);
    for (let i = 0; i < 20; i++) await session("n2", "", true);
    await assert.rejects(session("n2", "", true), /node n2 exceeded rate limit count of registrations/);
    advance(8_001);
    await session("n1");
    dispatcher[Symbol.dispose]();
  });

  it("lets a node that registered too often in again, though it kept asking", async () => {
    const { session, advance } = await setUp();
    for (let i = 0; i < 3; i++) await session("n1");
    for (let i = 0; i < 4; i++) {
      await assert.rejects(session("n1"), /exceeded rate limit/);
      advance(2000);
    }
    advance(1);
    await session("n1");
  });

  it("takes statuses upwards only, of own tasks only, and forgets attachments that ended", async () => {
    const { dispatcher, session, objects, settle } = await setUp();
    const one = (await session("n1")).message.sessionId;
    const two = (await session("n2")).message.sessionId;
    const update = (sessionId: string, state: TaskState) =>
      create(UpdateTaskStatusRequestSchema, {
        sessionId,
        updates: [
          { taskId: "t1", status: { state } },
          { taskId: "unknown", status: { state } },
        ],
      });
    dispatcher.updateTaskStatus("n1", update(one, TaskState.RUNNING));
    await settle();
    assert.equal(objects.get("task", "t1")?.status?.state, TaskState.RUNNING);
    assert.equal(objects.get("task", "t1")?.status?.appliedBy, "m");
    dispatcher.updateTaskStatus("n1", update(one, TaskState.PREPARING));
    await settle();
    assert.equal(objects.get("task", "t1")?.status?.state, TaskState.RUNNING);
    assert.throws(
      () => dispatcher.updateTaskStatus("n2", update(two, TaskState.FAILED)),
      (error: ConnectError) => error.code === Code.PermissionDenied,
    );
    dispatcher.updateTaskStatus("n1", update(one, TaskState.SHUTDOWN));
    await settle();
    assert.equal(objects.get("task", "t1"), undefined);
    dispatcher[Symbol.dispose]();
  });

  it("streams assignments: first all, then each change with an unbroken chain of references", async () => {
    const { dispatcher, session, objects, stop } = await setUp();
    const sessionId = (await session("n1")).message.sessionId;
    const stream = dispatcher.assignments({ nodeId: "n1", sessionId, isOurs: true }, stop.signal);
    const first = (await stream.next()).value;
    assert.deepEqual([first?.appliesTo, first?.resultsIn, first?.changes.length], ["", "1", 1]);
    await objects.write((draft) => draft.delete("task", "t1"));
    const second = (await stream.next()).value;
    assert.deepEqual([second?.appliesTo, second?.resultsIn], ["1", "2"]);
    assert.equal(second?.changes[0]?.action, AssignmentChange_AssignmentAction.REMOVE);
    stop.abort(new Error("done"));
    await assert.rejects(stream.next(), /done/);
    dispatcher[Symbol.dispose]();
  });
});

describe("planAssignments()", () => {
  const task = (state: TaskState, fields: object = {}) => create(TaskSchema, { id: "t", status: { state }, ...fields });
  const told = (state: TaskState, fields: object = {}) => new Map([["t", task(state, fields)]]);
  it("leaves out what is not assigned, and does not echo statuses", () => {
    assert.equal(planAssignments(new Map(), [task(TaskState.PENDING)]).changes.length, 0);
    assert.equal(planAssignments(told(TaskState.ASSIGNED), [task(TaskState.RUNNING)]).changes.length, 0);
  });
  it("sends again what changed, and what is still ASSIGNED", () => {
    assert.equal(
      planAssignments(told(TaskState.RUNNING), [task(TaskState.RUNNING, { desiredState: TaskState.SHUTDOWN })]).changes
        .length,
      1,
    );
    assert.equal(planAssignments(told(TaskState.ASSIGNED), [task(TaskState.ASSIGNED)]).changes.length, 1);
  });
});
