import { messageOf } from "../../base/errors.ts";
import type { Call, Reply, Route } from "../call.ts";
import { invalid } from "../errors.ts";
import type { Rooms } from "../rooms.ts";

export const containerWaitRoutes: readonly Route[] = [{ method: "POST", path: "/containers/{id}/wait", handle: wait }];

const conditions = ["not-running", "next-exit", "removed"] as const;

/**
 * The CLI sends `wait` before `start` and goes on when it has the headers: they are its proof that the exit can't be
 * missed any more. So the waiting begins before the reply, and the headers go out before the end.
 */
function wait(call: Call, rooms: Rooms): Reply {
  const asked = call.query.text("condition") || "not-running";
  const condition = conditions.find((name) => name === asked);
  if (condition === undefined) throw invalid(`invalid condition: ${JSON.stringify(asked)}`);
  const record = rooms.containers.find(call.params["id"] ?? "");
  const exit = rooms.containers.wait(record.id, condition, call.gone).then(
    (code) => ({ StatusCode: code }),
    (error: unknown) => ({ StatusCode: -1, Error: { Message: messageOf(error) } }),
  );
  return {
    kind: "stream",
    contentType: "application/json",
    run: async (out) => {
      out.write(`${JSON.stringify(await exit)}\n`);
    },
  };
}
