import assert from "node:assert/strict";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import type { EngineError } from "../../src/base/errors.ts";
import { type EngineWorld, logText, never, openEngineWorld, run, runToEnd, specOf } from "../support/engine-world.ts";

const skip = process.getuid?.() === 0 ? false : "needs root";

describe("containers over a private containerd", { skip, timeout: 120_000 }, () => {
  let world: EngineWorld;
  before(async () => {
    world = await openEngineWorld();
  });
  after(async () => {
    await world?.[Symbol.asyncDispose]();
  });

  const exec = async (id: string, command: readonly string[], changes = {}) => {
    const spec = {
      command,
      tty: false,
      attachStdin: false,
      attachStdout: true,
      attachStderr: true,
      env: [],
      user: "",
      workingDirectory: "",
      privileged: false,
      detachKeys: "",
      ...changes,
    };
    const execId = await world.containers.createExec(id, spec);
    const streams = await world.containers.startExec(execId, { detach: false, tty: spec.tty });
    assert.ok(streams?.stdout);
    const [stdout, stderr] = await Promise.all([text(streams.stdout), streams.stderr ? text(streams.stderr) : ""]);
    return { stdout, stderr, exitCode: world.containers.findExec(execId).exitCode };
  };

  test("runs a process to its end with its exit code and both streams in the log", async () => {
    const result = await runToEnd(world, specOf(["sh", "-c", "echo out; echo err >&2; printf partial; exit 3"]));
    assert.deepEqual(
      { exitCode: result.exitCode, stdout: result.stdout, stderr: result.stderr },
      { exitCode: 3, stdout: "out\npartial", stderr: "err\n" },
    );
    const file = join(world.root, "data/containers", result.id, `${result.id}-json.log`);
    const [first] = readFileSync(file, "utf8").split("\n");
    assert.match(first ?? "", /^\{"log":"(out|err)\\n","stream":"std(out|err)","time":"[\d-]+T[\d:]+\.\d{9}Z"\}$/);
  });

  test("is as strict as Docker: capabilities, seccomp, masked and read-only paths", async () => {
    const script = `grep -E '^(Cap(Eff|Bnd|Inh|Amb)|Seccomp|NoNewPrivs|Groups)' /proc/1/status
      grep -c . /proc/keys; (echo 1 > /proc/sys/kernel/panic) 2>&1; unshare -U true 2>&1; mount -t tmpfs x /tmp 2>&1
      ls -A /sys/firmware /proc/acpi; awk '{print $5, $6}' /proc/self/mountinfo`;
    const { stdout } = await runToEnd(world, specOf(["sh", "-c", script]));
    assert.match(stdout, /CapEff:\t00000000a80425fb\n/);
    assert.match(stdout, /CapBnd:\t00000000a80425fb\n/);
    assert.match(stdout, /CapInh:\t0{16}\n/);
    assert.match(stdout, /CapAmb:\t0{16}\n/);
    assert.match(stdout, /Seccomp:\t2\n/);
    assert.match(stdout, /NoNewPrivs:\t0\n/);
    assert.match(stdout, /\n0\n.*Read-only file system/s, "/proc/keys is empty, /proc/sys read-only");
    assert.match(stdout, /unshare: .*Operation not permitted/);
    assert.match(stdout, /mount: .*(Operation not permitted|permission denied)/);
    for (const line of [
      "/proc rw,nosuid,nodev,noexec,relatime",
      "/sys ro,nosuid,nodev,noexec,relatime",
      "/dev/shm rw,nosuid,nodev,noexec,relatime",
      "/dev/mqueue rw,nosuid,nodev,noexec,relatime",
      "/proc/sys ro,nosuid,nodev,noexec,relatime",
      "/etc/hosts rw,relatime",
    ]) {
      assert.ok(stdout.includes(`${line}\n`), `${line} in\n${stdout}`);
    }
  });

  test("gives users, groups, environment, directory and host name as asked", async () => {
    const spec = specOf(
      ["sh", "-c", "id; echo $LOOM $FOO $HOSTNAME; pwd; hostname; touch /x 2>&1; grep CapEff /proc/1/status"],
      {
        user: "weaver",
        env: ["FOO=bar"],
        workingDirectory: "/tmp/made/here",
        hostname: "mill",
      },
    );
    const { stdout } = await runToEnd(world, spec);
    assert.match(stdout, /uid=1000\(weaver\) gid=1000\(weaver\) groups=1000\(weaver\),2000\(loom\)/);
    assert.match(stdout, /\njacquard bar mill\n\/tmp\/made\/here\nmill\n/);
    assert.match(stdout, /Permission denied\nCapEff:\t0{16}\n/);
  });

  test("refuses what cannot run in Docker's words, and leaves nothing of a failed start", async () => {
    const start = runToEnd(world, specOf(["nosuch"]));
    await assert.rejects(start, {
      message:
        'failed to create task for container: failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: exec: "nosuch": executable file not found in $PATH: unknown',
    });
    const failed = world.containers.list().find((container) => container.process.path === "nosuch");
    assert.equal(failed?.state.kind === "created" && failed.state.failure?.exitCode, 127);
    assert.deepEqual((await world.containerd.tasks.list({})).tasks, []);
    assert.deepEqual(world.networks.live, []);
    await assert.rejects(runToEnd(world, specOf(["ls"], { user: "nobody-here" })), {
      message: "unable to find user nobody-here: no matching entries in passwd file",
    });
    await assert.rejects(world.containers.create({ ...specOf(["ls"]), image: "none" }, "gone", never), {
      message: "No such image: none:latest",
    });
    assert.throws(() => world.containers.find("gone"), { message: "No such container: gone" });
  });

  test("a network that cannot be built ends the start, and the runtime's half is undone", async () => {
    world.networks.failOpen = new Error("no address is free");
    const { id } = await world.containers.create(specOf(["sleep", "60"]), undefined, never);
    await assert.rejects(world.containers.start(id, never), /no address is free/);
    world.networks.failOpen = undefined;
    assert.deepEqual((await world.containerd.tasks.list({})).tasks, []);
    await world.containers.start(id, never);
    await world.containers.remove(id, { force: true, volumes: true }, never);
  });

  test("names conflict, rename, find by name, prefix", async () => {
    const { id } = await world.containers.create(specOf(["ls"]), "warp", never);
    await assert.rejects(world.containers.create(specOf(["ls"]), "warp", never), {
      code: "conflict",
      message: `Conflict. The container name "/warp" is already in use by container "${id}". You have to remove (or rename) that container to be able to reuse that name.`,
    });
    await world.containers.rename(id, "weft");
    assert.equal(world.containers.find("/weft").id, id);
    assert.equal(world.containers.find(id.slice(0, 10)).id, id);
    assert.throws(() => world.containers.find("warp"));
    await world.containers.remove("weft", { force: false, volumes: false }, never);
    assert.throws(() => world.containers.find(id));
  });

  test("stop sends the signal, then kills; kill, wait and events tell the story", async () => {
    const polite = await run(world, specOf(["sh", "-c", "trap 'exit 7' TERM; while :; do sleep 0.05; done"]));
    await sleep(150);
    await world.containers.stop(polite, { timeoutSeconds: 5 }, never);
    assert.equal(await world.containers.wait(polite, "not-running", never), 7);
    const stubborn = await run(world, specOf(["sh", "-c", "trap '' TERM; while :; do sleep 0.05; done"]));
    await sleep(100);
    await world.containers.stop(stubborn, { timeoutSeconds: 1 }, never);
    assert.equal(await world.containers.wait(stubborn, "not-running", never), 137);
    await assert.rejects(world.containers.stop(stubborn, {}, never), { code: "not-modified" });
    const actions = world.events.filter((event) => event.id === stubborn).map((event) => event.action);
    assert.deepEqual(actions, ["create", "start", "kill", "kill", "die", "stop"]);
    await assert.rejects(world.containers.createExec(stubborn, execSpec), {
      message: `container ${stubborn} is not running`,
    });
  });

  test("attach before start: input, output, half-close; several at once; detach leaves the process alone", async () => {
    const spec = specOf(["cat"], { openStdin: true, stdinOnce: true, attachStdin: true });
    const { id } = await world.containers.create(spec, undefined, never);
    const all = { stdin: true, stdout: true, stderr: true, logs: false, stream: true };
    const first = await world.containers.attach(id, all);
    const second = await world.containers.attach(id, { ...all, stdin: false });
    const third = await world.containers.attach(id, { ...all, stdin: false });
    third.close();
    assert.ok(first.stdin && first.stdout && second.stdout);
    const outputs = Promise.all([text(first.stdout), text(second.stdout)]);
    first.stdin.write("one\n");
    await world.containers.start(id, never);
    const big = `${"x".repeat(300_000)}\n`;
    first.stdin.end(big);
    assert.deepEqual(await outputs, [`one\n${big}`, `one\n${big}`]);
    assert.equal(await world.containers.wait(id, "not-running", never), 0);
    const replay = await world.containers.attach(id, { ...all, stdin: false, logs: true, stream: false });
    assert.ok(replay.stdout);
    assert.equal((await text(replay.stdout)).length, big.length + 4);
  });

  test("a slow reader slows the process, and loses nothing", async () => {
    const { id } = await world.containers.create(specOf(["sh", "-c", "seq 1 200000"]), undefined, never);
    const attached = await world.containers.attach(id, {
      stdin: false,
      stdout: true,
      stderr: true,
      logs: false,
      stream: true,
    });
    await world.containers.start(id, never);
    await sleep(300);
    assert.ok(attached.stdout);
    assert.ok(attached.stdout.readableLength < 1_000_000, "held back at the process, not in memory");
    const lines = (await text(attached.stdout)).split("\n");
    assert.equal(lines.length, 200_001);
    assert.equal(lines[199_999], "200000");
    const tail = await logText(world, id, 3);
    assert.equal(tail.stdout, "199998\n199999\n200000\n");
  });

  test("logs are followed to the end of the run; a container that does not run is not followed", async () => {
    const { id } = await world.containers.create(
      specOf(["sh", "-c", "for i in 1 2 3; do echo $i; sleep 0.1; done"]),
      undefined,
      never,
    );
    const follow = async () => {
      const options = { stdout: true, stderr: true, follow: true, tail: undefined, since: undefined, until: undefined };
      const lines: string[] = [];
      for await (const line of world.containers.logs(id, options, never))
        lines.push(new TextDecoder().decode(line.data));
      return lines;
    };
    assert.deepEqual(await follow(), []);
    await world.containers.start(id, never);
    assert.deepEqual(await Promise.all([follow(), follow()]), [
      ["1\n", "2\n", "3\n"],
      ["1\n", "2\n", "3\n"],
    ]);
    assert.deepEqual(await follow(), ["1\n", "2\n", "3\n"]);
  });

  test("a terminal has a size, and one stream", async () => {
    const { id } = await world.containers.create(
      specOf(["sh", "-c", "read x; stty size; echo err >&2; tty"], { tty: true, openStdin: true, stdinOnce: true }),
      undefined,
      never,
    );
    const attached = await world.containers.attach(id, {
      stdin: true,
      stdout: true,
      stderr: true,
      logs: false,
      stream: true,
    });
    assert.equal(attached.stderr, undefined);
    assert.ok(attached.stdin && attached.stdout);
    const output = text(attached.stdout);
    await world.containers.start(id, never);
    await world.containers.resize(id, { rows: 33, columns: 101 });
    attached.stdin.write("go\n");
    assert.match(await output, /go\r\n33 101\r\nerr\r\n\/dev\/pts\/0\r\n/);
  });

  test("exec: streams, exit codes, user, directory, environment, failures", async () => {
    const id = await run(world, specOf(["sleep", "60"]));
    const script = "id -un; pwd; echo $A $LOOM; echo bad >&2; exit 4";
    assert.deepEqual(await exec(id, ["sh", "-c", script], { user: "weaver", workingDirectory: "/tmp", env: ["A=b"] }), {
      stdout: "weaver\n/tmp\nb jacquard\n",
      stderr: "bad\n",
      exitCode: 4,
    });
    await assert.rejects(exec(id, ["nosuch"]), (error: EngineError & { exitCode: number }) => {
      assert.equal(
        error.message,
        'OCI runtime exec failed: exec failed: unable to start container process: exec: "nosuch": executable file not found in $PATH: unknown',
      );
      assert.equal(error.exitCode, 127);
      return true;
    });
    const execId = await world.containers.createExec(id, {
      ...execSpec,
      command: ["cat"],
      attachStdin: true,
      tty: true,
    });
    const streams = await world.containers.startExec(execId, {
      detach: false,
      tty: true,
      size: { rows: 5, columns: 6 },
    });
    assert.ok(streams?.stdin && streams.stdout);
    const output = text(streams.stdout);
    streams.stdin.write("hi\n\x04");
    assert.equal(await output, "hi\r\nhi\r\n");
    assert.equal(world.containers.findExec(execId).exitCode, 0);
    await world.containers.remove(id, { force: true, volumes: false }, never);
    assert.throws(() => world.containers.findExec(execId), { message: `No such exec instance: ${execId}` });
  });

  test("volumes: named, anonymous with the image's content, bind; in use, pruned, gone with the container", async () => {
    const source = join(world.root, "bind/made");
    const bare = { source: "", readonly: false, propagation: "", createSource: true, noCopy: false };
    const spec = specOf(
      [
        "sh",
        "-c",
        "cat /usr/local/share/pattern; stat -c %a /usr/local/share/pattern; echo x > /n/f; echo y > /b/f; touch /r/f 2>&1",
      ],
      { anonymousVolumes: ["/usr/local/share"] },
      {
        mounts: [
          { ...bare, type: "volume", source: "cloth", target: "/n" },
          { ...bare, type: "bind", source, target: "/b" },
          { ...bare, type: "bind", source, target: "/r", readonly: true },
        ],
        tmpfs: { "/t": "size=1m" },
      },
    );
    const { id, stdout } = await runToEnd(world, spec);
    assert.equal(stdout, "twill\n640\ntouch: /r/f: Read-only file system\n");
    assert.equal(readFileSync(join(source, "f"), "utf8"), "y\n");
    await assert.rejects(world.volumes.remove("cloth", false), {
      code: "conflict",
      message: `remove cloth: volume is in use - [${id}]`,
    });
    await world.containers.remove(id, { force: false, volumes: true }, never);
    assert.deepEqual(
      (await world.volumes.list()).map((volume) => volume.name),
      ["cloth"],
    );
    await world.volumes.remove("cloth", false);
    assert.ok(!existsSync(join(world.root, "data/volumes/cloth")));
    const missing = { ...bare, type: "bind", source: "/nosuch", target: "/x", createSource: false } as const;
    await assert.rejects(world.containers.create(specOf(["ls"], {}, { mounts: [missing] }), undefined, never), {
      message: 'invalid mount config for type "bind": bind source path does not exist: /nosuch',
    });
  });

  test("container:ID shares the sandbox; of one that does not run there is none", async () => {
    const owner = await run(world, specOf(["sleep", "60"]), "owner");
    const namespaceOf = async (spec: ReturnType<typeof specOf>) => (await runToEnd(world, spec)).stdout;
    const shared = await namespaceOf(
      specOf(["sh", "-c", "readlink /proc/self/ns/net; hostname"], { networkMode: "container:owner" }),
    );
    const { stdout } = await exec(owner, ["sh", "-c", "readlink /proc/self/ns/net; hostname"]);
    assert.equal(shared, stdout);
    await world.containers.remove("owner", { force: true, volumes: true }, never);
    await world.containers.create(specOf(["ls"]), "owner", never);
    await assert.rejects(namespaceOf(specOf(["ls"], { networkMode: "container:owner" })), {
      message: "cannot join network namespace of a non running container: container owner is created",
    });
  });

  test("--rm removes, on-failure restarts", async () => {
    const { id } = await world.containers.create(
      specOf(["sh", "-c", "exit 5"], {}, { autoRemove: true }),
      undefined,
      never,
    );
    const removed = world.containers.wait(id, "removed", never);
    await world.containers.start(id, never);
    assert.equal(await removed, 5);
    assert.throws(() => world.containers.find(id));
    // Name and volumes are free as soon as the removal is told, though more of it follows.
    for (let round = 0; round < 4; round++) {
      const spec = specOf(["true"], { anonymousVolumes: ["/scratch"] }, { autoRemove: true });
      const brief = await world.containers.create(spec, "brief", never);
      const gone = world.containers.wait(brief.id, "removed", never);
      await world.containers.start(brief.id, never);
      assert.equal(await gone, 0);
      assert.deepEqual(await world.volumes.list(), []);
    }
    const restartPolicy = { name: "on-failure", maximumRetryCount: 2 };
    const again = await run(world, specOf(["sh", "-c", "echo again; exit 1"], {}, { restartPolicy }));
    await until(
      () => world.containers.find(again).restartCount === 2 && world.containers.find(again).state.kind === "exited",
    );
    await sleep(600);
    assert.equal((await logText(world, again)).stdout, "again\n".repeat(3));
  });

  test("a killed-for-memory container says so", async () => {
    const spec = specOf(
      ["sh", "-c", "x=$(head -c 50000000 /dev/zero | tr '\\0' x); echo done"],
      {},
      { memoryBytes: 10 << 20 },
    );
    const { id, exitCode } = await runToEnd(world, spec);
    assert.equal(exitCode, 137);
    const { state } = world.containers.find(id);
    assert.equal(state.kind === "exited" && state.oomKilled, true);
  });

  test("a restart of the daemon: running ones go on with their streams, the dead are seen to", async () => {
    const script = "i=0; while :; do i=$((i+1)); echo line $i; sleep 0.02; done";
    const alive = await run(world, specOf(["sh", "-c", script]));
    const dying = await run(world, specOf(["sh", "-c", "sleep 0.2; exit 9"]));
    const sandbox = world.containers.find(alive).sandboxId ?? "";
    await sleep(100);
    await world.containers[Symbol.asyncDispose]();
    await sleep(400);
    await world.reopen();
    assert.ok(world.networks.recoveredWith.includes(sandbox));
    const { state } = world.containers.find(dying);
    assert.equal(state.kind === "exited" && state.exitCode, 9);
    assert.equal(world.containers.find(alive).state.kind, "running");
    await sleep(200);
    await world.containers.kill(alive, "KILL");
    const lines = (await logText(world, alive)).stdout.trimEnd().split("\n");
    assert.ok(lines.length > 15, `${lines.length} lines`);
    assert.deepEqual(
      lines,
      Array.from(lines, (_, i) => `line ${i + 1}`),
      "no line lost or doubled",
    );
  });

  test("containerd dies and comes back: containers run on and are followed", async () => {
    const id = await run(world, specOf(["sh", "-c", "sleep 2; exit 6"]));
    process.kill(world.process.pid, "SIGKILL");
    assert.equal(await world.containers.wait(id, "not-running", AbortSignal.timeout(10_000)), 6);
  });

  test("leaves no task, container or snapshot behind", async () => {
    for (const { id } of world.containers.list())
      await world.containers.remove(id, { force: true, volumes: true }, never);
    assert.deepEqual((await world.containerd.tasks.list({})).tasks, []);
    assert.deepEqual((await world.containerd.containers.list({})).containers, []);
    assert.deepEqual(world.networks.live, []);
    for await (const { info } of world.containerd.snapshots.list({ snapshotter: "overlayfs" })) {
      assert.equal(info.length, 1, "the image's only");
    }
  });

  test("a second start of create to running takes less than 100 ms", async (t) => {
    mkdirSync(join(world.root, "bench"), { recursive: true });
    const samples: number[] = [];
    for (let i = 0; i < 5; i++) {
      const begin = performance.now();
      const id = await run(world, specOf(["sleep", "60"], { networkMode: "host" }));
      samples.push(performance.now() - begin);
      await world.containers.remove(id, { force: true, volumes: true }, never);
    }
    const median = samples.sort((a, b) => a - b)[2] ?? Number.POSITIVE_INFINITY;
    t.diagnostic(`create to running: ${median.toFixed(1)} ms`);
    // Other work may share the machine: the bar of 100 ms is bench/'s; this one only catches a mistake.
    assert.ok(median < 400, `${median} ms`);
    writeFileSync(join(world.root, "bench/median"), String(median));
  });

  async function until(condition: () => boolean): Promise<void> {
    for (let i = 0; i < 200; i++) {
      if (condition()) return;
      await sleep(25);
    }
    assert.fail("the condition did not come true");
  }
});

const execSpec = {
  command: ["true"],
  tty: false,
  attachStdin: false,
  attachStdout: true,
  attachStderr: true,
  env: [],
  user: "",
  workingDirectory: "",
  privileged: false,
  detachKeys: "",
} as const;
