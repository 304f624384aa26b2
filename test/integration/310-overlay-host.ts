// One host of 310-overlay-vxlan.test.ts: a kernel and an overlay driver in a namespace, told what to do over IPC.
import { execFile } from "node:child_process";
import { join } from "node:path";
import { promisify } from "node:util";
import { systemClock } from "../../src/base/clock.ts";
import { messageOf } from "../../src/base/errors.ts";
import { parseIp } from "../../src/base/ip.ts";
import { openLog } from "../../src/base/log.ts";
import { type LinkInfo, openKernel } from "../../src/kernel/mod.ts";
import { openOverlayDriver } from "../../src/network/drivers/overlay/mod.ts";
import type { Endpoint, Network, OverlayPeer, PeerTable } from "../../src/network/mod.ts";

export type ToHost = { readonly id: number } & (
  | { readonly kind: "join" | "leave"; readonly network: Network; readonly endpoint: Endpoint }
  | { readonly kind: "peer"; readonly endpointId: string; readonly peer: OverlayPeer | undefined }
  | { readonly kind: "exec"; readonly endpoint: Endpoint | undefined; readonly command: readonly string[] }
  | { readonly kind: "links"; readonly path: string | undefined }
);
export type FromHost =
  | {
      readonly kind: "done";
      readonly id: number;
      readonly error?: string;
      readonly output?: string;
      readonly links?: readonly LinkInfo[];
    }
  | { readonly kind: "peer"; readonly endpointId: string; readonly peer: OverlayPeer | undefined };

const [, , directory, address] = process.argv as [string, string, string, string];
const signal = new AbortController().signal;
const log = openLog(() => "warn");
const kernel = await openKernel({ log }, signal);
const known = new Map<string, OverlayPeer>();
const listeners = new Set<(endpointId: string, peer: OverlayPeer | undefined) => void>();

const peers: PeerTable = {
  join: async () => {},
  leave() {},
  publishPeer: (_id, peer) => tell({ kind: "peer", endpointId: peer.endpointId, peer }),
  withdrawPeer: (_id, endpointId) => tell({ kind: "peer", endpointId, peer: undefined }),
  publishName() {},
  withdrawName() {},
  watchPeers(_id, listener) {
    listeners.add(listener);
    for (const [endpointId, peer] of known) listener(endpointId, peer);
    return { [Symbol.dispose]: () => void listeners.delete(listener) };
  },
  watchNames: () => ({ [Symbol.dispose]() {} }),
  whenSynced: () => ({ [Symbol.dispose]() {} }),
  peers: () => [],
};
const driver = openOverlayDriver({
  kernel,
  peers,
  swarm: () => ({ dataPath: { address: parseIp(address), portHostOrder: 4789 } }),
  netnsDirectory: directory,
  clock: systemClock,
  log,
});

function tell(message: FromHost): void {
  process.send?.(message);
}

const sandboxPath = (endpoint: Endpoint) => join(directory, endpoint.sandboxId);

async function perform(message: ToHost): Promise<Omit<FromHost & { kind: "done" }, "kind" | "id">> {
  switch (message.kind) {
    case "join": {
      const path = sandboxPath(message.endpoint);
      const ns = { path };
      const unit = `sandbox/${message.endpoint.sandboxId}`;
      await kernel.reconcile(
        unit,
        [
          { kind: "netns", path },
          { kind: "link", ns, link: { type: "loopback" } },
        ],
        signal,
      );
      await driver.join(message.network, message.endpoint, path, signal);
      return {};
    }
    case "leave":
      await driver.leave(message.network, message.endpoint, signal);
      await kernel.reconcile(`sandbox/${message.endpoint.sandboxId}`, [], signal);
      return {};
    case "peer":
      if (message.peer === undefined) known.delete(message.endpointId);
      else known.set(message.endpointId, message.peer);
      for (const listener of listeners) listener(message.endpointId, message.peer);
      await driver.settle();
      return {};
    case "exec": {
      const inside = message.endpoint === undefined ? [] : ["nsenter", `--net=${sandboxPath(message.endpoint)}`, "--"];
      const [program, ...args] = [...inside, ...message.command];
      const { stdout, stderr } = await promisify(execFile)(program as string, args);
      return { output: stdout + stderr };
    }
    case "links":
      return { links: kernel.links(message.path === undefined ? "host" : { path: message.path }) };
  }
}

process.on("message", (message: ToHost) => {
  // Failures are part of the answer, so nothing is left to reject.
  void perform(message).then(
    (result) => tell({ kind: "done", id: message.id, ...result }),
    (error: unknown) => tell({ kind: "done", id: message.id, error: messageOf(error) }),
  );
});
process.on("disconnect", () => process.exit(0));
tell({ kind: "done", id: 0 });
