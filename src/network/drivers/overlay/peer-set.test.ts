import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { macFromIpv4, parseCidr, parseIp, parseMac } from "../../../base/ip.ts";
import type { OverlayPeer } from "../../networks.ts";
import { keyText, PeerSet } from "./peer-set.ts";

const vtep1 = parseIp("192.0.2.1");
const vtep2 = parseIp("192.0.2.2");
function peer(
  endpointId: string,
  address: string,
  vtep = vtep1,
  mac = macFromIpv4(parseCidr(address).address),
): OverlayPeer {
  return { endpointId, address: parseCidr(address), mac, vtep };
}
const address = parseCidr("10.0.1.5/24");
const mac = macFromIpv4(address.address);

test("put() and its undoing", () => {
  const set = new PeerSet();
  assert.deepEqual(set.put("a", peer("a", "10.0.1.5/24")).map(keyText), ["10.0.1.5", "02:42:0a:00:01:05"]);
  assert.deepEqual(set.put("a", peer("a", "10.0.1.5/24")), [], "the same again");
  assert.equal(set.macOf(address), mac);
  assert.equal(set.ownerOf(mac)?.vtep, vtep1);
  set.put("a", undefined);
  assert.equal(set.macOf(address), undefined);
  assert.equal(set.ownerOf(mac), undefined);
  assert.deepEqual(set.keys(), []);
});

test("of two endpoints with one address the first counts until it goes", () => {
  const set = new PeerSet();
  set.put("old", peer("old", "10.0.1.5/24", vtep1));
  set.put("new", peer("new", "10.0.1.5/24", vtep2));
  assert.equal(set.ownerOf(mac)?.vtep, vtep1);
  set.put("old", undefined);
  assert.equal(set.ownerOf(mac)?.vtep, vtep2);
  assert.equal(set.macOf(address), mac);
});

test("an update takes the old value away first", () => {
  const set = new PeerSet();
  set.put("a", peer("a", "10.0.1.5/24"));
  const changed = set.put("a", peer("a", "10.0.1.6/24", vtep2));
  assert.deepEqual(
    new Set(changed.map(keyText)),
    new Set(["10.0.1.5", "02:42:0a:00:01:05", "10.0.1.6", "02:42:0a:00:01:06"]),
  );
  assert.equal(set.macOf(address), undefined);
});

test("an endpoint of this host counts before all others", () => {
  const set = new PeerSet();
  set.put("remote", peer("remote", "10.0.1.5/24"));
  set.putLocal({ endpointId: "local", address, mac });
  assert.equal(set.macOf(address), undefined);
  assert.equal(set.ownerOf(mac), undefined);
  assert.deepEqual(set.deleteLocal("local").map(keyText), ["10.0.1.5", mac]);
  assert.equal(set.macOf(address), mac);
});

test("two addresses may share a hardware address; the entry stays until both are gone", () => {
  const set = new PeerSet();
  const shared = parseMac("02:00:00:00:00:01");
  set.put("a", peer("a", "10.0.1.5/24", vtep1, shared));
  set.put("b", peer("b", "10.0.1.6/24", vtep1, shared));
  set.put("a", undefined);
  assert.equal(set.ownerOf(shared)?.vtep, vtep1);
  assert.equal(set.macOf(parseCidr("10.0.1.6/24")), shared);
});

test("property: any sequence of events leaves what replaying the survivors in their order of arrival gives", () => {
  const event = fc.record({
    id: fc.constantFrom("a", "b", "c", "d"),
    peer: fc.option(fc.tuple(fc.constantFrom(5, 6), fc.constantFrom(vtep1, vtep2)), { nil: undefined }),
  });
  fc.assert(
    fc.property(fc.array(event, { maxLength: 30 }), (events) => {
      const set = new PeerSet();
      const survivors = new Map<string, OverlayPeer>();
      for (const { id, peer: next } of events) {
        const value = next === undefined ? undefined : peer(id, `10.0.1.${next[0]}/24`, next[1]);
        set.put(id, value);
        const before = survivors.get(id);
        if (JSON.stringify(before) === JSON.stringify(value)) continue;
        survivors.delete(id);
        if (value !== undefined) survivors.set(id, value);
      }
      for (const host of [5, 6]) {
        const wanted = [...survivors.values()].find((p) => p.address.address === `10.0.1.${host}`);
        const at = parseCidr(`10.0.1.${host}/24`);
        assert.equal(set.macOf(at), wanted?.mac);
        assert.equal(set.ownerOf(macFromIpv4(at.address))?.vtep, wanted?.vtep);
      }
    }),
  );
});
