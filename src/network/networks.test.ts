import assert from "node:assert/strict";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { EngineError } from "../base/errors.ts";
import { formatCidr, type IpAddress, parseCidr, parseIp } from "../base/ip.ts";
import { type FakeKernel, openFakeKernel } from "../kernel/mod.ts";
import { MemoryStore } from "../store/mod.ts";
import { noSwarm, openFakeNetworks } from "./fake.ts";
import type { Network, SandboxRequest, SwarmNetwork } from "./model.ts";
import type { NetworkEvent, Networks, OverlayPeer, PeerTable, RemoteName, SwarmNetworks } from "./networks.ts";
import { testNetwork, testRequest, testSpec } from "./testing.ts";

const signal = new AbortController().signal;

async function withNetworks(
  body: (world: { networks: Networks; kernel: FakeKernel; request: Requests }) => Promise<void>,
  options: { swarm?: () => SwarmNetworks; peerTable?: () => PeerTable } = {},
): Promise<void> {
  const directory = await mkdtemp(join(tmpdir(), "wn-networks-"));
  const kernel = openFakeKernel();
  const networks = await openFakeNetworks({ kernel, ...options }, signal);
  try {
    await body({ networks, kernel, request: requests(directory) });
  } finally {
    await networks[Symbol.asyncDispose]();
    await rm(directory, { recursive: true });
  }
}

type Requests = (name: string, network: string, change?: Partial<SandboxRequest>) => SandboxRequest;

function requests(directory: string): Requests {
  return (name, network, change = {}) => {
    const id = Buffer.from(name.padEnd(32, "-")).toString("hex");
    return {
      sandboxId: id,
      containerId: id,
      containerName: name,
      hostname: name,
      domainname: "",
      mode: "private",
      endpoints: [testRequest(network)],
      dns: { servers: [], search: [], options: [] },
      extraHosts: [],
      linkedHosts: [],
      publish: [],
      sysctls: {},
      filesDirectory: join(directory, name),
      ...change,
    };
  };
}

test("a fresh host has bridge, host and none, and keeps them", async () => {
  await withNetworks(async ({ networks }) => {
    const list = (await networks.list()).map(({ spec, scope }) => `${spec.name} ${spec.driver} ${scope}`);
    assert.deepEqual(list.sort(), ["bridge bridge local", "host host local", "none null local"]);
    const message = "bridge is a pre-defined network and cannot be removed";
    await assert.rejects(networks.remove("bridge", signal), { code: "forbidden", message });
  });
});

test("create() refuses in Docker's words and changes nothing", async () => {
  await withNetworks(async ({ networks }) => {
    const refused = async (change: Parameters<typeof testSpec>[1], expected: string, name = "x") =>
      assert.rejects(networks.create(testSpec(name, change), signal), { message: expected });
    const noPlugin = (name: string) => `could not find plugin ${name} in v1 plugin registry: plugin not found`;
    await refused({ driver: "nodriver" }, noPlugin("nodriver"));
    for (const driver of ["macvlan", "ipvlan"]) {
      const text = `${noPlugin(driver)} (this version of Weft has no ${driver} driver)`;
      await refused({ driver }, text);
      await refused({ driver, scope: "swarm" }, text);
    }
    await refused(
      { driver: "overlay" },
      'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node to swarm and try again.',
    );
    await refused({ driver: "host" }, 'only one instance of "host" network is allowed');
    await refused({}, "operation is not permitted on predefined none network ", "none");
    await networks.create(testSpec("x"), signal);
    await refused({}, "network with name x already exists");
    await refused(
      { ipam: { driver: "default", options: {}, pools: [{ subnet: parseCidr("172.18.0.0/24"), auxiliary: {} }] } },
      "invalid pool request: Pool overlaps with other one on this address space",
      "y",
    );
    assert.equal((await networks.list()).length, 4);
  });
});

test("check() refuses aliases and addresses on the default bridge, and unknown networks", async () => {
  await withNetworks(async ({ networks }) => {
    const check = (network: string, change: object) =>
      networks.check({ mode: "private", publish: [], endpoints: [testRequest(network, change)] });
    await assert.rejects(check("bridge", { aliases: ["db"] }), {
      message: "invalid endpoint settings:\nnetwork-scoped aliases are only supported for user-defined networks",
    });
    await assert.rejects(check("bridge", { ipv4: "172.17.0.9" as IpAddress }), {
      message: "invalid endpoint settings:\nuser-specified IP address is supported on user-defined networks only",
    });
    await assert.rejects(check("nope", {}), { message: "network nope not found" });
  });
});

