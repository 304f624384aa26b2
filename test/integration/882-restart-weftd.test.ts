// weftd dies and comes back; what its containers are, say and have said stays.
import assert from "node:assert/strict";
import { existsSync, readdirSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { cgroupParentOf } from "../../src/base/cgroup.ts";
import { startHost } from "../../src/lab/mod.ts";
import { eventually, type TestLab, withLab } from "../support/lab.ts";

async function pidOf(lab: TestLab): Promise<number> {
  return Number(await readFile(lab.host(1).pidFile, "utf8"));
}

async function end(lab: TestLab, signal: NodeJS.Signals): Promise<void> {
  const pid = await pidOf(lab);
  process.kill(pid, signal);
  await eventually("weftd has ended", 20_000, async () => !existsSync(`/proc/${pid}`));
}

const start = (lab: TestLab, environment: Readonly<Record<string, string>> = {}) =>
  startHost(lab.host(1), () => {}, { environment });

function cgroups(lab: TestLab): readonly string[] {
  const parent = cgroupParentOf(lab.host(1).execRoot);
  return ["", ...readdirSync("/sys/fs/cgroup")].map((name) => join("/sys/fs/cgroup", name, parent)).filter(existsSync);
}

test("containers outlive weftd", async (t) => {
  let orphan = 0;
  await withLab("wres", 1, async (lab) => {
    await lab.ok(1, "network", "create", "front");

    await t.test("output while weftd is down is in the log afterwards, below the pipe's 64 KiB", async () => {
      const script = "i=0; while [ $i -lt 400 ]; do i=$((i+1)); echo line-$i; sleep 0.01; done; sleep 1000";
      await lab.ok(1, "run", "-d", "--name", "talks", "--network", "front", "toolbox", "sh", "-c", script);
      await end(lab, "SIGKILL");
      await sleep(1500);
      await start(lab);
      await eventually(
        "every line is there",
        15_000,
        async () => (await lab.ok(1, "logs", "-n", "1", "talks")) === "line-400",
      );
      const expected = Array.from({ length: 400 }, (_, i) => `line-${i + 1}`);
      assert.deepEqual((await lab.ok(1, "logs", "talks")).split("\n"), expected);
    });

    await t.test("names, addresses and exec work as before", async () => {
      assert.match(
        await lab.ok(1, "run", "--rm", "--network", "front", "toolbox", "ping", "-c1", "-W2", "talks"),
        /1 packets received/,
      );
      assert.equal(await lab.ok(1, "exec", "talks", "echo", "hi"), "hi");
    });

    await t.test("an exit while weftd is down is told with its code; --rm removes, a policy restarts", async () => {
      await lab.ok(1, "run", "-d", "--name", "ends", "toolbox", "sh", "-c", "sleep 1; exit 5");
      await lab.ok(1, "run", "-d", "--rm", "--name", "goes", "-v", "/scratch", "toolbox", "sleep", "1");
      await lab.ok(1, "run", "-d", "--restart", "always", "--name", "returns", "toolbox", "sleep", "1.5");
      await end(lab, "SIGKILL");
      await sleep(2000);
      await start(lab);
      assert.equal(await lab.ok(1, "inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", "ends"), "exited 5");
      assert.equal((await lab.docker(1, "inspect", "goes")).code, 1);
      assert.equal(await lab.ok(1, "volume", "ls", "-q"), "");
      await eventually(
        "it runs again",
        10_000,
        async () => (await lab.ok(1, "ps", "-q", "--filter", "name=returns")) !== "",
      );
      await lab.ok(1, "rm", "-f", "ends", "returns");
    });

    await t.test("a container that links is taken over with its hosts file", async () => {
      await lab.ok(1, "run", "-d", "--name", "other", "toolbox", "sleep", "1000");
      await lab.ok(1, "run", "-d", "--name", "links", "--link", "other:alias", "toolbox", "sleep", "1000");
      await end(lab, "SIGKILL");
      await start(lab);
      assert.match(await lab.ok(1, "exec", "links", "ping", "-c1", "-W2", "alias"), /1 packets received/);
      assert.equal(await lab.ok(1, "exec", "links", "sh", "-c", "echo $ALIAS_NAME"), "/links/alias");
      await lab.ok(1, "rm", "-f", "other", "links");
    });

    await t.test("a start that died between the runtime and the process is undone", async () => {
      await end(lab, "SIGKILL");
      await start(lab, { WEFT_CRASH_AFTER: "task.ensure" });
      await lab.docker(1, "run", "-d", "--name", "half", "--network", "front", "toolbox", "sleep", "1000");
      await sleep(300);
      await start(lab);
      assert.equal(await lab.ok(1, "inspect", "-f", "{{.State.Status}}", "half"), "created");
      await lab.ok(1, "start", "half");
      await lab.ok(1, "rm", "-f", "half");
    });

    await t.test("a clean stop leaves no cgroups, nor do containers killed with their daemon", async () => {
      assert.notDeepEqual(cgroups(lab), []);
      await end(lab, "SIGTERM");
      assert.deepEqual(cgroups(lab), []);
      await start(lab);
      await lab.ok(1, "run", "-d", "--name", "again", "toolbox", "sleep", "1000");
      const [pid] = (await lab.ok(1, "inspect", "-f", "{{.State.Pid}}", "again")).split("\n");
      await end(lab, "SIGKILL");
      orphan = Number(pid);
    });
  });
  assert.ok(orphan > 0);
  await eventually(
    "the lab's teardown has ended what weftd left running",
    2000,
    async () => !existsSync(`/proc/${orphan}`),
  );
  const parent = cgroupParentOf("/run/weft-lab/wres/1/exec");
  const left = ["", ...readdirSync("/sys/fs/cgroup")].filter((name) =>
    existsSync(join("/sys/fs/cgroup", name, parent)),
  );
  assert.deepEqual(left, []);
});
