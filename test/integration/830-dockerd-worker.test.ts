// A real dockerd (Debian's 20.10) joins our swarm: the proof that what we speak is what it speaks.
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { mkdir, rm } from "node:fs/promises";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { startDetached } from "../../src/lab/mod.ts";
import { command, eventually, type TestLab, withLab } from "../support/lab.ts";

const home = fileURLToPath(new URL("../..", import.meta.url)).replace(/\/$/, "");
const dockerd = `${home}/.weft/tools/docker-20/usr/sbin`;
const namespace = "wpeerdk";
const address = "10.30.10.211";
const base = "/var/lib/weft-lab/peer-dockerd";

/** Plugs a dockerd into the lab's bridge as one more host. */
async function withDockerd(
  lab: TestLab,
  body: (docker: (...args: readonly string[]) => Promise<string>) => Promise<void>,
): Promise<void> {
  const must = async (...words: readonly string[]) => {
    const result = await command(words);
    if (result.code !== 0) throw new Error(`${words.join(" ")}: ${result.output}`);
    return result.stdout.trim();
  };
  const remove = async () => {
    const pids = (await command(["pgrep", "-f", base])).stdout
      .trim()
      .split("\n")
      .filter((pid) => pid !== "" && Number(pid) !== process.pid);
    for (const pid of pids) await command(["kill", pid]);
    await eventually(
      "dockerd ends",
      20_000,
      async () => (await command(["pgrep", "-f", base])).stdout.trim() === "",
    ).catch(async () => {
      await command(["pkill", "-9", "-f", base]);
    });
    if (existsSync(`/run/netns/${namespace}`)) await command(["ip", "netns", "del", namespace]);
    const mounts = (
      await command(["sh", "-c", `grep ${base} /proc/mounts | awk '{print $2}' | sort -r`])
    ).stdout.trim();
    for (const point of mounts.split("\n").filter((line) => line !== "")) await command(["umount", "-l", point]);
    await rm(base, { recursive: true, force: true });
  };
  await remove();
  try {
    await mkdir(base, { recursive: true });
    await must("ip", "netns", "add", namespace);
    await must("ip", "-n", namespace, "link", "set", "lo", "up");
    await must(
      "ip",
      "link",
      "add",
      "ppeer",
      "netns",
      lab.lab.switchNamespace,
      "type",
      "veth",
      "peer",
      "name",
      "eth0",
      "netns",
      namespace,
    );
    await must("ip", "-n", lab.lab.switchNamespace, "link", "set", "ppeer", "master", "br0", "up");
    await must("ip", "-n", namespace, "addr", "add", `${address}/24`, "dev", "eth0");
    await must("ip", "-n", namespace, "link", "set", "eth0", "up");
    await must("ip", "-n", namespace, "route", "add", "default", "via", "10.30.10.1");
    const script = `hostname dockerhost; PATH=${dockerd}:$PATH exec dockerd --data-root ${base}/data --exec-root ${base}/exec -p ${base}/pid -H unix://${base}/sock`;
    startDetached(["nsenter", `--net=/run/netns/${namespace}`, "unshare", "--uts", "sh", "-c", script], `${base}/log`);
    const docker = (...args: readonly string[]) => must("docker", "-H", `unix://${base}/sock`, ...args);
    await eventually(
      "dockerd answers",
      60_000,
      async () => (await command(["docker", "-H", `unix://${base}/sock`, "version"])).code === 0,
    );
    await must(
      "docker",
      "-H",
      `unix://${base}/sock`,
      "import",
      "--change",
      'CMD ["sh"]',
      `${home}/.weft/toolbox.tar`,
      "toolbox:latest",
    );
    await body(docker);
  } catch (error) {
    const log = await command(["tail", "-n", "8", `${base}/log`]);
    throw new Error(
      `${error instanceof Error ? error.message : String(error)}\ndockerd's log ends with:\n${log.output}`,
    );
  } finally {
    await remove();
  }
}

test("a real dockerd joins our manager, and its containers and ours reach each other by name", async () => {
  await withLab("wpeer", 2, async (lab) => {
    await lab.ok(1, "swarm", "init", "--advertise-addr", lab.host(1).address);
    const token = await lab.ok(1, "swarm", "join-token", "-q", "worker");
    await lab.ok(2, "swarm", "join", "--token", token, `${lab.host(1).address}:2377`);
    await withDockerd(lab, async (docker) => {
      assert.match(
        await docker("swarm", "join", "--token", token, `${lab.host(1).address}:2377`),
        /joined a swarm as a worker/,
      );
      await eventually("node ls shows it Ready with its engine version", 30_000, async () => {
        const rows = await lab.ok(1, "node", "ls", "--format", "{{.Hostname}} {{.Status}} {{.EngineVersion}}");
        return /^dockerhost Ready 20\.10\./m.test(rows);
      });
      await lab.ok(1, "network", "create", "-d", "overlay", "--attachable", "mixed");
      await lab.ok(1, "run", "-d", "--name", "ours", "--network", "mixed", "toolbox", "sleep", "1000");
      await lab.ok(2, "run", "-d", "--name", "ours2", "--network", "mixed", "toolbox", "sleep", "1000");
      await docker("run", "-d", "--name", "theirs", "--network", "mixed", "toolbox", "sleep", "1000");
      const ping = (name: string) => ["ping", "-c", "2", "-W", "2", name];
      await eventually("dockerd's container pings ours by name", 40_000, async () =>
        docker("exec", "theirs", ...ping("ours")).then(
          (out) => out.includes(" 0% packet loss"),
          () => false,
        ),
      );
      await eventually("ours pings dockerd's by name", 40_000, async () =>
        (await lab.docker(1, "exec", "ours", ...ping("theirs"))).output.includes(" 0% packet loss"),
      );
      await eventually("host 2's pings dockerd's by name", 40_000, async () =>
        (await lab.docker(2, "exec", "ours2", ...ping("theirs"))).output.includes(" 0% packet loss"),
      );
      const peers = await docker("network", "inspect", "-f", "{{range .Peers}}{{.IP}} {{end}}", "mixed");
      for (const wanted of [lab.host(1).address, lab.host(2).address, address])
        assert.ok(peers.includes(wanted), `peers ${peers} lack ${wanted}`);
      // Its container going takes its name and its peer entry away everywhere.
      await docker("rm", "-f", "theirs");
      await eventually(
        "the name is gone here",
        20_000,
        async () => (await lab.docker(1, "exec", "ours", "nslookup", "theirs")).code !== 0,
      );
      await docker("swarm", "leave");
      await eventually("node ls shows it Down", 40_000, async () =>
        /^dockerhost Down/m.test(await lab.ok(1, "node", "ls", "--format", "{{.Hostname}} {{.Status}}")),
      );
    });
  });
});