test("openSandbox() gives addresses, names, files; closeSandbox() leaves nothing", async () => {
  await withNetworks(async ({ networks, kernel, request }) => {
    const events: string[] = [];
    using _ = networks.events((event: NetworkEvent) => events.push(event.action));
    await networks.create(testSpec("front"), signal);
    const empty = kernel.elements("host", { family: "ip", name: "weft" }, "everywhere");
    const publish = [
      { protocol: "tcp" as const, containerPort: 80, hostAddress: undefined, hostPortFirst: 8080, hostPortLast: 8080 },
    ];
    const wanted = request("web", "front", { publish });
    const sandbox = await networks.openSandbox(wanted, signal);
    assert.deepEqual(
      sandbox.endpoints.map((e) => e.ipv4 && formatCidr(e.ipv4)),
      ["172.18.0.2/16"],
    );
    assert.deepEqual(kernel.elements("host", { family: "ip", name: "weft" }, "everywhere"), [
      "tcp . 8080 : 172.18.0.2 . 80",
    ]);
    assert.match(await readFile(join(wanted.filesDirectory, "hosts"), "utf8"), /172\.18\.0\.2\tweb\n$/);
    assert.match(await readFile(join(wanted.filesDirectory, "resolv.conf"), "utf8"), /nameserver 127\.0\.0\.11/);
    assert.deepEqual(await networks.openSandbox(wanted, signal), sandbox, "again is the same");
    await assert.rejects(networks.remove("front", signal), /network front has active endpoints \(name:"web" id:/);
    await networks.closeSandbox(sandbox.id, signal);
    await networks.closeSandbox(sandbox.id, signal);
    assert.deepEqual(kernel.elements("host", { family: "ip", name: "weft" }, "everywhere"), empty);
    assert.deepEqual(kernel.namespaces(), []);
    await networks.remove("front", signal);
    assert.deepEqual(events, ["create", "connect", "disconnect", "destroy"]);
  });
});

test("a failed openSandbox() leaves nothing behind", async () => {
  await withNetworks(async ({ networks, kernel, request }) => {
    await networks.create(testSpec("front"), signal);
    const twice = request("web", "front", { endpoints: [testRequest("front"), testRequest("nope")] });
    await assert.rejects(networks.openSandbox(twice, signal), { message: "network nope not found" });
    assert.deepEqual(kernel.namespaces(), []);
    await networks.remove("front", signal);
  });
});

test("recovered() releases the dead and keeps the living with their addresses", async () => {
  const kernel = openFakeKernel();
  const store = new MemoryStore();
  const directory = await mkdtemp(join(tmpdir(), "wn-networks-"));
  const request = requests(directory);
  const first = await openFakeNetworks({ kernel, store }, signal);
  await first.create(testSpec("front"), signal);
  for (const name of ["a", "b"]) await first.openSandbox(request(name, "front"), signal);
  await first[Symbol.asyncDispose]();
  const second = await openFakeNetworks({ kernel: kernel.restart(), store }, signal);
  const b = await second.openSandbox(request("b", "front"), signal);
  assert.equal(b.endpoints[0]?.ipv4?.address, "172.18.0.3");
  await second.recovered(new Set([b.id]), signal);
  const front = await second.find("front");
  assert.deepEqual(
    second.endpoints(front.id).map(({ name }) => name),
    ["b"],
  );
  await second[Symbol.asyncDispose]();
  await rm(directory, { recursive: true });
});

/** A manager with one attachable network and one that is not, and the gossip of a cluster of one. */
function fakeSwarm(networks: () => Networks) {
  const overlay: Network = {
    ...testNetwork("ov", { driver: "overlay", scope: "swarm", attachable: true }, "10.0.1.0/24"),
    id: "ovovovovovovovovovovovovo",
    scope: "swarm",
    vnis: [4097],
  };
  const detached: string[] = [];
  const published: string[] = [];
  let next = 4;
  const installed: SwarmNetwork = { network: overlay, nodeAddress: parseCidr("10.0.1.3/24") };
  const swarm: SwarmNetworks = {
    ...noSwarm,
    role: "manager",
    dataPath: { address: parseIp("192.0.2.1"), portHostOrder: 4789 },
    list: () => [overlay],
    async attach({ target }) {
      if (target === "plain") {
        const text =
          "Could not attach to network plain: rpc error: code = PermissionDenied desc = network plain not manually attachable";
        throw new EngineError("internal", text);
      }
      await networks().installSwarmNetwork(installed, signal);
      return { attachmentId: "att1", networkId: overlay.id, addresses: [parseCidr(`10.0.1.${next++}/24`)] };
    },
    detach: async (id) => void detached.push(id),
  };
  const peers: PeerTable = {
    join: async () => {},
    leave: () => {},
    publishPeer: (_, peer: OverlayPeer) => void published.push(`peer ${formatCidr(peer.address)}`),
    withdrawPeer: () => void published.push("no peer"),
    publishName: (_, name: RemoteName) => void published.push(`name ${name.name} ${name.address}`),
    withdrawName: () => void published.push("no name"),
    watchPeers: () => ({ [Symbol.dispose]: () => {} }),
    watchNames: () => ({ [Symbol.dispose]: () => {} }),
    whenSynced: () => ({ [Symbol.dispose]: () => {} }),
    peers: () => [],
  };
  return { overlay, swarm, peers, detached, published };
}

test("a container on an attachable overlay: attachment, second interface on docker_gwbridge, names told", async () => {
  const holder: { networks?: Networks } = {};
  const fake = fakeSwarm(() => holder.networks as Networks);
  const options = { swarm: () => fake.swarm, peerTable: () => fake.peers };
  await withNetworks(async ({ networks, request }) => {
    holder.networks = networks;
    await assert.rejects(networks.openSandbox(request("no", "plain"), signal), /plain not manually attachable/);
    const sandbox = await networks.openSandbox(request("web", "ov"), signal);
    const shown = sandbox.endpoints.map(
      (e) => `${e.interfaceName} ${e.networkName} ${e.ipv4?.address} ${e.mac?.slice(0, 5)}`,
    );
    assert.equal(shown[0], "eth0 ov 10.0.1.4 02:42");
    assert.match(shown[1] ?? "", /^eth1 docker_gwbridge 172\.18\.0\.2/);
    const members = networks.endpoints(fake.overlay.id).map(({ key, ipv4 }) => `${key.slice(0, 5)} ${ipv4?.address}`);
    assert.deepEqual(members.sort(), ["77656 10.0.1.4", "lb-ov 10.0.1.3"]);
    const way = await networks.find("docker_gwbridge");
    assert.equal(networks.endpoints(way.id)[0]?.name, `gateway_${sandbox.id.slice(0, 12)}`);
    assert.equal(way.spec.options["com.docker.network.bridge.enable_icc"], "false");
    assert.ok(fake.published.includes("name web 10.0.1.4"));
    await networks.closeSandbox(sandbox.id, signal);
    assert.deepEqual(fake.detached, ["att1"]);
    await networks.removeSwarmNetwork(fake.overlay.id, signal);
    assert.deepEqual(networks.endpoints(fake.overlay.id), []);
  }, options);
});

test("setIngress() brings ingress-sbox and its way out; leaveSwarm() takes every swarm network", async () => {
  const fake = fakeSwarm(() => assert.fail("nobody attaches"));
  await withNetworks(
    async ({ networks }) => {
      const spec = { ...fake.overlay.spec, name: "ingress", ingress: true, attachable: false };
      const ingress: Network = { ...fake.overlay, id: "ingressingressingressingr", spec, vnis: [4096] };
      const installed = { network: ingress, nodeAddress: parseCidr("10.0.1.2/24") };
      await networks.setIngress(installed, signal);
      await networks.setIngress(installed, signal);
      assert.deepEqual(
        networks.endpoints(ingress.id).map(({ key, name }) => `${key} ${name}`),
        ["ingress-sbox ingress-endpoint"],
      );
      const way = await networks.find("docker_gwbridge");
      assert.deepEqual(
        networks.endpoints(way.id).map(({ key, name }) => `${key} ${name}`),
        ["ingress-sbox gateway_ingress-sbox"],
      );
      await networks.leaveSwarm(signal);
      assert.equal(
        (await networks.list()).some(({ id }) => id === ingress.id),
        false,
      );
      assert.deepEqual(networks.endpoints(way.id), []);
    },
    { swarm: () => fake.swarm, peerTable: () => fake.peers },
  );
});

test("every new address on a bridge is announced once, whoever chose it", async () => {
  await withNetworks(async ({ networks, kernel, request }) => {
    const a = await networks.openSandbox(request("a", "bridge"), signal);
    const [endpoint] = a.endpoints;
    assert.deepEqual(kernel.announced, [`eth0 ${endpoint?.ipv4?.address} ${endpoint?.mac}`]);
    await networks.openSandbox(request("a", "bridge"), signal);
    assert.equal(kernel.announced.length, 1);
  });
});
