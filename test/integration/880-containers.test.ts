// A container's networks and names, as a person sets them with the docker command.
import assert from "node:assert/strict";
import { test } from "node:test";
import { type TestLab, withLab } from "../support/lab.ts";

async function ipOn(lab: TestLab, container: string, network: string): Promise<string> {
  return lab.ok(1, "inspect", "-f", `{{(index .NetworkSettings.Networks "${network}").IPAddress}}`, container);
}

/** A shell script in a running container. */
function inside(lab: TestLab, container: string, script: string): Promise<string> {
  return lab.ok(1, "exec", container, "sh", "-c", script);
}

/** A shell script in a container of its own. */
function once(lab: TestLab, options: readonly string[], script: string): Promise<string> {
  return lab.ok(1, "run", "--rm", ...options, "toolbox", "sh", "-c", script);
}

test("containers and their networks", async (t) => {
  await withLab("wcon", 1, async (lab) => {
    await lab.ok(1, "network", "create", "--subnet", "172.31.7.0/24", "front");
    await lab.ok(1, "network", "create", "--subnet", "172.31.8.0/24", "back");
    await lab.ok(1, "run", "-d", "--name", "server", "--network", "front", "toolbox", "sleep", "1000");

    await t.test("--ip, --mac-address, --network-alias and -h are what the container sees", async () => {
      const options = ["--network", "front", "--ip", "172.31.7.77", "--mac-address", "02:11:22:33:44:55"];
      await lab.ok(
        1,
        "run",
        "-d",
        "--name",
        "app",
        "-h",
        "apphost",
        "--network-alias",
        "web",
        ...options,
        "toolbox",
        "sleep",
        "1000",
      );
      assert.equal(await ipOn(lab, "app", "front"), "172.31.7.77");
      assert.match(await inside(lab, "app", "ip addr show eth0"), /02:11:22:33:44:55[\s\S]*172\.31\.7\.77\/24/);
      assert.equal(
        await inside(lab, "app", "hostname; cat /etc/hostname; echo $HOSTNAME"),
        "apphost\napphost\napphost",
      );
      assert.match(await inside(lab, "app", "cat /etc/hosts"), /172\.31\.7\.77\s+apphost/);
      for (const name of ["app", "web"]) {
        assert.match(await inside(lab, "server", `ping -c1 -W2 ${name}`), /172\.31\.7\.77/);
      }
    });

    await t.test("a running container is connected and disconnected", async () => {
      await lab.ok(1, "network", "connect", "--alias", "store", "--ip", "172.31.8.9", "back", "app");
      assert.match(await inside(lab, "app", "ip addr show eth1"), /172\.31\.8\.9\/24/);
      assert.match(await once(lab, ["--network", "back"], "ping -c1 -W2 store"), /172\.31\.8\.9/);
      const again = await lab.docker(1, "network", "connect", "back", "app");
      assert.match(again.output, /endpoint with name app already exists in network back/);
      await lab.ok(1, "network", "disconnect", "back", "app");
      assert.doesNotMatch(await inside(lab, "app", "ip addr"), /172\.31\.8/);
      const twice = await lab.docker(1, "network", "disconnect", "back", "app");
      assert.match(twice.output, /is not connected to (the )?network back/);
    });

    await t.test("a stopped container is connected and disconnected, and starts with what was asked", async () => {
      await lab.ok(1, "create", "--name", "later", "--network", "front", "toolbox", "sleep", "1000");
      await lab.ok(1, "network", "connect", "--ip", "172.31.8.50", "back", "later");
      await lab.ok(1, "start", "later");
      assert.match(await inside(lab, "later", "ip -o -4 addr"), /172\.31\.7\.[\s\S]*172\.31\.8\.50/);
      await lab.ok(1, "stop", "-t", "0", "later");
      await lab.ok(1, "network", "disconnect", "front", "later");
      await lab.ok(1, "start", "later");
      const addresses = await inside(lab, "later", "ip -o -4 addr");
      assert.match(addresses, /172\.31\.8\.50/);
      assert.doesNotMatch(addresses, /172\.31\.7/);
      await lab.ok(1, "rm", "-f", "later");
    });

    await t.test("--network container:NAME shares the namespace, its files and its names", async () => {
      const seen = await once(
        lab,
        ["--network", "container:app"],
        "ip addr show eth0; hostname; cat /etc/hosts; ping -c1 -W2 server",
      );
      assert.match(seen, /172\.31\.7\.77\/24/);
      assert.match(seen, /apphost/);
      assert.match(seen, /1 packets received/);
      const missing = await lab.docker(1, "run", "--rm", "--network", "container:ghost", "toolbox", "true");
      assert.equal(missing.code, 125);
      assert.match(missing.output, /No such container: ghost/);
      await lab.ok(1, "create", "--name", "idle", "toolbox", "true");
      const stopped = await lab.docker(1, "run", "--rm", "--network", "container:idle", "toolbox", "true");
      assert.match(stopped.output, /cannot join network (namespace )?of a non running container/);
      await lab.ok(1, "rm", "idle");
    });

    await t.test("--dns, --dns-search, --dns-opt and --add-host reach the files", async () => {
      const dns = ["--dns", "10.9.8.7", "--dns-search", "corp.test", "--dns-opt", "ndots:3"];
      const plain = await once(lab, dns, "cat /etc/resolv.conf");
      assert.match(plain, /nameserver 10\.9\.8\.7/);
      assert.match(plain, /search corp\.test/);
      assert.match(plain, /options ndots:3/);
      const own = await once(lab, [...dns, "--network", "front"], "cat /etc/resolv.conf");
      assert.match(own, /nameserver 127\.0\.0\.11/);
      assert.match(own, /search corp\.test/);
      const hosts = await once(
        lab,
        ["--add-host", "db.test:10.1.2.3", "--add-host", "gw:host-gateway"],
        "cat /etc/hosts",
      );
      assert.match(hosts, /10\.1\.2\.3\s+db\.test/);
      assert.match(hosts, /172\.17\.0\.1\s+gw/);
    });

    await t.test("--link on the default bridge gives names and variables, in exec too", async () => {
      await lab.ok(1, "run", "-d", "--name", "db", "-e", "COLOUR=blue", "--expose", "5432", "toolbox", "sleep", "1000");
      const address = await ipOn(lab, "db", "bridge");
      await lab.ok(
        1,
        "run",
        "-d",
        "--name",
        "linking",
        "--link",
        "db:data-base",
        "-e",
        "DATA_BASE_ENV_EXTRA=mine",
        "toolbox",
        "sleep",
        "1000",
      );
      const expected = [
        "DATA_BASE_ENV_COLOUR=blue",
        "DATA_BASE_ENV_EXTRA=mine",
        "DATA_BASE_NAME=/linking/data-base",
        `DATA_BASE_PORT=tcp://${address}:5432`,
        `DATA_BASE_PORT_5432_TCP=tcp://${address}:5432`,
        `DATA_BASE_PORT_5432_TCP_ADDR=${address}`,
        "DATA_BASE_PORT_5432_TCP_PORT=5432",
        "DATA_BASE_PORT_5432_TCP_PROTO=tcp",
      ].join("\n");
      assert.equal(await inside(lab, "linking", "tr '\\0' '\\n' </proc/1/environ | grep ^DATA_BASE | sort"), expected);
      assert.equal(await inside(lab, "linking", "env | grep ^DATA_BASE | sort"), expected);
      assert.match(await inside(lab, "linking", "ping -c1 -W2 data-base"), new RegExp(address.replaceAll(".", "\\.")));
      assert.equal(await lab.ok(1, "inspect", "-f", "{{.HostConfig.Links}}", "linking"), "[/db:/linking/data-base]");

      await lab.ok(1, "stop", "-t", "0", "db");
      const refused = await lab.docker(1, "restart", "-t", "0", "linking");
      assert.match(refused.output, /Cannot link to a non running container: \/db AS \/linking\/data-base/);
      assert.equal(await lab.ok(1, "inspect", "-f", "{{.State.Status}}", "linking"), "exited");
      await lab.ok(1, "rm", "-f", "db");
      await lab.ok(1, "start", "linking");
      await lab.ok(1, "rm", "-f", "linking");
      const unknown = await lab.docker(1, "run", "--rm", "--link", "ghost", "toolbox", "true");
      assert.match(unknown.output, /could not get container for ghost: No such container: ghost/);
      assert.doesNotMatch(unknown.output, /Unable to find image/);
    });

    await t.test("--link on a user-defined network is an alias for the one who asked", async () => {
      const alone = ["--network", "front", "--link", "server:only-mine"];
      assert.match(await once(lab, alone, "ping -c1 -W2 only-mine"), /1 packets received/);
      assert.notEqual((await lab.docker(1, "exec", "app", "ping", "-c1", "-W1", "only-mine")).code, 0);
    });

    await t.test("an unknown network is refused without pulling, and nothing is left", async () => {
      const before = await lab.ok(1, "ps", "-aq");
      const result = await lab.docker(1, "run", "--network", "nosuch", "toolbox", "true");
      assert.equal(result.code, 125);
      assert.match(result.output, /network nosuch not found/);
      assert.doesNotMatch(result.output, /Unable to find image|pull/i);
      assert.equal(await lab.ok(1, "ps", "-aq"), before);
    });

    await t.test("rename, and the names follow", async () => {
      await lab.ok(1, "rename", "app", "renamed");
      assert.match(await inside(lab, "server", "ping -c1 -W2 renamed"), /172\.31\.7\.77/);
      assert.notEqual((await lab.docker(1, "exec", "server", "ping", "-c1", "-W1", "app")).code, 0);
      await lab.ok(1, "rename", "renamed", "app");
    });

    await t.test("in a swarm the manager is asked about an unknown network, at the start", async () => {
      await lab.ok(1, "swarm", "init", "--advertise-addr", lab.host(1).address);
      const result = await lab.docker(1, "run", "--network", "nosuch", "toolbox", "true");
      assert.equal(result.code, 125);
      assert.match(result.output, /network nosuch not found/);
      assert.doesNotMatch(result.output, /Unable to find image|pull/i);
      await lab.ok(1, "swarm", "leave", "--force");
    });
  });
});

test("on a worker, a network that the manager does not know", async () => {
  await withLab("wcow", 2, async (lab) => {
    await lab.ok(1, "swarm", "init", "--advertise-addr", lab.host(1).address);
    const token = await lab.ok(1, "swarm", "join-token", "-q", "worker");
    await lab.ok(2, "swarm", "join", "--token", token, `${lab.host(1).address}:2377`);
    const result = await lab.docker(2, "run", "--rm", "--network", "nosuch", "toolbox", "true");
    assert.equal(result.code, 125);
    assert.match(result.output, /network nosuch not found/);
    assert.doesNotMatch(result.output, /Unable to find image|pull/i);
    assert.equal(await lab.ok(2, "ps", "-aq"), "");
    await lab.ok(1, "network", "create", "-d", "overlay", "--attachable", "late");
    await lab.ok(2, "run", "--rm", "--network", "late", "toolbox", "true");
  });
});
