import assert from "node:assert/strict";
import { test } from "node:test";
import type { NftElement, NftTable } from "../model.ts";
import { MessageBuilder } from "../netlink/codec.ts";
import { nftError } from "./context.ts";
import { concernsTable } from "./foreign.ts";
import { elementsInListing } from "./listing.ts";
import { canonicalKey, tableComment, transaction } from "./script.ts";

const table: NftTable = { family: "ip", name: "weft", body: "set s { type mark; }" };
const element = (set: string, key: string, value?: string): NftElement => ({
  family: "ip",
  table: "weft",
  set,
  key,
  ...(value !== undefined && { value }),
});
const nothing = { removeElements: [], removeTables: [], ensureTables: [], ensureElements: [] };

test("transaction() deletes before it adds, one command per set", () => {
  const script = transaction(
    {
      ...nothing,
      removeElements: [element("m", "tcp . 80", "10.0.0.1 . 80")],
      removeTables: [{ ...table, name: "weft_old" }],
      ensureElements: [
        element("m", "tcp . 80", "10.0.0.2 . 80"),
        element("m", "tcp . 81", "10.0.0.2 . 81"),
        element("s", "1"),
      ],
    },
    [],
  );
  assert.deepEqual(script.split("\n"), [
    "delete element ip weft m { tcp . 80 }",
    "add table ip weft_old",
    "delete table ip weft_old",
    "add element ip weft m { tcp . 80 : 10.0.0.2 . 80, tcp . 81 : 10.0.0.2 . 81 }",
    "add element ip weft s { 1 }",
  ]);
  assert.equal(transaction(nothing, []), "");
});

test("transaction() gives a replaced table its elements back, and lets the new value win", () => {
  const script = transaction(
    { ...nothing, removeElements: [element("s", "0x2")], ensureTables: [table], ensureElements: [element("s", "1")] },
    [element("s", "0x00000001"), element("s", "3")],
  );
  assert.deepEqual(script.split("\n"), [
    "add table ip weft",
    "delete table ip weft",
    "table ip weft {",
    `comment "${tableComment(table)}"`,
    "set s { type mark; }",
    "}",
    "add element ip weft s { 1, 3 }",
  ]);
});

test("canonicalKey() sees through the ways nft prints", () => {
  assert.equal(canonicalKey('0x00000011 . "eth0"'), "17 . eth0");
  assert.equal(canonicalKey("tcp .  80"), "tcp . 80");
  assert.equal(canonicalKey("02:42:0A:00:00:01"), "02:42:0a:00:00:01");
});

test("elementsInListing() reads what nft 1.0.6 prints", () => {
  const listing = [
    "table ip weft {",
    '\tcomment "weft:abc"',
    "\tmap m {",
    "\t\ttype inet_proto . inet_service : ipv4_addr . inet_service",
    "\t\telements = { tcp . 8001 : 10.1.0.1 . 80,",
    "\t\t\t     tcp . 8002 : 10.1.0.2 . 80 }",
    "\t}",
    "",
    "\tset i {",
    "\t\ttype ifname",
    '\t\telements = { "br-1234" }',
    "\t}",
    "",
    "\tmap v {",
    "\t\ttype ipv6_addr : verdict",
    "\t\telements = { fd00::1 : jump s1 }",
    "\t}",
    "",
    "\tset d {",
    "\t\ttype ipv4_addr",
    "\t\tflags dynamic,timeout",
    "\t\telements = { 10.0.0.7 expires 30s }",
    "\t}",
    "",
    "\tset empty {",
    "\t\ttype ipv4_addr",
    "\t}",
    "",
    "\tchain c {",
    "\t\tip daddr { 10.0.0.1, 10.0.0.2 } drop",
    "\t}",
    "}",
    "",
  ].join("\n");
  assert.deepEqual(elementsInListing(table, listing), [
    element("m", "tcp . 8001", "10.1.0.1 . 80"),
    element("m", "tcp . 8002", "10.1.0.2 . 80"),
    element("i", '"br-1234"'),
    element("v", "fd00::1", "jump s1"),
  ]);
});

test("nftError() finds the errno in libnftables' words", () => {
  const error = nftError("step", "Error: Could not process rule: File exists\nadd element ip t m { 1 : 2 }\n   ^^^\n");
  assert.equal(error.errno, 17);
  assert.match(error.message, /^step: Error: Could not process rule: File exists \| add element/);
  assert.equal(nftError("step", "Error: syntax error").errno, 22);
});

test("concernsTable() hears of rules and chains of the tables asked for, and of what it cannot read", () => {
  const event = (type: number, family: number, table: string) =>
    new MessageBuilder((10 << 8) | type, 0)
      .raw(Uint8Array.of(family, 0, 0, 0))
      .string(1, table)
      .finish(1);
  const tables = [{ family: "ip", table: "filter" }] as const;
  const [newRule, deletedChain, newElement] = [6, 5, 12];
  assert.ok(concernsTable(event(newRule, 2, "filter"), tables));
  assert.ok(concernsTable(Buffer.concat([event(newElement, 2, "x"), event(deletedChain, 2, "filter")]), tables));
  assert.ok(!concernsTable(event(newRule, 10, "filter"), tables));
  assert.ok(!concernsTable(event(newRule, 2, "weft"), tables));
  assert.ok(!concernsTable(event(newElement, 2, "filter"), tables));
  assert.ok(concernsTable(event(newRule, 2, "weft").subarray(0, 21), tables));
});
