// A container's processes, files, exit codes and states, as a person meets them with the docker command.
import assert from "node:assert/strict";
import { mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { test } from "node:test";
import { command, eventually, type TestLab, withLab } from "../support/lab.ts";

const oldCli = ".weft/tools/docker-20/usr/bin/docker";

function inspect(lab: TestLab, name: string, template: string): Promise<string> {
  return lab.ok(1, "inspect", "-f", template, name);
}

function once(lab: TestLab, options: readonly string[], script: string): Promise<string> {
  return lab.ok(1, "run", "--rm", ...options, "toolbox", "sh", "-c", script);
}

/** The raw API, as an old or strange client uses it. */
async function api(
  lab: TestLab,
  method: string,
  path: string,
  body?: unknown,
): Promise<{ status: number; body: string }> {
  const { stdout } = await command([
    ...["curl", "-s", "--max-time", "20", "--unix-socket", lab.host(1).socket, "-X", method, "-w", "\n%{http_code}"],
    ...(body === undefined ? [] : ["-H", "Content-Type: application/json", "-d", JSON.stringify(body)]),
    `http://weft${path}`,
  ]);
  const cut = stdout.lastIndexOf("\n");
  return { status: Number(stdout.slice(cut + 1)), body: stdout.slice(0, cut) };
}

test("a container's life", async (t) => {
  await withLab("wlif", 1, async (lab) => {
    await t.test("-e, -w, -u, --entrypoint make the process", async () => {
      const options = ["-e", "COLOUR=blue", "-w", "/tmp/work", "-u", "1234:5678"];
      assert.equal(await once(lab, options, "echo $COLOUR; pwd; id -u; id -g"), "blue\n/tmp/work\n1234\n5678");
      assert.equal(await lab.ok(1, "run", "--rm", "--entrypoint", "echo", "toolbox", "a", "b c"), "a b c");
    });

    await t.test("exec: user, variables, directory, exit codes, and none in a stopped container", async () => {
      await lab.ok(1, "run", "-d", "--name", "box", "-e", "A=1", "toolbox", "sleep", "1000");
      const script = "echo $A $B; pwd; id -u";
      assert.equal(
        await lab.ok(1, "exec", "-e", "B=2", "-w", "/etc", "-u", "42", "box", "sh", "-c", script),
        "1 2\n/etc\n42",
      );
      assert.equal((await lab.docker(1, "exec", "box", "sh", "-c", "exit 7")).code, 7);
      assert.equal((await lab.docker(1, "exec", "box", "nosuchprogram")).code, 127);
      assert.equal((await lab.docker(1, "exec", "box", "/etc")).code, 126);
      assert.equal(
        (
          await command(["docker", "-H", `unix://${lab.host(1).socket}`, "exec", "-i", "box", "cat"], {
            input: "through\n",
          })
        ).stdout,
        "through\n",
      );
      await lab.ok(1, "exec", "-d", "box", "sh", "-c", "echo detached >/tmp/mark");
      await eventually(
        "the detached exec has written",
        5000,
        async () => (await lab.docker(1, "exec", "box", "cat", "/tmp/mark")).stdout === "detached\n",
      );
      await lab.ok(1, "kill", "box");
      const stopped = await lab.docker(1, "exec", "box", "true");
      assert.equal(stopped.code, 1);
      assert.match(stopped.output, /container [0-9a-f]{64} is not running/);
      assert.equal(await inspect(lab, "box", "{{.State.Status}} {{.State.ExitCode}}"), "exited 137");
      await lab.ok(1, "rm", "box");
    });

    await t.test("a first start that fails leaves it created, with the error and the exit code", async () => {
      for (const [program, code] of [
        ["nosuchprogram", 127],
        ["/etc", 126],
      ] as const) {
        const result = await lab.docker(1, "run", "--name", "never", "toolbox", program);
        assert.equal(result.code, code, result.output);
        assert.equal(await inspect(lab, "never", "{{.State.Status}} {{.State.ExitCode}}"), `created ${code}`);
        assert.match(
          await inspect(lab, "never", "{{.State.Error}}"),
          /exec: .*(not found|permission denied|is a directory)/,
        );
        assert.match(
          await lab.ok(1, "ps", "-a", "--filter", "status=created", "--format", "{{.Names}} {{.Status}}"),
          /^never Created$/,
        );
        await lab.ok(1, "rm", "never");
      }
      await lab.ok(1, "run", "-d", "--name", "holder", "-p", "8099:80", "toolbox", "sleep", "1000");
      assert.equal((await lab.docker(1, "run", "--name", "never", "-p", "8099:80", "toolbox", "true")).code, 125);
      assert.equal(await inspect(lab, "never", "{{.State.Status}} {{.State.ExitCode}}"), "created 128");
      await lab.ok(1, "rm", "-f", "holder");
      // What was in the way is gone: the same container starts.
      await lab.ok(1, "start", "-a", "never");
      assert.equal(await inspect(lab, "never", "{{.State.Status}} {{.State.ExitCode}}{{.State.Error}}"), "exited 0");
      await lab.ok(1, "rm", "never");
    });

    await t.test("volumes: named, anonymous, bind, read-only, filled from the image", async () => {
      await lab.ok(1, "volume", "create", "kept");
      await once(lab, ["-v", "kept:/data"], "echo first >/data/file");
      assert.equal(
        await once(lab, ["-v", "kept:/data:ro"], "cat /data/file; touch /data/x 2>&1 || true"),
        "first\ntouch: /data/x: Read-only file system",
      );
      await lab.ok(1, "create", "--name", "user", "-v", "kept:/data", "toolbox", "true");
      const inUse = await lab.docker(1, "volume", "rm", "kept");
      assert.match(inUse.output, /remove kept: volume is in use - \[[0-9a-f]{64}\]/);
      await lab.ok(1, "rm", "user");
      // A volume is filled with what the image has there; one that holds something is left alone.
      assert.match(await once(lab, ["-v", "filled:/bin"], "ls /bin/busybox"), /busybox/);
      assert.equal(
        await once(lab, ["-v", "kept:/bin2", "-v", "filled:/other"], "ls /other/busybox; cat /bin2/file"),
        "/other/busybox\nfirst",
      );
      const before = await lab.ok(1, "volume", "ls", "-q");
      await once(lab, ["-v", "/scratch"], "echo x >/scratch/file");
      assert.equal(await lab.ok(1, "volume", "ls", "-q"), before, "--rm takes anonymous volumes along");
      await lab.ok(1, "run", "--name", "leaves", "-v", "/scratch", "toolbox", "true");
      await lab.ok(1, "rm", "leaves");
      assert.equal((await lab.ok(1, "volume", "ls", "-q")).split("\n").length, before.split("\n").length + 1);
      await lab.ok(1, "volume", "prune", "-f");
      assert.equal(await lab.ok(1, "volume", "ls", "-q"), before);
      await lab.ok(1, "volume", "rm", "kept", "filled");

      const directory = `${lab.lab.runDirectory}/bind`;
      await mkdir(directory, { recursive: true });
      await writeFile(`${directory}/in`, "from the host\n");
      assert.equal(
        await once(lab, ["-v", `${directory}:/host`], "cat /host/in; echo back >/host/out"),
        "from the host",
      );
      assert.equal(await readFile(`${directory}/out`, "utf8"), "back\n");
      assert.match(
        await once(lab, ["--mount", `type=bind,src=${directory},dst=/host,readonly`], "touch /host/x 2>&1 || true"),
        /Read-only/,
      );
      assert.equal(await once(lab, ["--tmpfs", "/ram:size=1m"], "df -k /ram | tail -1 | awk '{print $2}'"), "1024");
      await rm(directory, { recursive: true });
    });

    await t.test("restart policies", async () => {
      const script = "echo run >>/log/runs; exit 3";
      await lab.ok(
        1,
        "run",
        "-d",
        "--name",
        "tries",
        "--restart",
        "on-failure:2",
        "-v",
        "runs:/log",
        "toolbox",
        "sh",
        "-c",
        script,
      );
      await eventually(
        "it has given up",
        10_000,
        async () => (await inspect(lab, "tries", "{{.RestartCount}} {{.State.Status}}")) === "2 exited",
      );
      assert.equal(await once(lab, ["-v", "runs:/log"], "wc -l </log/runs"), "3");
      await lab.ok(1, "rm", "tries");
      await lab.ok(1, "run", "-d", "--name", "loops", "--restart", "always", "toolbox", "false");
      await eventually(
        "it waits for its next start",
        15_000,
        async () => (await inspect(lab, "loops", "{{.State.Status}} {{.State.Restarting}}")) === "restarting true",
      );
      assert.match(
        await lab.ok(1, "ps", "--filter", "status=restarting", "--format", "{{.Status}}"),
        /^Restarting \(1\)/,
      );
      assert.match(
        (await lab.docker(1, "exec", "loops", "true")).output,
        /is restarting, wait until the container is running|is not running/,
      );
      await lab.ok(1, "stop", "loops");
      assert.equal(await inspect(lab, "loops", "{{.State.Status}}"), "exited");
      await lab.ok(1, "rm", "loops");
      await lab.ok(1, "volume", "rm", "runs");
    });

    await t.test("logs: tail, since, timestamps, streams; none without a driver that keeps them", async () => {
      await lab.ok(
        1,
        "run",
        "--name",
        "talks",
        "toolbox",
        "sh",
        "-c",
        "for i in 1 2 3; do echo out$i; echo err$i >&2; done",
      );
      assert.equal((await lab.docker(1, "logs", "talks")).stdout, "out1\nout2\nout3\n");
      assert.equal((await lab.docker(1, "logs", "talks")).stderr, "err1\nerr2\nerr3\n");
      assert.equal((await lab.docker(1, "logs", "-n", "2", "talks")).output.trim().split("\n").length, 2);
      assert.match((await lab.docker(1, "logs", "-t", "talks")).stdout, /^\d{4}-\d\d-\d\dT[\d:.]+Z out1\n/);
      assert.equal((await lab.docker(1, "logs", "--since", "1h", "--until", "1s", "talks")).code, 0);
      await lab.ok(1, "rm", "talks");
      await lab.ok(1, "run", "--name", "silent", "--log-driver", "none", "toolbox", "echo", "x");
      assert.match(
        (await lab.docker(1, "logs", "silent")).output,
        /configured logging driver does not support reading/,
      );
      await lab.ok(1, "rm", "silent");
    });

    await t.test("--log-opt max-size and max-file rotate, and logs reads all that is kept", async () => {
      const options = ["--log-opt", "max-size=10k", "--log-opt", "max-file=3"];
      await lab.ok(
        1,
        "run",
        "--name",
        "much",
        ...options,
        "toolbox",
        "sh",
        "-c",
        "i=0; while [ $i -lt 1000 ]; do i=$((i+1)); echo line-$i; done",
      );
      const lines = (await lab.ok(1, "logs", "much")).split("\n");
      assert.equal(lines.at(-1), "line-1000");
      assert.ok(lines.length > 150 && lines.length < 600, `${lines.length} lines`);
      assert.deepEqual(
        lines,
        Array.from({ length: lines.length }, (_, i) => `line-${1001 - lines.length + i}`),
      );
      assert.equal((await lab.ok(1, "logs", "-n", "200", "much")).split("\n").length, 200);
      await lab.ok(1, "rm", "much");
      const wrong = await lab.docker(1, "run", "--rm", "--log-opt", "nosuch=1", "toolbox", "true");
      assert.match(wrong.output, /unknown log opt 'nosuch' for json-file log driver/);
    });

    await t.test("events, wait, top, ps filters, prune", async () => {
      const since = String(Math.floor(Date.now() / 1000));
      await lab.ok(1, "run", "--rm", "--name", "brief", "toolbox", "true");
      await lab.ok(1, "run", "-d", "--name", "seen", "--label", "tier=one", "toolbox", "sh", "-c", "sleep 1000; true");
      assert.match(await lab.ok(1, "top", "seen"), /PID[\s\S]*sleep 1000/);
      assert.equal(await lab.ok(1, "ps", "--filter", "label=tier=one", "--format", "{{.Names}}"), "seen");
      assert.equal(await lab.ok(1, "ps", "--filter", "name=se", "--filter", "status=exited", "-q"), "");
      assert.equal(
        await lab.ok(1, "ps", "--filter", "network=bridge", "--filter", "ancestor=toolbox", "--format", "{{.Names}}"),
        "seen",
      );
      const waiting = lab.ok(1, "wait", "seen");
      await lab.ok(1, "kill", "-s", "TERM", "seen");
      await lab.ok(1, "kill", "seen");
      assert.equal(await waiting, "137");
      assert.equal(await lab.ok(1, "ps", "-a", "--filter", "exited=137", "--format", "{{.Names}}"), "seen");
      assert.match(await lab.ok(1, "container", "prune", "-f"), /[0-9a-f]{64}/);
      const until = String(Math.floor(Date.now() / 1000) + 1);
      const told = await lab.ok(
        1,
        "events",
        "--since",
        since,
        "--until",
        until,
        "--filter",
        "container=seen",
        "--format",
        "{{.Action}}",
      );
      assert.deepEqual(told.split("\n"), ["create", "start", "top", "kill", "kill", "die", "destroy"]);
      const brief = await lab.ok(
        1,
        "events",
        "--since",
        since,
        "--until",
        until,
        "--filter",
        "container=brief",
        "--format",
        "{{.Action}}",
      );
      assert.deepEqual(brief.split("\n"), ["create", "attach", "start", "die", "destroy"]);
    });

    await t.test("docker info names the drivers that there are", async () => {
      assert.equal(await lab.ok(1, "info", "-f", "{{.Plugins.Network}}"), "[bridge host null overlay]");
    });

    for (const cli of ["docker", oldCli]) {
      await t.test(`the same with ${cli === oldCli ? "CLI 20.10" : "the installed CLI"}`, async () => {
        const docker = async (...args: readonly string[]) => {
          const result = await command([cli, "-H", `unix://${lab.host(1).socket}`, ...args]);
          assert.equal(result.code, 0, `${args.join(" ")}: ${result.output}`);
          return result.stdout.trim();
        };
        await docker("version");
        await docker("info");
        await docker("network", "create", "--subnet", "172.31.20.0/24", "basic");
        await docker(
          "run",
          "-d",
          "--name",
          "one",
          "--network",
          "basic",
          "-p",
          "8123:80",
          "-v",
          "vol:/v",
          "toolbox",
          "httpd",
          "-f",
          "-h",
          "/etc",
        );
        assert.match(
          await docker("run", "--rm", "--network", "basic", "toolbox", "curl", "-s", "http://one/hostname"),
          /^[0-9a-f]{12}$/,
        );
        assert.match(await docker("ps"), /one/);
        assert.match(await docker("port", "one"), /80\/tcp -> 0\.0\.0\.0:8123/);
        assert.equal(await docker("exec", "one", "echo", "hi"), "hi");
        assert.equal(
          await docker("inspect", "-f", "{{.NetworkSettings.Networks.basic.IPAddress}} {{.State.Running}}", "one"),
          "172.31.20.2 true",
        );
        await docker("network", "inspect", "basic");
        await docker("network", "connect", "bridge", "one");
        await docker("network", "disconnect", "bridge", "one");
        await docker("logs", "one");
        await docker("images");
        await docker("volume", "inspect", "vol");
        await docker("stop", "-t", "1", "one");
        await docker("rm", "one");
        await docker("network", "rm", "basic");
        await docker("volume", "rm", "vol");
        await docker("system", "df");
      });
    }

    for (const version of ["v1.24", "v1.40"]) {
      await t.test(`the raw API at ${version}`, async () => {
        const config = {
          Image: "toolbox",
          Cmd: ["sh", "-c", "echo hello; exit 4"],
          HostConfig: { NetworkMode: "default" },
        };
        const made = await api(lab, "POST", `/${version}/containers/create?name=raw`, config);
        assert.equal(made.status, 201, made.body);
        const { Id } = JSON.parse(made.body) as { Id: string };
        assert.equal((await api(lab, "POST", `/${version}/containers/${Id}/start`)).status, 204);
        const waited = await api(lab, "POST", `/${version}/containers/raw/wait`);
        assert.deepEqual([waited.status, JSON.parse(waited.body)], [200, { StatusCode: 4 }]);
        const seen = await api(lab, "GET", `/${version}/containers/raw/json`);
        assert.equal((JSON.parse(seen.body) as { State: { ExitCode: number } }).State.ExitCode, 4);
        assert.match((await api(lab, "GET", `/${version}/containers/json?all=1`)).body, /"\/raw"/);
        assert.match((await api(lab, "GET", `/${version}/containers/raw/logs?stdout=1`)).body, /hello/);
        assert.equal((await api(lab, "GET", `/${version}/networks`)).status, 200);
        assert.equal((await api(lab, "GET", `/${version}/images/json`)).status, 200);
        assert.equal((await api(lab, "GET", `/${version}/info`)).status, 200);
        assert.equal((await api(lab, "DELETE", `/${version}/containers/raw`)).status, 204);
        assert.equal((await api(lab, "DELETE", `/${version}/containers/raw`)).status, 404);
      });
    }
    assert.equal(await lab.ok(1, "ps", "-aq"), "");
  });
});
