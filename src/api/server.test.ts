import assert from "node:assert/strict";
import { stat, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { test } from "node:test";
import fc from "fast-check";
import { silentLog } from "../base/log.ts";
import { fakeRooms } from "./fake.ts";
import { type ApiFixture, openFixture } from "./fixture.ts";
import { openApi } from "./server.ts";

const isAlive = async (api: ApiFixture) => assert.equal((await api.request("GET", "/_ping")).text, "OK");

test("_ping has the headers that clients negotiate by", async () => {
  await using api = await openFixture();
  for (const method of ["GET", "HEAD"]) {
    const { status, head, text } = await api.request(method, "/_ping");
    assert.equal(status, 200);
    assert.equal(text, method === "GET" ? "OK" : "");
    for (const line of ["Api-Version: 1.50", "Docker-Experimental: false", "Ostype: linux", "Swarm: inactive"]) {
      assert.ok(head.includes(line), line);
    }
  }
});

for (const [name, path, status, message] of [
  ["an unknown page", "/v1.50/nope", 404, "page not found"],
  ["another method", "/_ping/", 404, "page not found"],
  ["a version to come", "/v1.99/info", 400, "client version 1.99 is too new. Maximum supported API version is 1.50"],
  ["a missing container", "/containers/nope/json", 404, "No such container: nope"],
  ["a bad filter", "/containers/json?filters=bad", 400, "invalid filter"],
  ["nodes outside a swarm", "/nodes", 503, undefined],
  ["services", "/services", 503, undefined],
] as const) {
  test(`${name} is answered ${status} with a message`, async () => {
    await using api = await openFixture();
    const answer = await api.request("GET", path);
    assert.equal(answer.status, status);
    const { message: found } = answer.json<{ message: string }>();
    if (message !== undefined) assert.equal(found, message);
    else assert.match(found, /^This node is not a swarm manager/);
  });
}

// Texts recorded from dockerd 28.5.2 where the comment does not say otherwise.
for (const [name, body, headers, message] of [
  [
    "no content type",
    "{}",
    { "Content-Type": "text/plain" },
    "unsupported Content-Type header (text/plain): must be 'application/json'",
  ],
  ["no body", "", {}, "invalid JSON: got EOF while reading request body"],
  ["half a body", '{"Image":', {}, "invalid JSON: unexpected EOF"],
  ["something after the body", '{"Image":"toolbox"} trailing', {}, "unexpected content after JSON"],
  // Ours: Docker says what it was looking for.
  ["broken JSON", "{bad", {}, "invalid JSON: invalid character 'b' at position 1"],
] as const) {
  test(`create with ${name} is refused`, async () => {
    await using api = await openFixture();
    const answer = await api.request("POST", "/containers/create", body, headers);
    assert.deepEqual([answer.status, answer.json()["message"]], [400, message]);
    assert.equal(api.rooms.containers.list().length, 0);
  });
}

test("a body that is too large is refused, and the daemon goes on", async () => {
  await using api = await openFixture();
  const answer = await api.request("POST", "/containers/create", `{"Image":"${"x".repeat(5 * 1024 * 1024)}"}`);
  assert.equal(answer.status, 400);
  assert.match(answer.text, /request body too large/);
  await isAlive(api);
});

test("a half-closed client still gets its answer", async () => {
  await using api = await openFixture();
  const client = api.open("");
  client.socket.end("GET /version HTTP/1.1\r\nHost: docker\r\n\r\n");
  await client.until(/"ApiVersion":"1.50"/);
});

test("clients that go away in the middle hurt nobody", async () => {
  await using api = await openFixture();
  for (const bytes of [
    "GET /vers",
    "POST /containers/create HTTP/1.1\r\nHost: docker\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{",
    "GET /events HTTP/1.1\r\nHost: docker\r\n\r\n",
    "POST /exec/x/start HTTP/1.1\r\nHost: docker\r\nUpgrade: tcp\r\nConnection: Upgrade\r\nContent-Length: 50\r\n\r\n{",
  ]) {
    const client = api.open(bytes);
    await new Promise((done) => setTimeout(done, 20));
    client.socket.destroy();
  }
  for (let i = 0; i < 100 && api.rooms.events.listeners > 0; i++) await new Promise((done) => setTimeout(done, 5));
  assert.equal(api.rooms.events.listeners, 0);
  await isAlive(api);
});

test("random bytes and huge headers are refused, and the daemon goes on", async () => {
  await using api = await openFixture();
  await fc.assert(
    fc.asyncProperty(fc.uint8Array({ minLength: 1, maxLength: 300 }), fc.boolean(), async (bytes, asRequest) => {
      const prefix = asRequest ? "POST /v1.50/containers/x/attach HTTP/1.1\r\n" : "";
      const client = api.open(Buffer.concat([Buffer.from(prefix), bytes, Buffer.from("\r\n\r\n")]));
      await new Promise((done) => setImmediate(done));
      client.socket.destroy();
    }),
    { numRuns: 150 },
  );
  const huge = await api.request("GET", "/_ping", undefined, { "X-Long": "y".repeat(100_000) });
  assert.equal(huge.status, 431);
  await isAlive(api);
});

test("a client that never finishes its head is cut off", async () => {
  await using api = await openFixture({ headTimeoutMs: 100 });
  const slow = [api.open("GET /_ping HTTP/1.1\r\n"), api.open("")];
  await Promise.all(slow.map((client) => client.until("end")));
  await isAlive(api);
});

test("a socket that nobody listens on is replaced, a live one and a file are not", async () => {
  await using api = await openFixture();
  const mode = (await stat(api.socketPath)).mode & 0o777;
  assert.equal(mode.toString(8), "660");
  const open = (path: string) =>
    openApi(
      { rooms: fakeRooms(), listeners: [{ kind: "unix", path, group: "" }], log: silentLog },
      new AbortController().signal,
    );
  await assert.rejects(open(api.socketPath), /another daemon is listening there/);
  const file = `${api.socketPath}.file`;
  await writeFile(file, "precious");
  await assert.rejects(open(file), /it exists and is no socket/);
  // What a killed daemon leaves behind.
  const stale = `${api.socketPath}.stale`;
  const dead = createServer();
  await new Promise<void>((done) => dead.listen({ path: `${stale}.live` }, done));
  const { rename } = await import("node:fs/promises");
  await rename(`${stale}.live`, stale);
  await new Promise((done) => dead.close(done));
  await using second = await open(stale);
  assert.deepEqual(second.addresses, [`unix://${stale}`]);
});

test("tcp:// serves the same API and says its port", async () => {
  const api = await openApi(
    { rooms: fakeRooms(), listeners: [{ kind: "tcp", host: "127.0.0.1", port: 0, tls: undefined }], log: silentLog },
    new AbortController().signal,
  );
  await using _closed = api;
  const answer = await fetch(`${(api.addresses[0] ?? "").replace("tcp", "http")}/v1.50/version`);
  assert.equal(((await answer.json()) as { readonly ApiVersion: string }).ApiVersion, "1.50");
});

test("pull: a failure before any progress is a status, later it is the last line", async () => {
  await using api = await openFixture();
  const early = await api.request("POST", "/images/create?fromImage=early&tag=1");
  assert.deepEqual([early.status, early.json()["message"]], [404, "manifest for early:1 not found"]);
  const late = await api.request("POST", "/images/create?fromImage=late&tag=1");
  assert.equal(late.status, 200);
  assert.match(late.text, /"progressDetail":\{"current":1,"total":2\},"id":"layer"/);
  assert.match(late.text, /\{"errorDetail":\{"message":"the registry went away"\},"error":"the registry went away"\}/);
});

test("events: past ones by since, with old fields and nanoseconds", async () => {
  await using api = await openFixture();
  const made = await api.request("POST", "/containers/create?name=box", { Image: "toolbox" });
  api.rooms.events.publish({
    type: "container",
    action: "create",
    id: made.json<{ Id: string }>().Id,
    attributes: { image: "toolbox", name: "box" },
    scope: "local",
    timeMs: 1_767_323_045_678,
  });
  const answer = await api.request("GET", '/events?since=1&until=1767323046&filters={"container":["box"]}');
  assert.match(
    answer.text,
    /"status":"create",.*"from":"toolbox","Type":"container".*"time":1767323045,"timeNano":1767323045678000000\}/,
  );
  const other = await api.request("GET", '/events?since=1&until=1767323046&filters={"type":["network"]}');
  assert.doesNotMatch(other.text, /container/);
});
