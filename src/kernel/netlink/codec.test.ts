import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { DecodeError } from "../../base/errors.ts";
import { parseCidr, parseIp, parseMac } from "../../base/ip.ts";
import { decodeConnection } from "../conntrack/codec.ts";
import { decodeComment } from "../nftables/tables.ts";
import { decodeAddress, newAddress } from "./address.ts";
import {
  decodeAcknowledgement,
  decodeAttributes,
  decodeMessages,
  MessageBuilder,
  type NetlinkMessage,
} from "./codec.ts";
import { changeLink, decodeLink, deleteLink, newLink } from "./link.ts";
import { decodeNeighbour, newNeighbour } from "./neighbour.ts";
import { decodeRoute, newRoute } from "./route.ts";

const hex = (builder: MessageBuilder) => Buffer.from(builder.finish(1)).toString("hex");
const only = (bytes: Uint8Array) => decodeMessages(bytes)[0] as NetlinkMessage;
const mac = parseMac("02:42:0a:00:01:05");

// Checked against what `strace -e raw=sendmsg ip …` shows for the same requests, sequence apart.
test("requests are laid out byte by byte", () => {
  // length 0x20, RTM_DELLINK, REQUEST|ACK, sequence 1; ifinfomsg with index 7
  assert.equal(
    hex(deleteLink(7)),
    ["20000000", "11000500", "01000000", "00000000", "00000000", "07000000", "00000000", "00000000"].join(""),
  );
  // ifinfomsg flags and mask IFF_UP; IFLA_IFNAME "lo"
  assert.equal(
    hex(changeLink("lo", { up: true })),
    [
      "28000000",
      "10000500",
      "01000000",
      "00000000",
      "00000000",
      "00000000",
      "01000000",
      "01000000",
      "07000300",
      "6c6f0000",
    ].join(""),
  );
  // family 2, prefix 24, link 3; IFA_LOCAL, IFA_ADDRESS, IFA_BROADCAST
  assert.equal(
    hex(newAddress(3, parseCidr("10.0.0.2/24"), false)),
    [
      "30000000",
      "14000505",
      "01000000",
      "00000000",
      "02180000",
      "03000000",
      "08000200",
      "0a000002",
      "08000100",
      "0a000002",
      "08000400",
      "0a0000ff",
    ].join(""),
  );
  // AF_BRIDGE, link 4, PERMANENT, SELF; NDA_DST, NDA_LLADDR
  assert.equal(
    hex(newNeighbour({ kind: "fdb", linkIndex: 4, mac, vtep: parseIp("192.168.1.10") })),
    [
      "30000000",
      "1c000505",
      "01000000",
      "00000000",
      "07000000",
      "04000000",
      "80000200",
      "08000100",
      "c0a8010a",
      "0a000200",
      "02420a00",
      "01050000",
    ].join(""),
  );
  // default route: no RTA_DST; RTA_GATEWAY, RTA_OIF, RTA_TABLE
  const route = {
    destination: parseCidr("0.0.0.0/0"),
    gateway: parseIp("10.0.0.1"),
    linkIndex: 3,
    source: undefined,
    table: 254,
  };
  assert.equal(
    hex(newRoute(route, "add")),
    [
      "34000000",
      "18000506",
      "01000000",
      "00000000",
      "02000000",
      "fe030001",
      "00000000",
      "08000500",
      "0a000001",
      "08000400",
      "03000000",
      "08000f00",
      "fe000000",
    ].join(""),
  );
});

test("a veth's peer and a vxlan's parameters nest", () => {
  const peer = { namespaceFd: 9, name: "eth0", mac };
  const veth = decodeMessages(newLink({ type: "veth", name: "v0", mtuBytes: 1450, master: 5, peer }).finish(1))[0];
  assert.equal(veth?.payload.length, 16 + 8 + 8 + 8 + 8 + 4 + 12 + 4 + 4 + 16 + 12 + 12 + 8 + 8);
  const local = parseIp("10.30.10.111");
  const request = newLink({
    type: "vxlan",
    name: "vx0",
    mtuBytes: 1450,
    namespaceFd: 9,
    vni: 4097,
    portHostOrder: 4789,
    outerFamily: 4,
    local,
  });
  const vxlan = decodeLink(only(request.finish(1))).vxlan;
  assert.deepEqual(vxlan, { vni: 4097, portHostOrder: 4789, local, learning: false, proxy: true });
});

