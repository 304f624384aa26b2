import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { type Api, EventLog, type HostFacts, openApi } from "../api/mod.ts";
import type { Clock } from "../base/clock.ts";
import type { Log } from "../base/log.ts";
import type { Random } from "../base/random.ts";
import { apiSettings } from "./api-settings.ts";
import type { DaemonConfig } from "./config.ts";
import { publishEvents } from "./events.ts";
import { gatherHostFacts } from "./host-facts.ts";
import { claimPidFile } from "./pid-file.ts";
import { type OpenedRooms, openRooms } from "./rooms.ts";
import { engineId, sealKey } from "./secrets.ts";

export interface DaemonOptions {
  /** Read at every use where SIGHUP may change it. */
  readonly config: () => DaemonConfig;
  readonly log: Log;
  readonly clock: Clock;
  readonly random: Random;
}

/** The running daemon. Closed: the API first, then the containers unless live restore is on, then the rooms in reverse. */
export interface Daemon extends AsyncDisposable {
  readonly addresses: readonly string[];
  /** After the configuration was read again. */
  reloaded(): void;
}

/** Takes the data root, opens every room, recovers what runs, and listens last: whoever gets an answer gets a true one. */
export async function openDaemon(options: DaemonOptions, signal: AbortSignal): Promise<Daemon> {
  const { config, log, clock } = options;
  await using stack = new AsyncDisposableStack();
  const { dataRoot, execRoot, pidFile } = config();
  const ownRoot = join(dataRoot, "weft");
  // Containers' users must be able to walk through to their volumes, but not to look around.
  await mkdir(dataRoot, { recursive: true, mode: 0o711 });
  await mkdir(execRoot, { recursive: true, mode: 0o711 });
  await mkdir(ownRoot, { recursive: true, mode: 0o700 });
  stack.use(await claimPidFile(pidFile, "pid file"));
  stack.use(await claimPidFile(join(ownRoot, "weftd.pid"), "data root's lock"));

  const events = new EventLog();
  const [key, id] = await Promise.all([sealKey(join(ownRoot, "seal.key")), engineId(join(ownRoot, "engine-id"))]);
  const rooms = stack.use(await openRooms({ ...options, ownRoot, sealKey: key }, signal));
  stack.use(publishEvents(rooms, events, clock));
  const host = await gatherHostFacts({ id, ...rooms.containerd });
  // Only a daemon that has served stops its containers on the way out: one that could not listen leaves them alone.
  const serving = { begun: false };
  stack.defer(async () => {
    if (serving.begun) await stopContainers(rooms, options);
  });
  const api: Api = stack.use(
    await openApi({ rooms: apiRooms(rooms, host, events, options), listeners: config().listeners, log }, signal),
  );
  serving.begun = true;

  const owned = stack.move();
  return {
    addresses: api.addresses,
    reloaded: () => announceReload(events, host, options),
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

function apiRooms(rooms: OpenedRooms, host: HostFacts, events: EventLog, options: DaemonOptions) {
  const { config, clock, log } = options;
  const { containers, images, volumes, networks, swarm } = rooms;
  return {
    ...{ containers, images, volumes, networks, swarm, events, host, clock },
    log: log.child({ room: "api" }),
    settings: () => apiSettings(config()),
  };
}

/** Docker stops containers with the daemon unless live restore is on; each within its own time, all within the daemon's. */
async function stopContainers(rooms: OpenedRooms, options: DaemonOptions): Promise<void> {
  const { liveRestore, shutdownTimeoutSeconds } = options.config();
  if (liveRestore) return;
  const limit =
    shutdownTimeoutSeconds < 0 ? new AbortController().signal : options.clock.timeout(shutdownTimeoutSeconds * 1000);
  try {
    await rooms.containers.stopAll(limit);
  } catch (error) {
    options.log.warn("not every container could be stopped", { error });
  }
}

function announceReload(events: EventLog, host: HostFacts, options: DaemonOptions): void {
  const config = options.config();
  events.publish({
    type: "daemon",
    action: "reload",
    id: host.id,
    attributes: {
      name: host.hostname,
      debug: String(config.debug),
      labels: JSON.stringify(config.labels),
      "insecure-registries": JSON.stringify(config.registry.insecureRegistries),
      "registry-mirrors": JSON.stringify(config.registry.mirrors),
      "live-restore": String(config.liveRestore),
      "shutdown-timeout": String(config.shutdownTimeoutSeconds),
    },
    scope: "local",
    timeMs: options.clock.wall().getTime(),
  });
}
