// kill -9 after every kind of step of every plan: containers are created, connected and removed on an overlay while weftd dies;
// started again it must converge: what was acknowledged lives, nothing is left over.
import assert from "node:assert/strict";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { startHost } from "../../src/lab/mod.ts";
import { command, eventually, type TestLab, withLab } from "../support/lab.ts";

/** What must be the same before a scenario and after it, on one host; names that are random are replaced. */
async function inventory(lab: TestLab, number: number): Promise<readonly string[]> {
  const host = lab.host(number);
  const ctr = (...words: readonly string[]) =>
    command(["ctr", "-a", `${host.execRoot}/containerd/containerd.sock`, "-n", "weft", ...words]);
  const [links, rules, namespaces, containers, snapshots, tasks, mounts, networks] = await Promise.all([
    lab.inHost(number, "ip", "-o", "link"),
    lab.inHost(number, "nft", "-s", "list", "ruleset"),
    command(["ls", `${host.execRoot}/netns`]),
    ctr("containers", "ls", "-q"),
    ctr("snapshots", "ls"),
    ctr("tasks", "ls", "-q"),
    command(["sh", "-c", `grep -E '${host.execRoot}|${host.dataRoot}' /proc/mounts | awk '{print $2}'`]),
    lab.docker(number, "network", "ls", "--format", "{{.Name}} {{.Driver}}"),
  ]);
  const section = (name: string, result: { readonly output: string }) =>
    result.output
      .split("\n")
      .map((line) =>
        line
          .replace(/^\d+: /, "")
          .replace(/veth[0-9a-f]+/g, "veth")
          .replace(/@if\d+|@\w+/g, "")
          .replace(/link\/ether \S+/, "")
          .replace(/ifindex \d+|qlen \d+/g, "")
          .trim(),
      )
      .filter((line) => line !== "")
      .sort()
      .map((line) => `${name}: ${line}`);
  return [
    ...section("link", { output: links.output.replace(/ state \w+.*/g, "") }),
    ...section("nft", rules),
    ...section("namespace", namespaces),
    ...section("container", containers),
    ...section("snapshot", snapshots),
    ...section("task", tasks),
    ...section("mount", mounts),
    ...section("network", networks),
  ];
}

/** Creates, connects, disconnects and removes containers on the overlay and a bridge; any of it may fail when weftd dies. */
async function scenario(lab: TestLab): Promise<{ readonly acknowledged: boolean }> {
  await lab.docker(1, "network", "create", "swept");
  const run = await lab.docker(
    1,
    "run",
    "-d",
    "--name",
    "aa",
    "--network",
    "cloth",
    "-p",
    "8099:80",
    "-v",
    "swept-data:/data",
    "toolbox",
    "httpd",
    "-f",
    "-h",
    "/etc",
  );
  await lab.docker(1, "create", "--name", "bb", "--network", "swept", "toolbox", "sleep", "1000");
  await lab.docker(1, "start", "bb");
  await lab.docker(1, "network", "connect", "cloth", "bb");
  await lab.docker(1, "exec", "bb", "true");
  await lab.docker(1, "network", "disconnect", "swept", "bb");
  await lab.docker(1, "stop", "-t", "1", "bb");
  await lab.docker(1, "rm", "-f", "bb");
  await lab.docker(1, "network", "rm", "swept");
  return { acknowledged: run.code === 0 };
}

async function clear(lab: TestLab): Promise<void> {
  for (const name of ["aa", "bb"]) {
    await lab.docker(1, "rm", "-f", name);
    const left = await lab.docker(1, "ps", "-aq", "--filter", `name=^/?${name}$`);
    assert.equal(left.stdout.trim(), "", `container ${name} can be removed: ${left.output}`);
  }
  await lab.docker(1, "network", "rm", "swept");
  await lab.docker(1, "volume", "rm", "-f", "swept-data");
}

/** Stops host 1's weftd with SIGKILL and starts it again, with fault injection or without. */
async function restart(lab: TestLab, environment: Readonly<Record<string, string>>): Promise<void> {
  const pid = (await readFile(lab.host(1).pidFile, "utf8").catch(() => "")).trim();
  if (pid !== "") await command(["kill", "-9", pid]);
  await eventually("weftd is gone", 5000, async () => (await command(["kill", "-0", pid])).code !== 0);
  await startHost(lab.host(1), () => {}, { environment });
}

test("weftd killed with -9 after every kind of step", async (t) => {
  const scratch = await mkdtemp(join(tmpdir(), "weft-sweep-"));
  try {
    await withLab("wsweep", 2, async (lab) => {
      const manager = lab.host(1).address;
      await lab.ok(1, "swarm", "init", "--advertise-addr", manager);
      await lab.ok(
        2,
        "swarm",
        "join",
        "--token",
        await lab.ok(1, "swarm", "join-token", "-q", "worker"),
        `${manager}:2377`,
      );
      await lab.ok(1, "network", "create", "-d", "overlay", "--attachable", "cloth");
      await lab.ok(2, "run", "-d", "--name", "far", "--network", "cloth", "toolbox", "sleep", "100000");

      // Once without a crash, to learn the kinds of steps and what the host looks like afterwards.
      const trace = join(scratch, "steps");
      await restart(lab, { WEFT_CRASH_TRACE: trace });
      assert.ok((await scenario(lab)).acknowledged);
      await clear(lab);
      await restart(lab, {});
      const clean = await inventory(lab, 1);
      const kinds = (await readFile(trace, "utf8")).trim().split("\n").sort();
      console.log(`kinds of steps, ${kinds.length}: ${kinds.join(" ")}`);
      assert.ok(kinds.length >= 20, "every room's plans are traced");

      for (const kind of kinds) {
        await t.test(`killed after ${kind}`, async () => {
          await restart(lab, { WEFT_CRASH_AFTER: kind }).catch(() => {}); // a step of the start itself kills it there
          const { acknowledged } = await scenario(lab);
          await restart(lab, {});
          if (acknowledged) {
            await eventually(
              "what was acknowledged is connected",
              15_000,
              async () => (await lab.docker(1, "exec", "aa", "ping", "-c1", "-W1", "far")).code === 0,
            );
            await eventually("and found from the other host", 15_000, async () =>
              (await lab.docker(2, "exec", "far", "curl", "-s", "--max-time", "2", "http://aa/passwd")).output.includes(
                "root",
              ),
            );
          }
          await clear(lab);
          let found = await inventory(lab, 1);
          await eventually("nothing is left over", 10_000, async () => {
            found = await inventory(lab, 1);
            return JSON.stringify(found) === JSON.stringify(clean);
          }).catch(() => assert.deepEqual(found, clean));
        });
      }
    });
  } finally {
    await rm(scratch, { recursive: true });
  }
});
