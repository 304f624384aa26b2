import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { test } from "node:test";
import { type ApiFixture, openFixture } from "../../src/api/fixture.ts";

// The unmodified docker CLI against the API over rooms in memory: the words and shapes it needs, without an engine.

interface Result {
  readonly code: number;
  readonly out: string;
}

function docker(api: ApiFixture, args: readonly string[], env: Readonly<Record<string, string>> = {}): Promise<Result> {
  return new Promise((resolve) => {
    execFile(
      "docker",
      ["-H", `unix://${api.socketPath}`, ...args],
      { timeout: 10_000, env: { ...process.env, ...env } },
      (error, stdout, stderr) => {
        const code = error === null ? 0 : typeof error.code === "number" ? error.code : -1;
        resolve({ code, out: stdout + stderr });
      },
    );
  });
}

const hasDocker = await docker({ socketPath: "/nowhere" } as ApiFixture, ["--version"]).then(({ code }) => code === 0);
const options = { skip: hasDocker ? false : "no docker CLI on this machine" };

test("version, info and ping", options, async () => {
  await using api = await openFixture({ settings: { labels: ["rack=7"] } });
  const version = await docker(api, ["version"]);
  assert.equal(version.code, 0, version.out);
  assert.match(
    version.out,
    /Server: Weft\n Engine:\n {2}Version: +0\.1\.0\n {2}API version: +1\.50 \(minimum version 1\.24\)/,
  );
  const info = await docker(api, ["info"]);
  assert.equal(info.code, 0, info.out);
  for (const line of ["Swarm: inactive", "Network: bridge host", "rack=7", "Storage Driver: overlayfs", "Name: loom"]) {
    assert.ok(info.out.includes(line), line);
  }
  assert.doesNotMatch(info.out, /ERROR|WARNING/);
});

test("a client that speaks an older API is served it", options, async () => {
  await using api = await openFixture();
  const version = await docker(api, ["version", "--format", "{{.Client.APIVersion}}"], { DOCKER_API_VERSION: "1.24" });
  assert.equal(version.out.trim(), "1.24");
  const tooNew = await docker(api, ["ps"], { DOCKER_API_VERSION: "1.99" });
  assert.match(tooNew.out, /client version 1\.99 is too new\. Maximum supported API version is 1\.50/);
});

test("networks", options, async () => {
  await using api = await openFixture();
  const list = await docker(api, ["network", "ls", "--format", "{{.Name}} {{.Driver}} {{.Scope}}"]);
  assert.equal(list.out, "bridge bridge local\nhost host local\nnone null local\n");
  assert.match((await docker(api, ["network", "create", "--subnet", "10.1.0.0/16", "n1"])).out, /^d{64}\n$/);
  const shown = await docker(api, ["network", "inspect", "-f", "{{range .IPAM.Config}}{{.Subnet}}{{end}}", "n1"]);
  assert.equal(shown.out.trim(), "10.1.0.0/16");
  const only = await docker(api, ["network", "ls", "-q", "--filter", "type=custom"]);
  assert.equal(only.out.trim(), "d".repeat(12));
  assert.match((await docker(api, ["network", "inspect", "nope"])).out, /network nope not found/);
  assert.match(
    (await docker(api, ["network", "create", "--subnet", "10.1.2.3.4/24", "x"])).out,
    /invalid subnet 10\.1\.2\.3\.4\/24: invalid CIDR block notation/,
  );
  assert.equal((await docker(api, ["network", "rm", "n1"])).code, 0);
});

test("a container from create to removal", options, async () => {
  await using api = await openFixture();
  const created = await docker(api, [
    "create",
    "--name",
    "box",
    "-p",
    "8080:80",
    "-e",
    "A=b",
    "-l",
    "x=y",
    "toolbox",
    "sh",
    "-c",
    "a b",
  ]);
  assert.match(created.out, /^[0-9a-f]{64}\n$/);
  assert.equal((await docker(api, ["start", "box"])).out, "box\n");
  const ps = await docker(api, [
    "ps",
    "--no-trunc",
    "--format",
    "{{.Names}} {{.Image}} {{.Command}} {{.Ports}} {{.Networks}} {{.Status}}",
  ]);
  assert.equal(ps.out, `box toolbox "sh -c 'a b'" 0.0.0.0:8080->80/tcp bridge Up Less than a second\n`);
  assert.equal((await docker(api, ["port", "box"])).out, "80/tcp -> 0.0.0.0:8080\n");
  const address = await docker(api, [
    "inspect",
    "-f",
    "{{.NetworkSettings.Networks.bridge.IPAddress}} {{.Config.Env}}",
    "box",
  ]);
  assert.equal(address.out.trim(), "172.17.0.2 [A=b PATH=/bin]");
  assert.equal((await docker(api, ["ps", "-q", "--filter", "label=x=z"])).out, "");
  assert.equal((await docker(api, ["stop", "box"])).code, 0);
  assert.match(
    (await docker(api, ["ps", "-a", "--format", "{{.Status}}"])).out,
    /^Exited \(0\) Less than a second ago/,
  );
  assert.equal((await docker(api, ["rm", "-f", "box"])).code, 0);
  assert.match((await docker(api, ["start", "box"])).out, /No such container: box/);
});

