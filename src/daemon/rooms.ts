import { hostname } from "node:os";
import { join } from "node:path";
import { EngineError, messageOf } from "../base/errors.ts";
import { type OpenSwarm, openSwarm } from "../cluster/mod.ts";
import {
  type Containerd,
  type HostContainers,
  type HostVolumes,
  type Images,
  openContainerd,
  openContainers,
  openImages,
  openVolumes,
  startContainerd,
} from "../engine/mod.ts";
import { type GossipOptions, openGossip } from "../gossip/mod.ts";
import { openKernel } from "../kernel/mod.ts";
import { type Networks, openNetworks, removeForwardRule } from "../network/mod.ts";
import { aesSeal, openSqliteStore } from "../store/mod.ts";
import type { DaemonOptions } from "./daemon.ts";
import { packageVersion } from "./host-facts.ts";

/** Every room, open. */
export interface OpenedRooms extends AsyncDisposable {
  readonly containers: HostContainers;
  readonly images: Images;
  readonly volumes: HostVolumes;
  readonly networks: Networks;
  readonly swarm: OpenSwarm;
  readonly containerd: {
    readonly containerdAddress: string;
    readonly containerdVersion: () => Promise<{ readonly version: string; readonly revision: string }>;
  };
}

interface RoomsOptions extends DaemonOptions {
  /** `<data root>/weft`. */
  readonly ownRoot: string;
  readonly sealKey: Uint8Array;
}

/**
 * Opens the rooms from the bottom up: store, kernel and containerd side by side, then images and volumes, networks, the
 * swarm, and the containers, whose recovery needs all of them.
 */
export async function openRooms(options: RoomsOptions, signal: AbortSignal): Promise<OpenedRooms> {
  const { config, clock, random } = options;
  const { dataRoot, execRoot } = config();
  const log = (room: string) => options.log.child({ room });
  await using stack = new AsyncDisposableStack();

  const [store, kernel, containerd] = await openTogether(stack, [
    openSqliteStore({ path: join(options.ownRoot, "weft.db"), log: log("store") }, signal),
    openKernel({ log: log("kernel") }, signal),
    openRuntime(options, signal),
  ]);
  const base = { store, seal: aesSeal(options.sealKey), clock, random };

  const version = await packageVersion();
  const volumes = await openVolumes({ ...base, dataRoot, log: log("volumes") }, signal);
  const images = stack.use(
    await openImages(
      {
        ...base,
        containerd: containerd.client,
        log: log("images"),
        // A getter: SIGHUP may change it.
        get insecureRegistries() {
          return config().registry.insecureRegistries;
        },
        proxyEnv: { ...process.env, ...config().registry.proxyEnvironment },
        maxConcurrentDownloads: config().registry.maximumConcurrentDownloads,
        userAgent: `weft/${version}`,
      },
      signal,
    ),
  );
  const swarm = stack.use(
    await openSwarm(
      {
        ...base,
        dataRoot,
        kernel,
        log: log("swarm"),
        networks: () => networks,
        openGossip: (gossipOptions: GossipOptions) =>
          // It lives as long as the swarm room says: ended by its owner, with a goodbye, not by the stop signal.
          openGossip({ clock, random, log: log("gossip") }, gossipOptions, new AbortController().signal),
        hostname: hostname(),
        engineVersion: version,
        labels: engineLabels(config().labels),
      },
      signal,
    ),
  );
  // After the networks have closed: until then they put it back.
  stack.defer(async () => {
    if (config().liveRestore) return;
    await removeForwardRule({ chains: kernel.foreignChains, log: log("network") }, new AbortController().signal);
  });
  const networks: Networks = stack.use(
    await openNetworks(
      {
        ...base,
        kernel,
        log: log("network"),
        execRoot,
        config: config().networks,
        swarm: () => swarm.networks,
        peerTable: () => swarm.peerTable,
      },
      signal,
    ),
  );
  // Before the containers: recovering one on an overlay needs the node's data path address, which is the membership's.
  await swarm.resume(signal);
  const containers = stack.use(
    await openContainers(
      { ...base, dataRoot, execRoot, containerd: containerd.client, networks, images, volumes, log: log("engine") },
      signal,
    ),
  );
  await swarm.networks.keepOnly(attachmentsInUse(containers, networks));
  const owned = stack.move();
  return {
    ...{ containers, images, volumes, networks, swarm },
    containerd: {
      containerdAddress: containerd.address,
      containerdVersion: () => containerd.client.version.version({}),
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

/** Attachments of what runs; the swarm gives up those that an earlier weftd asked for and did not get to use. */
function attachmentsInUse(containers: HostContainers, networks: Networks): ReadonlySet<string> {
  const sandboxes = containers.list().flatMap((record) => record.sandboxId ?? []);
  const endpoints = sandboxes.flatMap((id) => networks.sandbox(id)?.endpoints ?? []);
  return new Set(endpoints.flatMap((endpoint) => endpoint.attachmentId ?? []));
}

/** `key=value` labels, as the node tells them to its managers. */
function engineLabels(labels: readonly string[]): Readonly<Record<string, string>> {
  return Object.fromEntries(
    labels.map((label) => [label.slice(0, label.indexOf("=")), label.slice(label.indexOf("=") + 1)]),
  );
}

interface Runtime extends AsyncDisposable {
  readonly client: Containerd;
  readonly address: string;
}

/** An outside containerd where one is named, else our own, which outlives weftd unless everything is to stop with it. */
async function openRuntime(options: RoomsOptions, signal: AbortSignal): Promise<Runtime> {
  const { containerdAddress, containerdNamespace, dataRoot, execRoot } = options.config();
  await using stack = new AsyncDisposableStack();
  let address = containerdAddress;
  if (address === undefined) {
    const started = await startContainerd(
      {
        root: join(dataRoot, "containerd"),
        state: join(execRoot, "containerd"),
        log: options.log.child({ room: "containerd" }),
        clock: options.clock,
      },
      signal,
    );
    stack.use(started);
    stack.defer(async () => {
      if (!options.config().liveRestore) await started.stop();
    });
    address = started.socketPath;
  }
  const client = stack.use(openContainerd({ socketPath: address, namespace: containerdNamespace }));
  try {
    await client.version.version({}, { signal });
  } catch (cause) {
    throw new EngineError("unavailable", `cannot reach containerd at ${address}: ${messageOf(cause)}`, { cause });
  }
  const owned = stack.move();
  return { client, address, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}

/** Waits for all, and owns those that opened even when another failed. */
async function openTogether<T extends readonly AsyncDisposable[]>(
  stack: AsyncDisposableStack,
  opening: { readonly [K in keyof T]: Promise<T[K]> },
): Promise<T> {
  const results = await Promise.allSettled(opening as readonly Promise<AsyncDisposable>[]);
  for (const result of results) if (result.status === "fulfilled") stack.use(result.value);
  for (const result of results) if (result.status === "rejected") throw result.reason;
  return results.map((result) => (result as PromiseFulfilledResult<AsyncDisposable>).value) as unknown as T;
}
