// Wrong words on the docker command line get Docker's own words back, and change nothing.
import assert from "node:assert/strict";
import { connect } from "node:net";
import { test } from "node:test";
import { command, eventually, type TestLab, withLab } from "../support/lab.ts";

/** Sends raw bytes to the API socket and returns what comes back until the server closes or 2 s pass. */
function raw(socketPath: string, bytes: string | Uint8Array, endAfter = true): Promise<string> {
  return new Promise((resolve) => {
    const socket = connect({ path: socketPath, allowHalfOpen: true });
    let received = "";
    const done = () => {
      socket.destroy();
      resolve(received);
    };
    socket.setTimeout(2000, done);
    socket.on("data", (chunk: Buffer) => (received += String(chunk)));
    socket.on("end", done);
    socket.on("error", done);
    socket.write(bytes);
    if (endAfter) socket.end();
  });
}

const post = (path: string, body: string) =>
  `POST ${path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`;

async function state(lab: TestLab): Promise<string> {
  const look = await Promise.all([
    lab.ok(1, "ps", "-a", "--format", "{{.ID}} {{.Names}}"),
    lab.ok(1, "network", "ls", "--format", "{{.ID}} {{.Name}}"),
    lab.ok(1, "images", "--format", "{{.ID}} {{.Repository}}"),
    lab.ok(1, "volume", "ls", "-q"),
    lab.inHost(1, "ip", "-o", "link").then((r) => r.stdout.replace(/ state \w+/g, "")),
    lab.inHost(1, "nft", "-s", "list", "ruleset").then((r) => r.stdout),
  ]);
  return look.join("\n--\n");
}

