import assert from "node:assert/strict";
import { test } from "node:test";
import { encodeFrame } from "../wire/http/mod.ts";
import { type ApiFixture, openFixture } from "./fixture.ts";

const upgrade = "Connection: Upgrade\r\nUpgrade: tcp\r\n";
const frame = (stream: 1 | 2, text: string) => new RegExp(encodeFrame(stream, Buffer.from(text)).toString("latin1"));
const attachAll = "stderr=1&stdin=1&stdout=1&stream=1";

async function container(api: ApiFixture, body: object = {}): Promise<string> {
  const made = await api.request("POST", "/v1.50/containers/create", { Image: "toolbox", Cmd: ["sh"], ...body });
  return made.json<{ Id: string }>().Id;
}

function attach(
  api: ApiFixture,
  id: string,
  options: { query?: string; headers?: string; after?: string; version?: string } = {},
) {
  const { query = attachAll, headers = upgrade, after = "", version = "v1.50" } = options;
  return api.open(
    `POST /${version}/containers/${id}/attach?${query} HTTP/1.1\r\nHost: docker\r\nContent-Length: 0\r\n${headers}\r\n${after}`,
  );
}

test("attach with a TTY answers 101 and carries raw bytes both ways", async () => {
  await using api = await openFixture();
  const id = await container(api, { Tty: true, OpenStdin: true, StdinOnce: true });
  const client = attach(api, id);
  const head = await client.until(/\r\n\r\n/);
  assert.match(
    head,
    /^HTTP\/1\.1 101 UPGRADED\r\nContent-Type: application\/vnd\.docker\.raw-stream\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n/,
  );
  const main = api.rooms.containers.process(id);
  main.stdout.write("$ ");
  await client.until(/\$ $/);
  client.socket.write("ls\n");
  assert.equal(String(await new Promise((done) => main.stdin.once("data", done))), "ls\n");
  main.stdout.end();
  await client.until("end");
});

test("attach without a TTY frames stdout and stderr", async () => {
  await using api = await openFixture();
  const id = await container(api);
  const client = attach(api, id);
  await client.until(/vnd\.docker\.multiplexed-stream/);
  const main = api.rooms.containers.process(id);
  main.stdout.write("out");
  await client.until(frame(1, "out"));
  main.stderr.write("err");
  await client.until(frame(2, "err"));
  main.stdout.end();
  main.stderr.end();
  await client.until("end");
});

test("before 1.42 the stream is called raw, frames or not", async () => {
  await using api = await openFixture();
  const id = await container(api);
  const client = attach(api, id, { version: "v1.41" });
  await client.until(/vnd\.docker\.raw-stream/);
  client.socket.destroy();
});

test("a half-close ends stdin and not the connection", async () => {
  await using api = await openFixture();
  const id = await container(api, { OpenStdin: true, StdinOnce: true });
  const client = attach(api, id, { after: "early " });
  const main = api.rooms.containers.process(id);
  const stdin: string[] = [];
  main.stdin.on("data", (chunk: Buffer) => stdin.push(String(chunk)));
  const stdinEnded = new Promise((done) => main.stdin.once("end", done));
  await client.until(/\r\n\r\n/);
  client.socket.end("late");
  await stdinEnded;
  assert.equal(stdin.join(""), "early late");
  main.stdout.write("still here");
  await client.until(/still here/);
  main.stdout.end();
  main.stderr.end();
  await client.until("end");
});

test("a half-close at once, without stdin attached, means nothing", async () => {
  await using api = await openFixture();
  const id = await container(api);
  const client = attach(api, id, { query: "stdout=1&stderr=1&stream=1" });
  client.socket.end();
  await client.until(/\r\n\r\n/);
  await new Promise((done) => setTimeout(done, 30));
  const main = api.rooms.containers.process(id);
  main.stdout.end("done");
  main.stderr.end();
  await client.until(/done/);
});

test("a client that lets go of a TTY leaves stdin open", async () => {
  await using api = await openFixture();
  const id = await container(api, { Tty: true, OpenStdin: true, StdinOnce: true });
  const client = attach(api, id);
  await client.until(/\r\n\r\n/);
  client.socket.destroy();
  for (let i = 0; i < 100 && !api.rooms.containers.calls.includes("detach"); i++)
    await new Promise((r) => setTimeout(r, 5));
  assert.ok(api.rooms.containers.calls.includes("detach"));
  assert.equal(api.rooms.containers.process(id).stdin.writableEnded, false);
});

