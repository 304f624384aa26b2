import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { create } from "@bufbuild/protobuf";
import { systemClock } from "../../base/clock.ts";
import { parseCidr } from "../../base/ip.ts";
import { aesSeal, MemoryStore } from "../../store/mod.ts";
import { type Network, NetworkSchema, NodeSchema, TaskSchema } from "../../wire/gen/swarm_objects_pb.ts";
import { NetworkAttachmentConfigSchema, TaskState } from "../../wire/gen/swarm_types_pb.ts";
import { ObjectStore } from "../state/objects.ts";
import { AddressPointers } from "./addresses.ts";
import { allocateNodes, attachTask } from "./attachments.ts";
import { allocateNetwork, vnisOf } from "./networks.ts";

const pools = [{ base: parseCidr("10.0.0.0/8"), size: 24 }];
const plain = (id: string, extra: object = {}) =>
  create(NetworkSchema, { id, spec: { annotations: { name: id }, ...extra } });

function several(...networks: readonly Network[]): readonly Network[] {
  const done: Network[] = [];
  for (const network of networks) done.push(allocateNetwork(network, { others: done, pools }));
  return done;
}

describe("allocateNetwork()", () => {
  it("gives /24 after /24 and VNIs from 4096, the gateway first", () => {
    const [a, b, c] = several(
      plain("a"),
      plain("b", { ipam: { configs: [{ subnet: "10.0.2.0/24", gateway: "10.0.2.9" }] } }),
      plain("c"),
    );
    assert.deepEqual(
      [a, b, c].map((n) => [n?.ipam?.configs[0]?.subnet, n?.ipam?.configs[0]?.gateway, n && vnisOf(n)]),
      [
        ["10.0.0.0/24", "10.0.0.1", [4096]],
        ["10.0.2.0/24", "10.0.2.9", [4097]],
        ["10.0.1.0/24", "10.0.1.1", [4098]],
      ],
    );
    assert.equal(a?.ipam?.driver?.name, "default");
    assert.equal(a?.driverState?.name, "overlay");
  });

  it("refuses overlapping subnets and taken VNIs, and keeps driver options", () => {
    const [a] = several(plain("a", { driverConfig: { options: { encrypted: "" } } }));
    assert.equal(a?.driverState?.options["encrypted"], "");
    const others = [a as Network];
    const clash = plain("b", { ipam: { configs: [{ subnet: "10.0.0.128/25" }] } });
    assert.throws(() => allocateNetwork(clash, { others, pools }), /Pool overlaps/);
    const vni = plain("b", { driverConfig: { options: { "com.docker.network.driver.overlay.vxlanid_list": "4096" } } });
    assert.throws(() => allocateNetwork(vni, { others, pools }), /vxlan id 4096/);
  });

  it("gives node-local networks a name and an IPAM driver and nothing else (T14)", () => {
    const host = allocateNetwork(plain("h", { driverConfig: { name: "host" } }), { others: [], pools });
    assert.equal(host.driverState?.name, "host");
    assert.ok(host.ipam?.driver !== undefined && host.ipam.configs.length === 0);
  });
});

describe("addresses", () => {
  async function cluster() {
    const objects = await ObjectStore.load({
      store: new MemoryStore(),
      seal: aesSeal(new Uint8Array(32)),
      clock: systemClock,
    });
    const [ingress, net] = several(plain("ingress", { ingress: true }), plain("net"));
    await objects.write((draft) => {
      draft.put("network", ingress as Network);
      draft.put("network", net as Network);
      draft.put("node", create(NodeSchema, { id: "n1" }));
      draft.put("node", create(NodeSchema, { id: "n2" }));
    });
    return objects;
  }
  const attach = (objects: ObjectStore, pointers: AddressPointers, id: string, addresses: readonly string[] = []) =>
    objects.write((draft) => {
      const networks = attachTask(
        draft,
        [create(NetworkAttachmentConfigSchema, { target: "net", addresses: [...addresses] })],
        pointers,
      );
      draft.put("task", create(TaskSchema, { id, nodeId: "n1", status: { state: TaskState.ASSIGNED }, networks }));
      allocateNodes(draft, pointers);
      return networks[0]?.addresses[0];
    });

  it("of nodes: ingress always, others while a task there uses them; all with the subnet's mask (T15)", async () => {
    const objects = await cluster();
    const pointers = new AddressPointers();
    const ofNode = (id: string) => objects.get("node", id)?.attachments.map((a) => `${a.network?.id} ${a.addresses}`);
    await objects.write((draft) => allocateNodes(draft, pointers));
    assert.deepEqual(ofNode("n1"), ["ingress 10.0.0.2/24"]);
    assert.deepEqual(ofNode("n2"), ["ingress 10.0.0.3/24"]);
    assert.equal(await attach(objects, pointers, "t1"), "10.0.1.2/24");
    assert.deepEqual(ofNode("n1"), ["ingress 10.0.0.2/24", "net 10.0.1.3/24"]);
    const before = objects.get("node", "n1")?.meta?.version?.index;
    await objects.write((draft) => allocateNodes(draft, pointers));
    assert.equal(objects.get("node", "n1")?.meta?.version?.index, before, "nothing to do writes nothing");
    await objects.write((draft) => {
      draft.delete("task", "t1");
      allocateNodes(draft, pointers);
    });
    assert.deepEqual(ofNode("n1"), ["ingress 10.0.0.2/24"]);
  });

  it("are not reused until the search wraps, but are by a new leader; static ones are honoured or refused", async () => {
    const objects = await cluster();
    const pointers = new AddressPointers();
    assert.equal(await attach(objects, pointers, "t1"), "10.0.1.2/24");
    await objects.write((draft) => draft.delete("task", "t1"));
    assert.equal(await attach(objects, pointers, "t2"), "10.0.1.4/24");
    assert.equal(await attach(objects, new AddressPointers(), "t3"), "10.0.1.2/24");
    assert.equal(await attach(objects, pointers, "t4", ["10.0.1.77"]), "10.0.1.77/24");
    await assert.rejects(attach(objects, pointers, "t5", ["10.0.1.77"]), /Address already in use/);
    await assert.rejects(attach(objects, pointers, "t6", ["10.9.1.77"]), /does not belong/);
  });

  it("run out with the reason, and tasks past RUNNING hold none", async () => {
    const objects = await cluster();
    const pointers = new AddressPointers();
    for (let i = 0; i < 252; i++) await attach(objects, pointers, `t${i}`);
    await assert.rejects(attach(objects, pointers, "more"), /no available IPv4 addresses/);
    await objects.write((draft) => {
      const task = draft.get("task", "t9");
      if (task !== undefined)
        draft.put("task", {
          ...task,
          status: { ...(task.status as NonNullable<typeof task.status>), state: TaskState.FAILED },
        });
    });
    assert.equal(await attach(objects, pointers, "more"), "10.0.1.12/24");
  });
});
