// weft up, status and down on a host: here a network and mount namespace of its own, so that the machine's own is left alone.
import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { command, type Result } from "../support/lab.ts";

const weft = fileURLToPath(new URL("../../weft", import.meta.url));

/** Runs a shell script on a fresh "host": no interface but loopback, empty directories where Weft keeps its things. */
async function onHost(script: string): Promise<Result> {
  const home = await mkdtemp(join(tmpdir(), "weft-host-"));
  const setUp = `set -u; ip link set lo up
    for d in /run/weft /var/lib/weft /var/log/weft; do mkdir -p $d; mount -t tmpfs tmpfs $d; done
    export HOME=${home}; weft() { ${weft} "$@"; }
    trap 'weft down >/dev/null 2>&1; pkill -9 -f /run/weft/exec' EXIT`;
  try {
    return await command(["unshare", "--net", "--mount", "bash", "-c", `${setUp}\n${script}`]);
  } finally {
    await rm(home, { recursive: true, force: true });
  }
}

test("weft up starts weftd with a docker context, down stops it", async () => {
  const result = await onHost(`weft status; weft up || exit 1
    docker --context weft version -f 'server {{.Server.Version}}'
    docker --context weft network ls --format 'net {{.Name}}'
    weft up && weft status && weft down && weft status
    docker context ls --format 'context {{.Name}}'; ls /run/weft/docker.sock; nft list ruleset | grep -c weft`);
  assert.match(result.stdout, /^weftd is not running on this host/);
  assert.match(result.stdout, /^weftd is up\. Socket \/run\/weft\/docker\.sock, log \/var\/log\/weft\/weftd\.log$/m);
  assert.match(result.stdout, /^server \d/m);
  assert.match(result.stdout, /^net bridge$/m);
  assert.match(result.stdout, /^weftd is up already/m);
  assert.match(result.stdout, /^weftd runs as process \d+, answers on/m);
  assert.match(result.stdout, /^weftd has stopped/m);
  assert.doesNotMatch(result.stdout, /^context weft$/m);
  assert.match(result.stderr, /cannot access '\/run\/weft\/docker\.sock'/);
});

test("weft up refuses, naming the owner, where another engine is", async () => {
  const port = await onHost(`nc -l 2377 & sleep 0.3; weft up; echo "ended $?"; kill %1`);
  assert.match(port.stderr, /^weft: cannot start weftd: port 2377\/tcp is held by nc \(process \d+\)/m);
  assert.match(port.stdout, /^ended 1$/m);
  const bridge = await onHost(`ip link add docker0 type bridge; weft up; echo "ended $?"`);
  assert.match(bridge.stderr, /^weft: cannot start weftd: the bridge docker0 is held by/m);
  const vxlan = await onHost(
    `ip link add vx type vxlan id 9 dstport 4789 dev lo; ip link set vx up; weft up; echo "ended $?"`,
  );
  assert.match(vxlan.stderr, /^weft: cannot start weftd: port 4789\/udp is held by/m);
});

test("weft up passes flags on, and shows why weftd did not start", async () => {
  const result = await onHost(`weft up --no-such-flag; echo "ended $?"`);
  assert.match(result.stderr, /unknown flag: --no-such-flag/);
  assert.match(result.stdout, /^ended 1$/m);
});
