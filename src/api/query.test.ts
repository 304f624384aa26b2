import assert from "node:assert/strict";
import { test } from "node:test";
import { Filters } from "./filters.ts";
import { Query } from "./query.ts";
import { Router } from "./router.ts";
import { allRoutes } from "./routes/all.ts";
import { referenceMatches } from "./routes/images.ts";
import { splitVersion } from "./version.ts";

test("splitVersion() serves 1.24 to 1.50 and says so in Docker's words", () => {
  assert.deepEqual(splitVersion("/v1.24/info"), { version: 24, rest: "/info" });
  assert.deepEqual(splitVersion("/info"), { version: 50, rest: "/info" });
  assert.throws(() => splitVersion("/v1.99/info"), {
    message: "client version 1.99 is too new. Maximum supported API version is 1.50",
  });
  assert.throws(() => splitVersion("/v1.20/info"), {
    message:
      "client version 1.20 is too old. Minimum supported API version is 1.24, please upgrade your client to a newer version",
  });
});

test("Router.find() prefers earlier routes, takes slashes only where told", () => {
  const router = new Router(allRoutes);
  const at = (method: string, path: string) => router.find(method, path);
  assert.equal(at("GET", "/containers/json")?.route.path, "/containers/json");
  assert.deepEqual(at("GET", "/containers/a%2Fb/json")?.params, { id: "a/b" });
  assert.equal(at("GET", "/containers/a/b/json"), undefined);
  assert.deepEqual(at("GET", "/images/r:5000/a/b:1/json")?.params, { name: "r:5000/a/b:1" });
  assert.equal(at("GET", "/containers/%zz/json"), undefined);
  assert.equal(at("PATCH", "/info"), undefined);
  assert.equal(at("POST", "/containers/x/attach")?.route.hijack !== undefined, true);
});

test("no two routes are the same", () => {
  const names = allRoutes.map((route) => `${route.method} ${route.path}`);
  assert.equal(new Set(names).size, names.length);
});

test("Filters takes both spellings and refuses what it does not know", () => {
  const filters = Filters.parse('{"name":["a","^b$"],"label":{"x=1":true,"y":false}}', ["name", "label"]);
  assert.equal(filters.match("name", "xay"), true);
  assert.equal(filters.match("name", "bb"), false);
  assert.equal(filters.labels({ x: "1" }), true);
  assert.equal(filters.labels({ x: "2" }), false);
  assert.throws(() => Filters.parse('{"zz":["a"]}', ["name"]), { message: "invalid filter 'zz'" });
  for (const bad of ["bad", "[]", "1", '{"name":1}']) {
    assert.throws(() => Filters.parse(bad, ["name"]), { message: "invalid filter" });
  }
});

test("Query reads truth values, numbers and times as Docker does", () => {
  const query = new Query(new URLSearchParams("a=1&b=0&c=no&d=yes&n=12&t=1.5&r=2026-01-02T03:04:05Z&bad=x"));
  assert.deepEqual(
    ["a", "b", "c", "d", "e"].map((name) => query.flag(name)),
    [true, false, false, true, false],
  );
  assert.equal(query.integer("n"), 12);
  assert.equal(query.integer("none"), undefined);
  assert.equal(query.time("t")?.getTime(), 1500);
  assert.equal(query.time("r")?.getTime(), Date.UTC(2026, 0, 2, 3, 4, 5));
  assert.throws(() => query.integer("bad"), { code: "invalid" });
  assert.throws(() => query.time("bad"), { code: "invalid" });
});

test("referenceMatches() matches names with and without tag, stars within one part", () => {
  assert.equal(referenceMatches("toolbox", "toolbox:latest"), true);
  assert.equal(referenceMatches("toolbox:1*", "toolbox:1.2"), true);
  assert.equal(referenceMatches("*", "a/b:1"), false);
  assert.equal(referenceMatches("*/b", "a/b:1"), true);
  assert.equal(referenceMatches("r:5000/x", "r:5000/x:2"), true);
});