test("what is encoded decodes to the same", () => {
  const ip = fc.oneof(fc.ipV4(), fc.ipV6()).map(parseIp);
  const macs = fc
    .uint8Array({ minLength: 6, maxLength: 6 })
    .map((bytes) => parseMac([...bytes].map((b) => b.toString(16).padStart(2, "0")).join(":")));
  const index = fc.integer({ min: 1, max: 0x7fffffff });
  fc.assert(
    fc.property(ip, macs, index, (vtep, lladdr, linkIndex) => {
      const entry = { kind: "fdb", linkIndex, mac: lladdr, vtep } as const;
      assert.deepEqual(decodeNeighbour(only(newNeighbour(entry).finish(1))), entry);
      const neighbour = { kind: "neighbour", linkIndex, ip: vtep, mac: lladdr } as const;
      assert.deepEqual(decodeNeighbour(only(newNeighbour(neighbour).finish(1))), neighbour);
      const prefix = vtep.includes(":") ? 64 : 24;
      const cidr = { address: vtep, prefix };
      assert.deepEqual(decodeAddress(only(newAddress(linkIndex, cidr, true).finish(1))), { linkIndex, address: cidr });
      const route = { destination: cidr, gateway: vtep, linkIndex, source: undefined, table: 1000 };
      const { source: _, ...decoded } = route;
      assert.deepEqual(decodeRoute(only(newRoute(route, "replace").finish(1))), { ...decoded, manual: true });
    }),
  );
});

test("a refusal carries the kernel's words", () => {
  const request = deleteLink(7).finish(3);
  const capped = new MessageBuilder(2, 0x300)
    .raw(Uint8Array.of(0xed, 0xff, 0xff, 0xff, ...request.subarray(0, 16)))
    .string(1, "no such thing");
  assert.deepEqual(decodeAcknowledgement(only(capped.finish(3))), { errno: 19, text: "no such thing" });
  const plain = new MessageBuilder(2, 0).raw(Uint8Array.of(0, 0, 0, 0, ...request.subarray(0, 16)));
  assert.deepEqual(decodeAcknowledgement(only(plain.finish(3))), { errno: 0, text: undefined });
});

test("any bytes decode or give a DecodeError", () => {
  const decoders = [
    decodeLink,
    decodeAddress,
    decodeRoute,
    decodeNeighbour,
    decodeAcknowledgement,
    decodeConnection,
    (message: NetlinkMessage) => decodeAttributes(message.payload, 0),
    (message: NetlinkMessage) => decodeComment(message.payload),
  ];
  const attempt = (bytes: Uint8Array) => {
    try {
      for (const message of decodeMessages(bytes)) {
        for (const decode of decoders) {
          try {
            decode(message);
          } catch (error) {
            if (!(error instanceof DecodeError)) throw error;
          }
        }
      }
    } catch (error) {
      if (!(error instanceof DecodeError)) throw error;
    }
  };
  const seeds = [
    newLink({ type: "veth", name: "v0", mtuBytes: 1450, master: 5, peer: { namespaceFd: 9, name: "eth0", mac } }),
    newLink({
      type: "vxlan",
      name: "x",
      mtuBytes: 1450,
      namespaceFd: 9,
      vni: 7,
      portHostOrder: 4789,
      outerFamily: 6,
      local: parseIp("fd00::1"),
    }),
    changeLink(3, { port: { isolated: true, hairpin: true } }),
    newAddress(3, parseCidr("fd00::2/64"), true),
    newNeighbour({ kind: "fdb", linkIndex: 4, mac, vtep: parseIp("fd00::9") }),
  ].map((builder) => Uint8Array.from(builder.finish(1)));
  fc.assert(
    fc.property(
      fc.constantFrom(...seeds),
      fc.array(fc.tuple(fc.nat(200), fc.nat(255)), { maxLength: 6 }),
      fc.nat(200),
      (seed, edits, cut) => {
        const bytes = Uint8Array.from(seed);
        for (const [at, value] of edits) bytes[at % bytes.length] = value;
        attempt(bytes);
        attempt(bytes.subarray(0, cut % (bytes.length + 1)));
      },
    ),
    { numRuns: 2000 },
  );
  fc.assert(fc.property(fc.uint8Array({ maxLength: 200 }), attempt), { numRuns: 1000 });
});
