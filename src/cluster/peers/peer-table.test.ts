import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { fromBinary } from "@bufbuild/protobuf";
import { parseCidr, parseIp, parseMac } from "../../base/ip.ts";
import { silentLog } from "../../base/log.ts";
import type { Gossip, TableEvent } from "../../gossip/mod.ts";
import type { OverlayPeer, RemoteName } from "../../network/mod.ts";
import { EndpointRecordSchema } from "../../wire/gen/agent_pb.ts";
import { decodeName, encodeName, encodePeer, openPeerTable } from "./peer-table.ts";

const peer: OverlayPeer = {
  endpointId: "e1",
  address: parseCidr("10.0.1.5/24"),
  mac: parseMac("02:42:0a:00:01:05"),
  vtep: parseIp("192.168.1.10"),
};
const name: RemoteName = {
  endpointId: "e1",
  name: "c1",
  serviceName: "",
  serviceId: "",
  virtualIp: undefined,
  address: parseIp("10.0.1.5"),
  serviceAliases: [],
  taskAliases: ["a", "b"],
  disabled: false,
};

describe("records", () => {
  it("of peers are the reference's bytes", () => {
    const hex = "0a0b31302e302e312e352f3234121130323a34323a30613a30303a30313a30351a0c3139322e3136382e312e3130";
    assert.equal(Buffer.from(encodePeer(peer)).toString("hex"), hex);
  });
  it("of names round-trip, with <nil> for no VIP", () => {
    const record = fromBinary(EndpointRecordSchema, encodeName(name));
    assert.equal(record.virtualIp, "<nil>");
    assert.deepEqual(decodeName("e1", record), name);
  });
});

describe("PeerTable", () => {
  function fakeGossip() {
    const calls: string[] = [];
    const watchers: { table: string; listener: (event: TableEvent) => void }[] = [];
    const gossip = {
      joinNetwork: async (id: string) => void calls.push(`join ${id}`),
      leaveNetwork: (id: string) => void calls.push(`leave ${id}`),
      put: (table: string, id: string, key: string) => void calls.push(`put ${table} ${id} ${key}`),
      remove: (table: string, id: string, key: string) => void calls.push(`remove ${table} ${id} ${key}`),
      watch: (table: string, _id: string, listener: (event: TableEvent) => void) => {
        watchers.push({ table, listener });
        return { [Symbol.dispose]: () => {} };
      },
      networkPeers: () => [],
    } as unknown as Gossip;
    return { gossip, calls, watchers };
  }

  it("passes on, ignores records that do not parse, and reports deletions", () => {
    const { gossip, watchers } = fakeGossip();
    const table = openPeerTable({ gossip: () => gossip, log: silentLog });
    const seen: unknown[] = [];
    using _watch = table.watchPeers("n", (id, found) => seen.push([id, found]));
    const event = (kind: "put" | "delete", value: Uint8Array): TableEvent => ({
      kind,
      table: "overlay_peer_table",
      networkId: "n",
      key: "e1",
      value,
      owner: "x",
    });
    watchers[0]?.listener(event("put", encodePeer(peer)));
    watchers[0]?.listener(event("put", Uint8Array.of(255, 255)));
    watchers[0]?.listener(event("put", new Uint8Array()));
    watchers[0]?.listener(event("delete", new Uint8Array()));
    assert.deepEqual(seen, [
      ["e1", peer],
      ["e1", undefined],
    ]);
  });

  it("tells a gossip that opens later everything that is in force", async () => {
    let current: Gossip | undefined;
    const table = openPeerTable({ gossip: () => current, log: silentLog });
    await table.join("n");
    await table.join("gone");
    table.publishPeer("n", peer);
    table.publishName("n", name);
    table.publishPeer("gone", peer);
    table.withdrawName("n", "e1");
    table.leave("gone");
    using _watch = table.watchNames("n", () => {});
    const { gossip, calls, watchers } = fakeGossip();
    current = gossip;
    table.reopened();
    assert.deepEqual(calls, ["join n", "put overlay_peer_table n e1"]);
    assert.equal(watchers.length, 1);
  });

  it("joins a network once in each gossip, however often it is asked", async () => {
    const first = fakeGossip();
    let current = first.gossip;
    const table = openPeerTable({ gossip: () => current, log: silentLog });
    await table.join("n");
    await table.join("n");
    table.reopened();
    assert.deepEqual(first.calls, ["join n"]);
    table.leave("n");
    await table.join("n");
    assert.deepEqual(first.calls, ["join n", "leave n", "join n"]);
    const second = fakeGossip();
    current = second.gossip;
    table.reopened();
    await table.join("n");
    assert.deepEqual(second.calls, ["join n"]);
  });

  it("says once when the first exchange about a network is over, in whichever gossip that is", async () => {
    const told: string[] = [];
    const joins: (() => void)[] = [];
    const open = () =>
      ({
        joinNetwork: () => new Promise<void>((resolve) => joins.push(resolve)),
        leaveNetwork: () => {},
      }) as unknown as Gossip;
    let current: Gossip | undefined;
    const table = openPeerTable({ gossip: () => current, log: silentLog });
    table.whenSynced("n", () => told.push("n"));
    table.whenSynced("other", () => told.push("other"));
    using dropped = table.whenSynced("n", () => told.push("dropped"));
    await table.join("n");
    current = open();
    table.reopened();
    dropped[Symbol.dispose]();
    const first = current;
    current = undefined;
    joins[0]?.(); // as a gossip does that is closed
    await new Promise(setImmediate);
    assert.deepEqual(told, []);
    current = open();
    assert.notEqual(current, first);
    table.reopened();
    joins[1]?.();
    await new Promise(setImmediate);
    assert.deepEqual(told, ["n"]);
    table.reopened();
    await new Promise(setImmediate);
    assert.deepEqual(told, ["n"]);
  });
});