test("bad input", async (t) => {
  await withLab("wbad", 1, async (lab) => {
    await lab.ok(1, "run", "-d", "--name", "used", "-p", "8085:80", "toolbox", "sleep", "1000");
    await lab.ok(1, "network", "create", "--subnet", "172.30.9.0/24", "taken");
    const before = await state(lab);
    const wrong: readonly (readonly [RegExp, ...string[]])[] = [
      [
        /Conflict\. The container name "\/used" is already in use by container "[0-9a-f]{64}"\. You have to remove \(or rename\) that container to be able to reuse that name\./,
        "run",
        "--name",
        "used",
        "toolbox",
      ],
      [
        /Invalid container name \(\S+\), only \[a-zA-Z0-9\]\[a-zA-Z0-9_\.-\] are allowed/,
        "create",
        "--name",
        "no/slash",
        "toolbox",
      ],
      [/invalid reference format/, "create", "UPPER CASE"],
      [/No such image|Unable to find image|dial tcp|connection refused/, "create", "--pull=never", "nosuchimage:1"],
      [/No such container: ghost/, "start", "ghost"],
      [/No such container: ghost/, "exec", "ghost", "true"],
      [/network nonet not found/, "run", "--rm", "--network", "nonet", "toolbox", "true"],
      [/port is already allocated/, "run", "--rm", "-p", "8085:80", "toolbox", "true"],
      [
        /invalid IPv4 address|invalid IP|No configured subnet|no configured subnet/i,
        "run",
        "--rm",
        "--network",
        "taken",
        "--ip",
        "10.9.9.9",
        "toolbox",
        "true",
      ],
      [
        /[Uu]ser-specified IP address is supported (on|only when).*user.defined networks/,
        "run",
        "--rm",
        "--ip",
        "172.17.0.9",
        "toolbox",
        "true",
      ],
      [
        /network-scoped alias(es are|) .*only.*for (containers in )?user.defined networks/i,
        "run",
        "--rm",
        "--network-alias",
        "x",
        "toolbox",
        "true",
      ],
      [/network with name taken already exists/, "network", "create", "taken"],
      [/Pool overlaps with other one on this address space/, "network", "create", "--subnet", "172.30.0.0/16", "other"],
      [/should be 10\.1\.0\.0\/16|bad address|invalid/i, "network", "create", "--subnet", "10.1.0.5/16", "other"],
      [
        /operation is not permitted on predefined bridge network|network with name bridge already exists/,
        "network",
        "create",
        "bridge",
      ],
      [/executable file not found in \$PATH/, "run", "--rm", "toolbox", "nosuchprogram"],
      [
        /conflicting options|links are only supported for user-defined networks/i,
        "run",
        "--rm",
        "--network",
        "host",
        "--link",
        "used",
        "toolbox",
        "true",
      ],
      [
        /invalid mount config for type "bind": bind source path does not exist: \/no\/such/,
        "run",
        "--rm",
        "--mount",
        "type=bind,src=/no/such,dst=/x",
        "toolbox",
        "true",
      ],
      [/No such network: ghost|network ghost not found/, "network", "rm", "ghost"],
      [/not a swarm manager/, "node", "ls"],
      [/invalid join token/, "swarm", "join", "--token", "SWMTKN-1-nonsense", "127.0.0.1:2377"],
      [/This node is not part of a swarm/, "swarm", "leave"],
      [/[Nn]o such volume|get ghost/, "volume", "rm", "ghost"],
      [/No such image: ghost/, "rmi", "ghost"],
    ];
    for (const [pattern, ...args] of wrong) {
      await t.test(`docker ${args.join(" ")}`, async () => {
        const result = await lab.docker(1, ...args);
        assert.notEqual(result.code, 0, result.output);
        assert.match(result.output, pattern);
      });
    }
    await t.test("nothing has changed", async () => assert.equal(await state(lab), before));

    await t.test("exit codes of docker run are Docker's", async () => {
      assert.equal((await lab.docker(1, "run", "--rm", "toolbox", "sh", "-c", "exit 42")).code, 42);
      assert.equal((await lab.docker(1, "run", "--rm", "toolbox", "nosuchprogram")).code, 127);
      assert.equal((await lab.docker(1, "run", "--rm", "toolbox", "/etc")).code, 126);
      assert.equal((await lab.docker(1, "run", "--rm", "--network", "nonet", "toolbox")).code, 125);
      const stopped = lab.docker(1, "run", "--rm", "--name", "killed", "toolbox", "sleep", "1000");
      await eventually("it can be killed", 10_000, async () => (await lab.docker(1, "kill", "killed")).code === 0);
      assert.equal((await stopped).code, 137);
    });

    await t.test("an encrypted overlay fails closed, and says why", async () => {
      await lab.ok(1, "swarm", "init", "--advertise-addr", lab.host(1).address);
      await lab.ok(1, "network", "create", "-d", "overlay", "--opt", "encrypted", "--attachable", "sealed");
      const refused = await lab.docker(1, "run", "--rm", "--network", "sealed", "toolbox", "true");
      assert.equal(refused.code, 125);
      assert.match(refused.output, /encrypted network "sealed": IPsec encryption \(ESP, xfrm\) is not available/);
      await lab.ok(1, "network", "rm", "sealed");
      await lab.ok(1, "swarm", "leave", "--force");
      await lab.ok(1, "network", "rm", "docker_gwbridge");
    });

    await t.test(
      "what is not there yet is refused in one sentence, and prune asks for nothing that is not there",
      async () => {
        const wrong: readonly (readonly [RegExp, ...string[]])[] = [
          [/not supported by this version/, "pause", "used"],
          [/not supported by this version/, "cp", "used:/etc/passwd", "-"],
          [/could not find plugin macvlan/, "network", "create", "-d", "macvlan", "lan"],
        ];
        for (const [pattern, ...args] of wrong) {
          const result = await lab.docker(1, ...args);
          assert.notEqual(result.code, 0);
          assert.match(result.output, pattern);
        }
        await lab.ok(1, "network", "create", "unused");
        assert.match(await lab.ok(1, "system", "prune", "-f"), /unused/);
        await lab.ok(1, "network", "create", "--subnet", "172.30.9.0/24", "taken");
      },
    );

    await t.test("broken requests are answered and don't hurt the daemon", async () => {
      const { socket } = lab.host(1);
      const undisturbed = await state(lab);
      assert.match(
        await raw(socket, post("/v1.41/containers/create", '{"Image": ')),
        /^HTTP\/1\.1 400 [\s\S]*"message"/,
      );
      assert.match(
        await raw(socket, post("/v1.41/containers/create", '{"Image": 5}')),
        /^HTTP\/1\.1 400 [\s\S]*"message"/,
      );
      assert.match(await raw(socket, post("/v1.41/networks/create", "[]")), /^HTTP\/1\.1 400 /);
      assert.match(
        await raw(socket, post("/v1.41/containers/create", `{"Image": "${"x".repeat(12 << 20)}"}`)),
        /^HTTP\/1\.1 4\d\d /,
      );
      assert.match(await raw(socket, "GET /v1.99/info HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"), /too new/);
      assert.match(
        await raw(socket, "GET /nosuch HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"),
        /^HTTP\/1\.1 404 [\s\S]*page not found/,
      );
      assert.match(await raw(socket, "GARBAGE\r\n\r\n"), /^(HTTP\/1\.1 400 |$)/);
      await raw(socket, `GET /${"a".repeat(200_000)} HTTP/1.1\r\n\r\n`);
      await raw(socket, "POST /v1.41/containers/create HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{");
      await raw(
        socket,
        "POST /v1.41/exec/x/start HTTP/1.1\r\nHost: x\r\nUpgrade: tcp\r\nConnection: Upgrade\r\nContent-Length: 50\r\n\r\n{",
      );
      await Promise.all(
        Array.from({ length: 40 }, (_, i) =>
          raw(socket, Buffer.from(Array.from({ length: 300 }, (_, j) => (i * 131 + j * 17) & 255))),
        ),
      );
      assert.equal(
        (
          await command([
            "curl",
            "-s",
            "-o",
            "/dev/null",
            "-w",
            "%{http_code}",
            "--unix-socket",
            socket,
            "http://x/_ping",
          ])
        ).stdout,
        "200",
      );
      assert.equal(await state(lab), undisturbed);
    });
  });
});
