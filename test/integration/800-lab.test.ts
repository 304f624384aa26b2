// The lab's own promises: up for any N and twice in a row, env lines a shell can use, down leaves nothing behind.
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { command } from "../support/lab.ts";

const weft = fileURLToPath(new URL("../../weft", import.meta.url));
const withName = (name: string, ...args: readonly string[]) => command(["env", `WEFT_LAB=${name}`, weft, ...args]);

test("lab up, env, status and down", async () => {
  const name = "wlabt";
  try {
    const up = await withName(name, "lab", "up", "2");
    assert.equal(up.code, 0, up.output);
    assert.equal((await withName(name, "lab", "up", "2")).code, 0, "twice in a row");

    const env = await withName(name, "lab", "env", "2");
    assert.match(env.stdout, /^export H1=unix:\/\/\S+ NS1=wlabt1 IP1=10\.30\.10\.111$/m);
    assert.match(env.stdout, /^export IMAGE=toolbox:latest LABSW=wlabtsw$/m);
    const used = await command([
      "sh",
      "-c",
      `${env.stdout}\ndocker info -f '{{.Name}} {{.ServerVersion}}' && docker -H $H1 images --format '{{.Repository}}:{{.Tag}}' && ip -n $LABSW link show br0`,
    ]);
    assert.match(used.stdout, /^host2 \S+\ntoolbox:latest\n/);
    assert.match((await withName(name, "lab", "status")).stdout, /^host1\s+10\.30\.10\.111\s+up\s/m);
    // One more host joins a lab that is up already.
    assert.equal((await withName(name, "lab", "up", "3")).code, 0);
    assert.match((await withName(name, "lab", "status")).stdout, /^host3\s+10\.30\.10\.113\s+up\s/m);
    const run = await command([
      "sh",
      "-c",
      `${env.stdout}\ndocker run -d --name left -p 80:80 toolbox sleep 1000 && docker network create left`,
    ]);
    assert.equal(run.code, 0, run.output);
  } finally {
    const down = await withName(name, "lab", "down");
    assert.equal(down.code, 0, down.output);
  }
  for (const namespace of ["wlabt1", "wlabt2", "wlabt3", "wlabtsw"])
    assert.ok(!existsSync(`/run/netns/${namespace}`), namespace);
  assert.ok(!existsSync("/run/weft-lab/wlabt") && !existsSync("/var/lib/weft-lab/wlabt"));
  assert.equal((await command(["sh", "-c", "grep -c wlabt /proc/mounts || true"])).stdout.trim(), "0", "mounts");
  assert.equal((await command(["pgrep", "-f", "weft-lab/wlabt"])).stdout.trim(), "", "processes");
  assert.equal((await withName(name, "lab", "down")).code, 0, "down of nothing is fine");
});

test("wrong commands get one clear sentence and a non-zero exit", async () => {
  const wrong: readonly (readonly [RegExp, ...string[]])[] = [
    [/unknown command "dmeo"/, "dmeo"],
    [/cannot bring up 0 hosts/, "lab", "up", "0"],
    [/"three" is no whole number/, "lab", "up", "three"],
    [/unknown lab command "upp"/, "lab", "upp"],
    [/no lab is up/, "lab", "env"],
    [/unexpected argument "now"/, "demo", "now"],
  ];
  for (const [pattern, ...args] of wrong) {
    const result = await withName("wnolab", ...args);
    assert.notEqual(result.code, 0, args.join(" "));
    assert.match(result.stderr, pattern);
    assert.equal(result.stderr.trim().split("\n").length, 1, result.stderr);
  }
  const unnamed = await command(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "sh", weft, "demo"]);
  assert.notEqual(unnamed.code, 0);
  assert.match(unnamed.stderr, /^weft: must run as root/);
});
