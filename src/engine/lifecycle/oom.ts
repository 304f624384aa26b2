import { fromBinary } from "@bufbuild/protobuf";
import type { Clock } from "../../base/clock.ts";
import type { Log } from "../../base/log.ts";
import { TaskOOMSchema } from "../../wire/gen/github.com/containerd/containerd/api/events/task_pb.ts";
import { type Containerd, isUnavailable } from "../containerd/mod.ts";

const retryMs = 500;

/** Tells which containers the kernel killed for memory; across restarts of containerd. */
export async function watchOom(
  options: { readonly containerd: Containerd; readonly clock: Clock; readonly log: Log },
  onOom: (containerId: string) => void,
  signal: AbortSignal,
): Promise<void> {
  const { containerd, clock, log } = options;
  const filter = `topic=="/tasks/oom",namespace==${containerd.namespace}`;
  while (!signal.aborted) {
    try {
      for await (const { event } of containerd.events.subscribe({ filters: [filter] }, { signal })) {
        if (event !== undefined) onOom(fromBinary(TaskOOMSchema, event.value).containerId);
      }
    } catch (error) {
      if (signal.aborted) return;
      if (!isUnavailable(error)) log.warn("the stream of containerd's events broke", { error });
    }
    await clock.sleep(retryMs, signal).catch(() => {});
  }
}