test("run waits for the exit code and shows both streams", options, async () => {
  await using api = await openFixture();
  const running = docker(api, ["run", "--name", "job", "toolbox", "work"]);
  const { containers } = api.rooms;
  const isStarted = () => containers.list().some((record) => record.state.kind === "running");
  for (let i = 0; i < 400 && !isStarted(); i++) await new Promise((done) => setTimeout(done, 5));
  const { id } = containers.find("job");
  containers.process(id).stdout.write("out\n");
  containers.process(id).stderr.write("err\n");
  containers.exit(id, 42);
  const { code, out } = await running;
  assert.equal(code, 42);
  assert.match(out, /out\n/);
  assert.match(out, /err\n/);
  // The order that the CLI relies on.
  assert.deepEqual(containers.calls.slice(0, 2), ["attach", "wait next-exit"]);
});

test("exec gives the command's exit code, logs what was written", options, async () => {
  await using api = await openFixture();
  const { containers } = api.rooms;
  await docker(api, ["run", "-d", "--name", "box", "toolbox"]);
  const running = docker(api, ["exec", "box", "false"]);
  for (let i = 0; i < 400 && !containers.calls.includes("exec"); i++) await new Promise((done) => setTimeout(done, 5));
  const [exec] = containers.execs.keys();
  containers.exitExec(exec ?? "", 3);
  assert.equal((await running).code, 3);
  assert.equal((await docker(api, ["exec", "-d", "box", "true"])).code, 0);
  containers.lines.push({ stream: "stdout", time: "2026-01-02T03:04:05.000000001Z", data: Buffer.from("hello\n") });
  assert.equal((await docker(api, ["logs", "-t", "box"])).out, "2026-01-02T03:04:05.000000001Z hello\n");
});

test("images", options, async () => {
  await using api = await openFixture();
  assert.match(
    (await docker(api, ["images", "--format", "{{.Repository}}:{{.Tag}} {{.Size}}"])).out,
    /toolbox:latest 21\.1MB/,
  );
  assert.match((await docker(api, ["pull", "registry.local/x:1"])).out, /Status: Downloaded newer image/);
  const late = await docker(api, ["pull", "registry.local/late:1"]);
  assert.equal(late.code, 1);
  assert.match(late.out, /the registry went away/);
  assert.match((await docker(api, ["import", "/etc/hostname", "x:y"])).out, /^sha256:3{64}\n$/);
  assert.match((await docker(api, ["load", "-i", "/etc/hostname"])).out, /Loaded \d+ bytes/);
  assert.match((await docker(api, ["rmi", "toolbox"])).out, /Untagged: toolbox:latest\nDeleted: sha256:1{64}/);
  assert.match((await docker(api, ["image", "inspect", "nope"])).out, /No such image: nope/);
});

test("swarm: init, tokens, nodes, leave", options, async () => {
  await using api = await openFixture();
  assert.match((await docker(api, ["node", "ls"])).out, /This node is not a swarm manager/);
  assert.match(
    (await docker(api, ["swarm", "init"])).out,
    /docker swarm join --token SWMTKN-1-worker 192\.0\.2\.1:2377/,
  );
  assert.equal((await docker(api, ["swarm", "join-token", "-q", "manager"])).out, "SWMTKN-1-manager\n");
  const nodes = await docker(api, [
    "node",
    "ls",
    "--format",
    "{{.Self}} {{.Hostname}} {{.Status}} {{.Availability}} {{.ManagerStatus}} {{.EngineVersion}}",
  ]);
  assert.equal(nodes.out, "true loom Ready Active Leader 0.1.0\n");
  assert.match((await docker(api, ["node", "inspect", "self", "--pretty"])).out, /Hostname:\s+loom/);
  assert.match(
    (await docker(api, ["info", "-f", "{{.Swarm.LocalNodeState}} {{.Swarm.ControlAvailable}}"])).out,
    /active true/,
  );
  assert.equal((await docker(api, ["service", "ls", "-q"])).out, "");
  assert.match(
    (await docker(api, ["service", "create", "toolbox"])).out,
    /not supported by this version of weftd: swarm services/,
  );
  assert.match((await docker(api, ["swarm", "join", "--token", "x", "192.0.2.9"])).out, /invalid join token/);
  assert.equal((await docker(api, ["swarm", "leave", "--force"])).code, 0);
});
