import assert from "node:assert/strict";
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { hasCode } from "../base/errors.ts";
import { parseIp } from "../base/ip.ts";
import type { NetworkSpec } from "../network/mod.ts";
import { NodeStatus_State } from "../wire/gen/swarm_types_pb.ts";
import { eventually, initRequest, joinRequest, openTestNode, type TestNode } from "./testing.ts";

const signal = new AbortController().signal;
const managerIp = "127.0.31.1";
const workerIp = "127.0.31.2";

export const overlay = (name: string, extra: Partial<NetworkSpec> = {}): NetworkSpec => ({
  name,
  driver: "overlay",
  scope: "swarm",
  ipam: { driver: "default", options: {}, pools: [] },
  enableIpv4: true,
  enableIpv6: false,
  internal: false,
  attachable: true,
  ingress: false,
  configOnly: false,
  configFrom: undefined,
  options: {},
  labels: {},
  ...extra,
});

describe("a swarm of two of our nodes over real TLS", () => {
  let manager: TestNode;
  let worker: TestNode;
  before(async () => {
    manager = await openTestNode(managerIp);
    worker = await openTestNode(workerIp);
  });
  after(async () => {
    await worker[Symbol.asyncDispose]();
    await manager[Symbol.asyncDispose]();
  });

  it("starts as nobody's member, and says so in Docker's words", async () => {
    assert.equal(manager.swarm.info().state, "inactive");
    await assert.rejects(manager.swarm.nodes(), /This node is not a swarm manager. Use "docker swarm init"/);
    await assert.rejects(manager.swarm.leave(false, signal), /^EngineError: This node is not part of a swarm$/);
    assert.equal(manager.swarm.networks.role, "none");
  });

  it("is made by init: one ready manager with ingress on 10.0.0.0/24 and VNI 4096", async () => {
    const id = await manager.swarm.init(initRequest(managerIp), signal);
    assert.match(id, /^[0-9a-z]{25}$/);
    assert.equal(manager.swarm.info().nodeId, id);
    await eventually("active", () => manager.swarm.info().state === "active");
    const node = await manager.swarm.findNode(`host-${managerIp}`);
    assert.equal(node.id, id);
    assert.equal(node.status?.state, NodeStatus_State.READY);
    assert.equal(node.managerStatus?.addr, `${managerIp}:2377`);
    const ingress = await eventually("ingress", () => manager.ingress);
    assert.equal(ingress.network.spec.name, "ingress");
    assert.deepEqual(ingress.network.vnis, [4096]);
    assert.deepEqual(ingress.nodeAddress, { address: parseIp("10.0.0.2"), prefix: 24 });
    assert.equal(manager.gossipOptions[0]?.keys.length, 3);
    await assert.rejects(manager.swarm.init(initRequest(managerIp), signal), /already part of a swarm/);
  });

  it("refuses bad, foreign and manager tokens, each with a reason, and the node stays outside", async () => {
    const { tokens } = await manager.swarm.inspect();
    const good = tokens.worker.reveal();
    const wrongSecret = `${good.slice(0, -25)}${"0".repeat(25)}`;
    const wrongDigest = good.replace(/-[0-9a-z]{50}-/, `-${"0".repeat(50)}-`);
    const address = `${managerIp}:2377`;
    const refusals: [string, RegExp][] = [
      ["nonsense", /^EngineError: invalid join token$/],
      [wrongSecret, /rpc error: code = InvalidArgument desc = A valid join token is necessary to join this cluster/],
      [wrongDigest, /remote CA does not match fingerprint. Expected: 0{64}/],
      [tokens.manager.reveal(), /several managers are not supported by this version/],
    ];
    for (const [token, text] of refusals) {
      await assert.rejects(worker.swarm.join(joinRequest(workerIp, address, token), signal), text);
      assert.equal(worker.swarm.info().state, "inactive");
    }
    assert.equal((await manager.swarm.nodes()).length, 1);
  });

  it("takes a worker by its token", async () => {
    const { tokens } = await manager.swarm.inspect();
    await worker.swarm.join(joinRequest(workerIp, `${managerIp}:2377`, tokens.worker), signal);
    assert.equal(worker.swarm.info().state, "active");
    assert.equal(worker.swarm.info().controlAvailable, false);
    assert.deepEqual(worker.swarm.info().remoteManagers, [
      { nodeId: manager.swarm.info().nodeId, address: `${managerIp}:2377` },
    ]);
    const node = await manager.swarm.findNode(`host-${workerIp}`);
    assert.equal(node.status?.state, NodeStatus_State.READY);
    assert.match(node.status?.addr ?? "", /^127\./);
    assert.equal(node.description?.engine?.labels["test"], "yes");
    assert.ok((node.description?.tlsInfo?.certIssuerPublicKey.length ?? 0) > 0);
    const ingress = await eventually("ingress on the worker", () => worker.ingress);
    assert.deepEqual(ingress.nodeAddress, { address: parseIp("10.0.0.3"), prefix: 24 });
    await eventually("gossip joined", () => worker.gossipJoins.includes(`${managerIp}:7946`));
    await assert.rejects(worker.swarm.nodes(), /Worker nodes can't be used/);
  });

  it("attaches containers: address, network installed with the node's own address; and takes them off again", async () => {
    const network = await manager.swarm.networks.create(overlay("ov"), signal);
    assert.deepEqual(network.pools[0]?.subnet, { address: parseIp("10.0.1.0"), prefix: 24 });
    assert.deepEqual(
      manager.swarm.networks
        .list()
        .map((n) => n.spec.name)
        .sort(),
      ["ingress", "ov"],
    );

    const start = performance.now();
    const first = await worker.swarm.networks.attach({ target: "ov", addresses: [], containerId: "c1" }, signal);
    assert.ok(performance.now() - start < 1500, "no waiting for batches or ticks");
    assert.equal(first.networkId, network.id);
    assert.deepEqual(first.addresses, [{ address: parseIp("10.0.1.2"), prefix: 24 }]);
    assert.deepEqual(worker.installed.get(network.id)?.nodeAddress, { address: parseIp("10.0.1.3"), prefix: 24 });

    const onManager = await manager.swarm.networks.attach(
      { target: network.id, addresses: [parseIp("10.0.1.77")], containerId: "c2" },
      signal,
    );
    assert.deepEqual(onManager.addresses, [{ address: parseIp("10.0.1.77"), prefix: 24 }]);

    await assert.rejects(manager.swarm.networks.remove(network.id, signal), (error) => {
      assert.ok(hasCode(error, "invalid"));
      assert.match(error.message, /^rpc error: code = FailedPrecondition desc = network \w+ is in use by task \w+$/);
      return true;
    });
    await worker.swarm.networks.detach(first.attachmentId);
    await manager.swarm.networks.detach(onManager.attachmentId);
    await eventually("network gone from the nodes", () => worker.installed.size === 0 && manager.installed.size === 0);
    await manager.swarm.networks.remove(network.id, signal);
  });

  it("refuses attachments with the manager's words", async () => {
    const refused = (target: string, text: RegExp, addresses: string[] = []) =>
      assert.rejects(
        worker.swarm.networks.attach({ target, addresses: addresses.map(parseIp), containerId: "c9" }, signal),
        text,
      );
    await manager.swarm.networks.create(overlay("plain", { attachable: false }), signal);
    await refused(
      "plain",
      /Could not attach to network plain: rpc error: code = PermissionDenied desc = network plain not manually attachable/,
    );
    await refused(
      "nowhere",
      /Could not attach to network nowhere: rpc error: code = NotFound desc = network nowhere not found/,
    );
    await assert.rejects(
      manager.swarm.networks.create(overlay("plain"), signal),
      /network with name plain already exists/,
    );
    await assert.rejects(
      worker.swarm.networks.create(overlay("w"), signal),
      /Cannot create a multi-host network from a worker node/,
    );
  });

  it("survives restarts of both daemons, and finds the attachment of a container that lives on", async () => {
    await manager.swarm.networks.create(overlay("lasting"), signal);
    const before = await worker.swarm.networks.attach({ target: "lasting", addresses: [], containerId: "c3" }, signal);
    await worker.restart();
    await eventually("worker active again", () => worker.swarm.info().state === "active");
    await eventually("network installed again", () =>
      [...worker.installed.values()].some((n) => n.network.spec.name === "lasting"),
    );
    const again = await worker.swarm.networks.attach({ target: "lasting", addresses: [], containerId: "c3" }, signal);
    assert.equal(again.attachmentId, before.attachmentId);

    const nodeId = manager.swarm.info().nodeId;
    await worker.swarm.networks.attach({ target: "lasting", addresses: [], containerId: "lost" }, signal);
    const restarting = manager.restart();
    const meanwhile = worker.swarm.networks.attach({ target: "lasting", addresses: [], containerId: "c6" }, signal);
    await restarting;
    await worker.swarm.networks.detach((await meanwhile).attachmentId);
    await eventually("manager active again", () => manager.swarm.info().state === "active");
    assert.equal(manager.swarm.info().nodeId, nodeId);
    await eventually(
      "worker back",
      async () => (await manager.swarm.findNode(`host-${workerIp}`)).status?.state === NodeStatus_State.READY,
    );
    const later = await worker.swarm.networks.attach({ target: "lasting", addresses: [], containerId: "c4" }, signal);
    assert.notEqual(later.attachmentId, before.attachmentId);
    await worker.swarm.networks.detach(later.attachmentId);
    await assert.rejects(manager.swarm.networks.remove(before.networkId, signal), /is in use by task/);

    // The daemon died before "lost" got to use its attachment; "c3" lives on.
    await worker.restart();
    await worker.swarm.networks.keepOnly(new Set([before.attachmentId]));
    await eventually("worker active once more", () => worker.swarm.info().state === "active");
    await worker.swarm.networks.detach(before.attachmentId);
    await eventually("nothing holds the network", () =>
      manager.swarm.networks.remove(before.networkId, signal).then(
        () => true,
        () => false,
      ),
    );
  });

  it("keeps no key and no token readable under its data roots", async () => {
    const { cluster, tokens } = await manager.swarm.inspect();
    const secrets = [
      tokens.worker.reveal(),
      tokens.manager.reveal(),
      new TextDecoder().decode(cluster.rootCa?.caKey).split("\n")[1] as string,
      "PRIVATE KEY",
      ...cluster.networkBootstrapKeys.map(({ key }) => Buffer.from(key)),
    ];
    for (const { dataRoot } of [manager, worker]) {
      for (const entry of await readdir(dataRoot, { recursive: true, withFileTypes: true })) {
        if (!entry.isFile()) continue;
        const bytes = await readFile(join(entry.parentPath, entry.name));
        for (const secret of secrets) assert.ok(!bytes.includes(secret), `${entry.name} shows a secret`);
      }
    }
  });

  it("rotates tokens, renames nodes' availability and refuses promotion", async () => {
    const { cluster, tokens } = await manager.swarm.inspect();
    const version = cluster.meta?.version?.index as bigint;
    assert.ok(cluster.spec);
    await assert.rejects(
      manager.swarm.update(cluster.spec, version + 1n, { worker: true, manager: false }),
      /rpc error: code = Unknown desc = update out of sequence/,
    );
    await manager.swarm.update(cluster.spec, version, { worker: true, manager: false });
    const rotated = (await manager.swarm.inspect()).tokens;
    assert.notEqual(rotated.worker.reveal(), tokens.worker.reveal());
    assert.equal(rotated.manager.reveal(), tokens.manager.reveal());

    const node = await manager.swarm.findNode(`host-${workerIp}`);
    assert.ok(node.spec);
    await manager.swarm.updateNode(node.id, node.meta?.version?.index as bigint, { ...node.spec, availability: 2 });
    const drained = await manager.swarm.findNode(node.id);
    assert.equal(drained.spec?.availability, 2);
    await assert.rejects(
      manager.swarm.updateNode(node.id, drained.meta?.version?.index as bigint, { ...node.spec, desiredRole: 1 }),
      /several managers are not supported by this version/,
    );
  });

  it("removes nodes: not a ready one without force, never the manager; and a removed one is locked out", async () => {
    const { id } = await manager.swarm.findNode(`host-${workerIp}`);
    await assert.rejects(manager.swarm.removeNode(id, false), /is not down and can't be removed/);
    await assert.rejects(manager.swarm.removeNode(manager.swarm.info().nodeId, true), /is a cluster manager/);
    await manager.swarm.removeNode(id, true);
    assert.equal((await manager.swarm.nodes()).length, 1);
    await assert.rejects(
      worker.swarm.networks.attach({ target: "plain", addresses: [], containerId: "c5" }, AbortSignal.timeout(500)),
    );
  });

  it("is left by the worker, and by its last manager only with force", async () => {
    await worker.swarm.leave(false, signal);
    assert.equal(worker.swarm.info().state, "inactive");
    assert.equal(worker.swarm.networks.role, "none");
    await assert.rejects(manager.swarm.leave(false, signal), /Use `--force` to ignore this message/);
    await manager.swarm.leave(true, signal);
    assert.equal(manager.swarm.info().state, "inactive");
    await manager.swarm.init(initRequest(managerIp), signal);
    await manager.swarm.leave(true, signal);
  });
});