test("a client without Upgrade gets 200 and raw bytes, and may send stdin", async () => {
  await using api = await openFixture();
  const id = await container(api, { OpenStdin: true, StdinOnce: true });
  const client = attach(api, id, { headers: "", after: "input" });
  const head = await client.until(/\r\n\r\n/);
  assert.match(head, /^HTTP\/1\.1 200 OK\r\nContent-Type: application\/vnd\.docker\.multiplexed-stream\r\n/);
  assert.doesNotMatch(head, /Transfer-Encoding|Upgrade/i);
  const main = api.rooms.containers.process(id);
  assert.equal(String(main.stdin.read() ?? (await new Promise((done) => main.stdin.once("data", done)))), "input");
  main.stdout.end("out");
  main.stderr.end();
  await client.until(frame(1, "out"));
});

test("attach to an unknown container is an ordinary error answer", async () => {
  await using api = await openFixture();
  for (const headers of [upgrade, ""]) {
    const client = attach(api, "nope", { headers });
    const text = await client.until("end");
    assert.match(text, /^HTTP\/1\.1 404 Not Found\r\n/);
    assert.match(text, /\{"message":"No such container: nope"\}/);
  }
});

test("exec start has a JSON body before stdin, in one packet or byte by byte", async () => {
  await using api = await openFixture();
  const id = await container(api);
  await api.request("POST", `/containers/${id}/start`);
  for (const step of [1000, 1]) {
    const made = await api.request("POST", `/containers/${id}/exec`, {
      Cmd: ["sh"],
      AttachStdin: true,
      AttachStdout: true,
    });
    const exec = made.json<{ Id: string }>().Id;
    const body = '{"Detach":false,"Tty":false}';
    const bytes = `POST /v1.50/exec/${exec}/start HTTP/1.1\r\nHost: docker\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\n${upgrade}\r\n${body}stdin`;
    const client = api.open("");
    for (let at = 0; at < bytes.length; at += step) {
      client.socket.write(bytes.slice(at, at + step));
      if (step === 1) await new Promise((done) => setImmediate(done));
    }
    await client.until(/101 UPGRADED/);
    const main = api.rooms.containers.process(exec);
    let stdin = "";
    main.stdin.on("data", (chunk: Buffer) => {
      stdin += String(chunk);
    });
    for (let i = 0; i < 200 && stdin.length < 5; i++) await new Promise((done) => setTimeout(done, 5));
    assert.equal(stdin, "stdin");
    api.rooms.containers.exitExec(exec, 3);
    await client.until("end");
    const state = await api.request("GET", `/exec/${exec}/json`);
    assert.equal(state.json()["ExitCode"], 3);
  }
});

test("a detached exec is an ordinary request, first on its connection or not", async () => {
  await using api = await openFixture();
  const id = await container(api);
  await api.request("POST", `/containers/${id}/start`);
  for (const before of ["", "GET /_ping HTTP/1.1\r\nHost: docker\r\n\r\n"]) {
    const made = await api.request("POST", `/containers/${id}/exec`, { Cmd: ["true"] });
    const body = '{"Detach":true}';
    const client = api.open(
      `${before}POST /exec/${made.json()["Id"]}/start HTTP/1.1\r\nHost: docker\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n${body}`,
    );
    await client.until(before === "" ? /^HTTP\/1\.1 200 OK/ : /OK[\s\S]*HTTP\/1\.1 200 OK/);
    client.socket.destroy();
  }
  assert.equal(api.rooms.containers.calls.filter((call) => call === "exec detached").length, 2);
});

test("wait sends its headers before the container is started", async () => {
  await using api = await openFixture();
  const id = await container(api);
  const client = api.open(
    `POST /containers/${id}/wait?condition=next-exit HTTP/1.1\r\nHost: docker\r\nContent-Length: 0\r\n\r\n`,
  );
  await client.until(/200 OK[\s\S]*\r\n\r\n/);
  assert.ok(api.rooms.containers.calls.includes("wait next-exit"));
  await api.request("POST", `/containers/${id}/start`);
  api.rooms.containers.exit(id, 7);
  await client.until(/\{"StatusCode":7\}/);
});

test("an Upgrade header on an ordinary route is ignored", async () => {
  await using api = await openFixture();
  const answer = await api.request("GET", "/_ping", undefined, { Connection: "Upgrade, close", Upgrade: "h2c" });
  assert.equal(answer.status, 200);
});
