import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { systemClock } from "../base/clock.ts";
import { newHexId } from "../base/ids.ts";
import { parseCidr, parseIp } from "../base/ip.ts";
import { silentLog } from "../base/log.ts";
import { systemRandom } from "../base/random.ts";
import { Secret } from "../base/secret.ts";
import type { Gossip, GossipOptions } from "../gossip/mod.ts";
import type { Networks, SwarmNetwork } from "../network/mod.ts";
import { aesSeal, openSqliteStore } from "../store/mod.ts";
import { type OpenSwarm, openSwarm } from "./mod.ts";
import type { InitRequest, JoinRequest } from "./swarm.ts";

const forever = new AbortController().signal;

/** One daemon's swarm on a loopback address, with its network room and gossip only recorded. */
export interface TestNode extends AsyncDisposable {
  readonly ip: string;
  readonly dataRoot: string;
  swarm: OpenSwarm;
  readonly installed: Map<string, SwarmNetwork>;
  ingress: SwarmNetwork | undefined;
  readonly gossipOptions: GossipOptions[];
  readonly gossipJoins: string[];
  /** As a restart of the daemon. */
  restart(): Promise<void>;
}

export async function openTestNode(ip: string): Promise<TestNode> {
  const dataRoot = await mkdtemp(join(tmpdir(), "weft-swarm-"));
  const seal = aesSeal(systemRandom.bytes(32));
  const installed = new Map<string, SwarmNetwork>();
  const gossipOptions: GossipOptions[] = [];
  const gossipJoins: string[] = [];
  const networks = {
    async installSwarmNetwork(network: SwarmNetwork) {
      installed.set(network.network.id, network);
    },
    async removeSwarmNetwork(id: string) {
      installed.delete(id);
    },
    async setIngress(ingress: SwarmNetwork | undefined) {
      node.ingress = ingress;
    },
    async leaveSwarm() {
      installed.clear();
      node.ingress = undefined;
    },
  };
  const open = async () => {
    const store = await openSqliteStore({ path: join(dataRoot, "store.db"), log: silentLog }, forever);
    const swarm = await openSwarm(
      {
        dataRoot,
        store,
        seal,
        clock: systemClock,
        random: systemRandom,
        log: silentLog,
        kernel: { links: () => [link("eth0", `${ip}/24`)] },
        // Only what the swarm calls; the network room has its own tests.
        networks: () => networks as unknown as Networks,
        openGossip: async (options) => {
          gossipOptions.push(options);
          return recordedGossip(gossipJoins);
        },
        hostname: `host-${ip}`,
        engineVersion: "0.1.0",
        labels: { test: "yes" },
      },
      forever,
    );
    await swarm.resume(forever);
    return { swarm, store };
  };
  let opened = await open();
  const close = async () => {
    await opened.swarm[Symbol.asyncDispose]();
    await opened.store[Symbol.asyncDispose]();
  };
  const node: TestNode = {
    ip,
    dataRoot,
    swarm: opened.swarm,
    installed,
    ingress: undefined,
    gossipOptions,
    gossipJoins,
    async restart() {
      await close();
      opened = await open();
      node.swarm = opened.swarm;
    },
    async [Symbol.asyncDispose]() {
      await close();
      await rm(dataRoot, { recursive: true, force: true });
    },
  };
  return node;
}

export function initRequest(ip: string, port = 2377): InitRequest {
  return {
    listenAddress: `${ip}:${port}`,
    advertiseAddress: ip,
    dataPathAddress: "",
    dataPathPort: 0,
    forceNewCluster: false,
    autoLock: false,
    availability: "active",
    defaultAddressPools: [],
    subnetSize: 0,
    spec: undefined,
  };
}

export function joinRequest(ip: string, manager: string, token: Secret<string> | string): JoinRequest {
  return {
    listenAddress: `${ip}:2377`,
    advertiseAddress: ip,
    dataPathAddress: "",
    remoteAddresses: [manager],
    token: typeof token === "string" ? new Secret(token) : token,
    availability: "active",
  };
}

/** Looks again every few milliseconds. @throws when it is not so after five seconds. */
export async function eventually<T>(what: string, look: () => T | Promise<T>): Promise<NonNullable<T>> {
  for (let tries = 0; tries < 500; tries++) {
    const found = await look();
    if (found !== undefined && found !== null && found !== false) return found as NonNullable<T>;
    await systemClock.sleep(10, forever);
  }
  throw new Error(`not so after 5 s: ${what}`);
}

export const link = (name: string, ...addresses: readonly string[]) => ({
  index: 2,
  name,
  type: undefined,
  up: true,
  mtuBytes: 1500,
  mac: undefined,
  master: undefined,
  unit: undefined,
  addresses: addresses.map(parseCidr),
  vni: undefined,
});

function recordedGossip(joins: string[]): Gossip {
  const nothing = () => {};
  return {
    nodeName: newHexId(systemRandom).slice(0, 12),
    join: async (addresses) => {
      joins.push(...addresses);
    },
    setKeys: nothing,
    joinNetwork: async () => {},
    leaveNetwork: nothing,
    put: nothing,
    remove: nothing,
    entries: () => [],
    watch: () => ({ [Symbol.dispose]: nothing }),
    members: () => [],
    networkPeers: () => [{ name: "self", address: parseIp("127.0.0.1") }],
    leave: async () => {},
    [Symbol.asyncDispose]: async () => {},
  };
}
