import { create, equals } from "@bufbuild/protobuf";
import {
  type AssignmentChange,
  AssignmentChange_AssignmentAction,
  AssignmentChangeSchema,
} from "../../wire/gen/swarm_dispatcher_pb.ts";
import { type Task, TaskSchema } from "../../wire/gen/swarm_objects_pb.ts";
import { TaskState } from "../../wire/gen/swarm_types_pb.ts";
import { stateOf } from "../state/tasks.ts";

/** What one worker was last told. */
export type Told = ReadonlyMap<string, Task>;

/**
 * The difference between what a worker knows and what it should: tasks from ASSIGNED on, sent again when anything but
 * their status changed or while they are still ASSIGNED (reference: swarm-control-plane 7.4). Pure.
 */
export function planAssignments(
  told: Told,
  tasks: readonly Task[],
): { readonly changes: readonly AssignmentChange[]; readonly told: Told } {
  const next = new Map(tasks.filter((task) => stateOf(task) >= TaskState.ASSIGNED).map((task) => [task.id, task]));
  const changes: AssignmentChange[] = [];
  for (const [id, task] of next) {
    const before = told.get(id);
    if (before === undefined || isNews(before, task))
      changes.push(change(AssignmentChange_AssignmentAction.UPDATE, task));
  }
  for (const id of told.keys()) {
    if (!next.has(id)) changes.push(change(AssignmentChange_AssignmentAction.REMOVE, create(TaskSchema, { id })));
  }
  return { changes, told: next };
}

function isNews(before: Task, task: Task): boolean {
  if (before === task) return false;
  if (stateOf(task) === TaskState.ASSIGNED) return true;
  return !equals(TaskSchema, withoutStatus(before), withoutStatus(task));
}

function withoutStatus(task: Task): Task {
  const { status: _status, meta: _meta, ...rest } = task;
  return rest;
}

function change(action: AssignmentChange_AssignmentAction, task: Task): AssignmentChange {
  return create(AssignmentChangeSchema, { action, assignment: { item: { case: "task", value: task } } });
}
