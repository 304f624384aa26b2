// A node of ours for the swarm tests: real store, TLS and gossip in the namespace it is started in; the network room only
// keeps a record. Takes one JSON command per line on stdin and answers each with one line.
import { createInterface } from "node:readline";
import { systemClock } from "../../../src/base/clock.ts";
import { parseCidr, parseIp } from "../../../src/base/ip.ts";
import { openLog } from "../../../src/base/log.ts";
import { systemRandom } from "../../../src/base/random.ts";
import { Secret } from "../../../src/base/secret.ts";
import { openSwarm } from "../../../src/cluster/mod.ts";
import { openGossip } from "../../../src/gossip/mod.ts";
import type { NetworkSpec, Networks, SwarmNetwork } from "../../../src/network/mod.ts";
import { aesSeal, openSqliteStore } from "../../../src/store/mod.ts";

const [dataRoot, address] = process.argv.slice(2) as [string, string];
const log = openLog(() => "info");
const stop = new AbortController();
const { signal } = stop;
const installed = new Map<string, SwarmNetwork>();
let ingress: SwarmNetwork | undefined;
const networks = {
  installSwarmNetwork: async (network: SwarmNetwork) => void installed.set(network.network.id, network),
  removeSwarmNetwork: async (id: string) => void installed.delete(id),
  setIngress: async (network: SwarmNetwork | undefined) => {
    ingress = network;
  },
  leaveSwarm: async () => installed.clear(),
};
const eth0 = {
  ...{ index: 2, name: "eth0", type: "veth", up: true, mtuBytes: 1500, mac: undefined, master: undefined },
  ...{ unit: undefined, vni: undefined, addresses: [parseCidr(`${address}/24`)] },
};
await using store = await openSqliteStore({ path: `${dataRoot}/store.db`, log }, signal);
await using swarm = await openSwarm(
  {
    ...{ dataRoot, store, log, seal: aesSeal(new Uint8Array(32).fill(1)), clock: systemClock, random: systemRandom },
    kernel: { links: () => [eth0] },
    networks: () => networks as unknown as Networks,
    openGossip: (options) => openGossip({ clock: systemClock, random: systemRandom, log }, options, signal),
    ...{ hostname: "weft-node", engineVersion: "0.1.0", labels: {} },
  },
  signal,
);
await swarm.resume(signal);

const attachable = (name: string): NetworkSpec => ({
  ...{ name, driver: "overlay", scope: "swarm", ipam: { driver: "default", options: {}, pools: [] } },
  ...{ enableIpv4: true, enableIpv6: false, internal: false, attachable: true, ingress: false, configOnly: false },
  ...{ configFrom: undefined, options: {}, labels: {} },
});
const addresses = {
  listenAddress: "",
  advertiseAddress: address,
  dataPathAddress: "",
  availability: "active",
} as const;

const commands: Readonly<Record<string, (argument: string) => Promise<unknown>>> = {
  init: async () => {
    const rest = { dataPathPort: 0, forceNewCluster: false, autoLock: false, defaultAddressPools: [], subnetSize: 0 };
    await swarm.init({ ...addresses, ...rest, spec: undefined }, signal);
    return (await swarm.inspect()).tokens.worker.reveal();
  },
  join: async (argument) => {
    const [remote, token] = argument.split(" ") as [string, string];
    await swarm.join({ ...addresses, remoteAddresses: [remote], token: new Secret(token) }, signal);
    return swarm.info();
  },
  leave: () => swarm.leave(true, signal),
  nodes: async () =>
    (await swarm.nodes()).map((node) => ({
      id: node.id,
      hostname: node.description?.hostname,
      engine: node.description?.engine?.engineVersion,
      state: node.status?.state,
      address: node.status?.addr,
    })),
  removeNode: (id) => swarm.removeNode(id, true),
  members: async () => swarm.gossip()?.members() ?? [],
  ingress: async () => ingress ?? null,
  installed: async () => [...installed.values()],
  createNetwork: async (name) => (await swarm.networks.create(attachable(name), signal)).id,
  removeNetwork: (id) => swarm.networks.remove(id, signal),
  attach: (target) => swarm.networks.attach({ target, addresses: [], containerId: "c1" }, signal),
  attachAt: (argument) => {
    const [target, ip] = argument.split(" ") as [string, string];
    return swarm.networks.attach({ target, addresses: [parseIp(ip)], containerId: "c2" }, signal);
  },
  detach: (id) => swarm.networks.detach(id),
};

console.log(JSON.stringify({ ready: true }));
for await (const line of createInterface({ input: process.stdin })) {
  const { name, argument } = JSON.parse(line) as { name: string; argument: string };
  try {
    console.log(JSON.stringify({ result: (await commands[name]?.(argument)) ?? null }));
  } catch (error) {
    console.log(JSON.stringify({ error: String(error) }));
  }
}
