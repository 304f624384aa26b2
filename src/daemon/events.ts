import type { EventLog } from "../api/mod.ts";
import type { Clock } from "../base/clock.ts";
import type { EngineEvent } from "../engine/mod.ts";
import type { NetworkEvent } from "../network/mod.ts";
import type { OpenedRooms } from "./rooms.ts";

/** Brings every room's events into the one log that `docker events` reads. */
export function publishEvents(rooms: OpenedRooms, events: EventLog, clock: Clock): Disposable {
  const publish = (event: EngineEvent) => events.publish(event);
  const stack = new DisposableStack();
  stack.use(rooms.containers.events(publish));
  stack.use(rooms.images.events(publish));
  stack.use(rooms.volumes.events(publish));
  stack.use(rooms.networks.events((event) => publish(networkEvent(event, clock.wall().getTime()))));
  return stack;
}

export function networkEvent(event: NetworkEvent, timeMs: number): EngineEvent {
  const { network } = event;
  return {
    type: "network",
    action: event.action,
    id: network.id,
    attributes: {
      ...(event.containerId === undefined ? {} : { container: event.containerId }),
      name: network.spec.name,
      type: network.spec.driver,
    },
    scope: network.scope === "swarm" ? "swarm" : "local",
    timeMs,
  };
}
