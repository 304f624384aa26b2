import assert from "node:assert/strict";
import { test } from "node:test";
import { type IpAddress, parseIp } from "../../base/ip.ts";
import type { NameRecord } from "./mod.ts";
import { openNameTable } from "./mod.ts";

const ips = (...texts: string[]): IpAddress[] => texts.map(parseIp);
const plain = (names: string[], ...addresses: string[]): NameRecord => ({ names, addresses: ips(...addresses) });
const noLinks = new Map<string, string>();
const net = (id: string, name: string, links: ReadonlyMap<string, string> = noLinks) => ({ id, name, links });

function task(names: string[], address: string, service: Partial<NonNullable<NameRecord["service"]>>): NameRecord {
  return {
    ...plain(names, address),
    service: { names: ["web"], virtualIp: undefined, disabled: false, ...service },
  };
}

test("names and aliases are found in any case and shared by several endpoints", () => {
  const table = openNameTable();
  table.set("n1", "a", plain(["Web1", "app", "0123456789ab"], "10.0.0.2", "fd00::2"));
  table.set("n1", "b", plain(["web2", "app"], "10.0.0.3"));
  const view = table.view(() => [net("n1", "front")]);
  assert.deepEqual(view.lookup("WEB1", 4), ips("10.0.0.2"));
  assert.deepEqual(view.lookup("web1.Front", 6), ips("fd00::2"));
  assert.deepEqual(view.lookup("app", 4), ips("10.0.0.2", "10.0.0.3"));
  assert.deepEqual(view.lookup("web2", 6), [], "known, without an address of that family");
  assert.equal(view.lookup("web3", 4), undefined);
  assert.equal(view.lookup("web1.back", 4), undefined);
  assert.equal(view.reverse(parseIp("10.0.0.2")), "Web1.front");
  assert.equal(view.reverse(parseIp("fd00::2")), "Web1.front");
  assert.equal(view.reverse(parseIp("10.0.0.9")), undefined);
  table.delete("n1", "a");
  assert.deepEqual(view.lookup("app", 4), ips("10.0.0.3"));
  assert.equal(view.lookup("web1", 4), undefined);
  assert.equal(view.reverse(parseIp("10.0.0.2")), undefined);
  table.deleteNetwork("n1");
  assert.equal(view.lookup("app", 4), undefined);
});

test("a record set again replaces the old one", () => {
  const table = openNameTable();
  const view = table.view(() => [net("n1", "front")]);
  table.set("n1", "a", plain(["old"], "10.0.0.2"));
  table.set("n1", "a", plain(["new"], "10.0.0.3"));
  assert.equal(view.lookup("old", 4), undefined);
  assert.deepEqual(view.lookup("new", 4), ips("10.0.0.3"));
  assert.equal(view.reverse(parseIp("10.0.0.2")), undefined);
});

test("an address that two endpoints claim for a while keeps the reverse name that is left", () => {
  const table = openNameTable();
  const view = table.view(() => [net("n1", "front")]);
  table.set("n1", "old", plain(["a"], "10.0.0.2"));
  table.set("n1", "new", plain(["b"], "10.0.0.2"));
  assert.equal(view.reverse(parseIp("10.0.0.2")), "a.front");
  table.delete("n1", "old");
  assert.equal(view.reverse(parseIp("10.0.0.2")), "b.front");
});

test("lookup() tries a.b.c, a.b in c, a in b.c, networks in order", () => {
  const table = openNameTable();
  table.set("n1", "e1", plain(["db"], "10.1.0.2"));
  table.set("n2", "e2", plain(["db", "a.b"], "10.2.0.2"));
  table.set("n3", "e3", plain(["a"], "10.3.0.2"));
  const view = table.view(() => [net("n1", "one"), net("n2", "two"), net("n3", "x.y")]);
  assert.deepEqual(view.lookup("db", 4), ips("10.1.0.2"));
  assert.deepEqual(view.lookup("db.two", 4), ips("10.2.0.2"));
  assert.deepEqual(view.lookup("a.b", 4), ips("10.2.0.2"));
  assert.deepEqual(view.lookup("a.b.two", 4), ips("10.2.0.2"));
  assert.deepEqual(view.lookup("a.x.y", 4), ips("10.3.0.2"));
  const other = table.view(() => [net("n2", "two"), net("n1", "one")]);
  assert.deepEqual(other.lookup("db", 4), ips("10.2.0.2"));
});

test("link aliases come before names, and an address of the family before an empty answer", () => {
  const table = openNameTable();
  table.set("n1", "e1", plain(["db"], "10.1.0.2"));
  table.set("n1", "e2", plain(["store"], "10.1.0.3"));
  table.set("n2", "e3", plain(["db"], "fd00::2"));
  const links = new Map([["DB", "store"]]);
  assert.deepEqual(table.view(() => [net("n1", "one", links)]).lookup("db", 4), ips("10.1.0.3"));
  assert.deepEqual(table.view(() => [net("n1", "one", links)]).lookup("db.one", 4), ips("10.1.0.3"));
  assert.deepEqual(table.view(() => [net("n1", "one"), net("n2", "two")]).lookup("db", 6), ips("fd00::2"));
});

test("services: the virtual IP, tasks.NAME, and draining", () => {
  const table = openNameTable();
  const view = table.view(() => [net("n1", "front")]);
  const virtualIp = parseIp("10.0.0.9");
  table.set("n1", "a", task(["web.1.x"], "10.0.0.2", { names: ["web", "alias"], virtualIp }));
  table.set("n1", "b", task(["web.2.y"], "10.0.0.3", { names: ["web", "alias"], virtualIp }));
  assert.deepEqual(view.lookup("web", 4), [virtualIp]);
  assert.deepEqual(view.lookup("alias", 4), [virtualIp]);
  assert.deepEqual(view.lookup("web", 6), []);
  assert.deepEqual(view.lookup("tasks.web", 4), ips("10.0.0.2", "10.0.0.3"));
  assert.deepEqual(view.lookup("tasks.web.front", 4), ips("10.0.0.2", "10.0.0.3"));
  assert.deepEqual(view.lookup("web.1.x", 4), ips("10.0.0.2"));
  assert.equal(view.reverse(virtualIp), "web.front");
  table.set("n1", "a", task(["web.1.x"], "10.0.0.2", { names: ["web", "alias"], virtualIp, disabled: true }));
  assert.deepEqual(view.lookup("tasks.alias", 4), ips("10.0.0.3"));
  assert.equal(view.lookup("web.1.x", 4), undefined);
  table.delete("n1", "b");
  assert.deepEqual(view.lookup("web", 4), [virtualIp], "a draining backend is one still");
  table.delete("n1", "a");
  assert.equal(view.lookup("web", 4), undefined);
});

test("services without a virtual IP answer with their tasks", () => {
  const table = openNameTable();
  const view = table.view(() => [net("n1", "front")]);
  table.set("n1", "a", task(["web.1.x"], "10.0.0.2", {}));
  table.set("n1", "b", task(["web.2.y"], "10.0.0.3", {}));
  assert.deepEqual(view.lookup("web", 4), ips("10.0.0.2", "10.0.0.3"));
  table.set("n1", "b", task(["web.2.y"], "10.0.0.3", { disabled: true }));
  assert.deepEqual(view.lookup("web", 4), ips("10.0.0.2"));
});
