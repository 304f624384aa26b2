import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test } from "node:test";
import { type ApiFixture, openFixture } from "./fixture.ts";
import { humanDuration } from "./shapes/time.ts";

// Answers of dockerd 28.5.2, as recorded: ours must have every field, of the same kind. Values are another matter.

type Json = Readonly<Record<string, unknown>>;

async function recorded(name: string): Promise<Json> {
  return JSON.parse(await readFile(new URL(`testdata/dockerd-28-${name}.json`, import.meta.url), "utf8")) as Json;
}

function kindOf(value: unknown): string {
  if (value === null) return "null";
  return Array.isArray(value) ? "array" : typeof value;
}

/** Paths that are missing in `ours` or have another kind; null stands for any list, map or text. */
function differences(theirs: Json, ours: Json, at = ""): readonly string[] {
  return Object.entries(theirs).flatMap(([key, value]) => {
    const path = `${at}.${key}`;
    if (!(key in ours)) return [`${path} is missing`];
    const [wanted, found] = [kindOf(value), kindOf(ours[key])];
    if (wanted !== found && wanted !== "null" && found !== "null") return [`${path} is ${found}, not ${wanted}`];
    if (wanted !== "object" || found !== "object") return [];
    return differences(value as Json, ours[key] as Json, path);
  });
}

/** Keys that name things rather than fields, or that this engine has nothing to say to. */
const excused = /^\.(CDISpecDirs|Containers\.|GraphDriver\.Data|KernelMemoryTCP|Runtimes|Options\.com)/;

async function assertShape(name: string, ours: Json): Promise<void> {
  const found = differences(await recorded(name), ours).filter((line) => !excused.test(line));
  assert.deepEqual(found, []);
}

async function runningContainer(api: ApiFixture): Promise<void> {
  await api.request("POST", "/networks/create", { Name: "n1", IPAM: { Config: [{ Subnet: "172.30.5.0/24" }] } });
  await api.request("POST", "/containers/create?name=c1", {
    Image: "toolbox",
    Cmd: ["sh"],
    Tty: true,
    OpenStdin: true,
    Env: ["A=b"],
    ExposedPorts: { "80/tcp": {} },
    Labels: { x: "y" },
    HostConfig: { NetworkMode: "n1", PortBindings: { "80/tcp": [{ HostIp: "", HostPort: "18080" }] } },
  });
  await api.request("POST", "/containers/c1/start");
}

test("container inspect has the fields of dockerd 28, through API 1.24 too", async () => {
  await using api = await openFixture();
  await runningContainer(api);
  for (const version of ["v1.24", "v1.41", "v1.50"]) {
    const answer = await api.request("GET", `/${version}/containers/c1/json`);
    await assertShape("container", answer.json<Json>());
  }
  const old = (await api.request("GET", "/v1.24/containers/c1/json")).text;
  assert.match(old, /"Aliases":\["0001[0-9a-f]{8}"\]/);
});

test("a container that was only created has zero times and no addresses", async () => {
  await using api = await openFixture();
  await api.request("POST", "/containers/create?name=new", { Image: "toolbox" });
  const shown = (await api.request("GET", "/containers/new/json")).json<{ State: Json; NetworkSettings: Json }>();
  assert.deepEqual(shown.State, {
    Status: "created",
    Running: false,
    Paused: false,
    Restarting: false,
    OOMKilled: false,
    Dead: false,
    Pid: 0,
    ExitCode: 0,
    Error: "",
    StartedAt: "0001-01-01T00:00:00Z",
    FinishedAt: "0001-01-01T00:00:00Z",
  });
  assert.equal(shown.NetworkSettings["SandboxID"], "");
  assert.deepEqual(shown.NetworkSettings["Ports"], {});
});

test("container list, networks, images, volumes, info and version have the fields of dockerd 28", async () => {
  await using api = await openFixture();
  await runningContainer(api);
  await api.request("POST", "/volumes/create", { Name: "v1" });
  const [summary] = (await api.request("GET", "/containers/json")).json<readonly Json[]>();
  await assertShape("summary", summary ?? {});
  await assertShape("network", (await api.request("GET", "/networks/n1")).json<Json>());
  await assertShape("image", (await api.request("GET", "/images/toolbox/json")).json<Json>());
  await assertShape("volume", (await api.request("GET", "/volumes/v1")).json<Json>());
  await assertShape("info", (await api.request("GET", "/info")).json<Json>());
  await assertShape("version", (await api.request("GET", "/version")).json<Json>());
});

test("humanDuration() rounds as go-units does", () => {
  const seconds = (n: number) => humanDuration(n * 1000);
  assert.deepEqual(
    [0.5, 1, 59, 60, 150, 3000, 3600, 6000, 47 * 3600, 49 * 3600, 15 * 86400, 70 * 86400, 800 * 86400].map(seconds),
    [
      "Less than a second",
      "1 second",
      "59 seconds",
      "About a minute",
      "2 minutes",
      "50 minutes",
      "About an hour",
      "2 hours",
      "47 hours",
      "2 days",
      "2 weeks",
      "2 months",
      "2 years",
    ],
  );
});
