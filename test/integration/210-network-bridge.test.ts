import assert from "node:assert/strict";
import { exec } from "node:child_process";
import { createSocket } from "node:dgram";
import { readFileSync } from "node:fs";
import { Socket } from "node:net";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { parseIp } from "../../src/base/ip.ts";
import type { Kernel, Netns } from "../../src/kernel/mod.ts";
import { testSpec } from "../../src/network/testing.ts";
import {
  endpointRequest,
  hostIp,
  inOwnMachine,
  openWorld,
  outsideIp,
  shell,
  tcpCall,
  tcpServer,
  udpCall,
  udpServer,
} from "./network-world.ts";

const signal = new AbortController().signal;
const publish = (change: object) => ({
  protocol: "tcp" as const,
  containerPort: 80,
  hostAddress: undefined,
  hostPortFirst: 18080,
  hostPortLast: 18080,
  ...change,
});

inOwnMachine(import.meta.filename, () => {
  test("two containers of a network meet, those of another do not, nor does the world come in", async () => {
    await using world = await openWorld();
    const { kernel, networks } = world;
    await networks.create(testSpec("front"), signal);
    await networks.create(testSpec("back"), signal);
    const a = await networks.openSandbox(world.request("a", "front"), signal);
    const b = await networks.openSandbox(world.request("b", "front"), signal);
    const c = await networks.openSandbox(world.request("c", "back"), signal);
    const ipOf = (sandbox: typeof a) => String(sandbox.endpoints[0]?.ipv4?.address);
    assert.equal(ipOf(a), "172.18.0.2");
    assert.equal(ipOf(c), "172.19.0.2");
    using _server = closing(await tcpServer(kernel, { path: b.netnsPath }, 80));
    assert.equal(await tcpCall(kernel, { path: a.netnsPath }, { ip: ipOf(b), port: 80 }), ipOf(a));
    assert.equal(await tcpCall(kernel, { path: c.netnsPath }, { ip: ipOf(b), port: 80 }), undefined);
    assert.equal(await tcpCall(kernel, "host", { ip: ipOf(b), port: 80 }), "172.18.0.1");
    shell("ip -n wn-out route add 172.16.0.0/12 via 192.0.2.1");
    assert.equal(await tcpCall(kernel, world.outside, { ip: ipOf(b), port: 80 }), undefined);
    // Out, masqueraded.
    using _outside = closing(await tcpServer(kernel, world.outside, 90));
    assert.equal(await tcpCall(kernel, { path: a.netnsPath }, { ip: outsideIp, port: 90 }), hostIp);
    // Names, by the resolver at 127.0.0.11 over its redirected port.
    const ask = (sandbox: typeof a, name: string) =>
      run(`nsenter --net=${sandbox.netnsPath} busybox nslookup -type=a ${name} 127.0.0.11`);
    assert.match(await ask(a, "b"), /Address: 172\.18\.0\.3/);
    assert.doesNotMatch(await ask(c, "b"), /172\.18/);
    assert.match(shell(`nsenter --net=${a.netnsPath} busybox ping -c1 -W1 ${ipOf(b)}`), / 0% packet loss/);
  });

  test("published ports answer from outside, from the host, from localhost and by hairpin", async () => {
    await using world = await openWorld();
    const { kernel, networks } = world;
    await networks.create(testSpec("front"), signal);
    await networks.create(testSpec("back"), signal);
    const publishing = [
      publish({}),
      publish({ protocol: "udp", containerPort: 53, hostPortFirst: 18053, hostPortLast: 18053 }),
      publish({ hostAddress: parseIp("127.0.0.1"), hostPortFirst: 18081, hostPortLast: 18081 }),
      publish({ hostPortFirst: 0, hostPortLast: 0 }),
    ];
    const web = await networks.openSandbox(world.request("web", "front", { publish: publishing }), signal);
    const peer = await networks.openSandbox(world.request("peer", "front"), signal);
    const other = await networks.openSandbox(world.request("other", "back"), signal);
    using _tcp = closing(await tcpServer(kernel, { path: web.netnsPath }, 80));
    using _udp = udpServer(kernel, { path: web.netnsPath }, 53);
    const at = (ip: string, port = 18080) => ({ ip, port });
    assert.equal(await tcpCall(kernel, world.outside, at(hostIp)), outsideIp, "the client's own address is seen");
    assert.equal(await tcpCall(kernel, "host", at(hostIp)), hostIp);
    assert.equal(await tcpCall(kernel, "host", at("127.0.0.1")), "172.18.0.1");
    assert.ok(await tcpCall(kernel, "host", at("::1")), "by the relay");
    assert.ok(await tcpCall(kernel, { path: peer.netnsPath }, at(hostIp)), "hairpin from the same network");
    assert.ok(await tcpCall(kernel, { path: web.netnsPath }, at(hostIp)), "hairpin to itself");
    assert.ok(await tcpCall(kernel, { path: other.netnsPath }, at(hostIp)), "from another network");
    assert.equal(await udpCall(kernel, world.outside, at(hostIp, 18053)), outsideIp);
    assert.ok(await udpCall(kernel, "host", at("127.0.0.1", 18053)));
    // Published on loopback: here only.
    assert.ok(await tcpCall(kernel, "host", at("127.0.0.1", 18081)));
    shell("ip -n wn-out route add 127.0.0.1/32 via 192.0.2.1 table local 2>/dev/null || true");
    assert.equal(await tcpCall(kernel, world.outside, at(hostIp, 18081)), undefined);
    const open = web.endpoints[0]?.ports.filter((port) => port.containerPort === 80) ?? [];
    const free = open.find((port) => port.hostPort > 20000);
    assert.ok(free !== undefined);
    assert.equal(await tcpCall(kernel, world.outside, at(hostIp, free.hostPort)), outsideIp);
    // Taken.
    await assert.rejects(networks.openSandbox(world.request("late", "back", { publish: [publish({})] }), signal), {
      message:
        /^driver failed programming external connectivity on endpoint late \([0-9a-f]{64}\): Bind for 0.0.0.0:18080 failed: port is already allocated$/,
    });
    assert.equal(networks.sandbox(world.request("late", "back").sandboxId), undefined);
    await networks.closeSandbox(web.id, signal);
    assert.equal(await tcpCall(kernel, world.outside, at(hostIp)), undefined);
    await networks.openSandbox(world.request("late", "back", { publish: [publish({})] }), signal);
  });

  test("a UDP client that never stops is answered by a restarted container at its new address", async () => {
    await using world = await openWorld();
    const { kernel, networks } = world;
    await networks.create(testSpec("front"), signal);
    const dns = [publish({ protocol: "udp", containerPort: 53, hostPortFirst: 18053, hostPortLast: 18053 })];
    const client = createSocket("udp4");
    const any = { type: "udp", address: parseIp("0.0.0.0"), portHostOrder: 0 } as const;
    await new Promise<void>((listening) => client.bind({ fd: kernel.openSocket(world.outside, any) }, listening));
    client.on("error", () => {});
    const send = () => client.send("?", 18053, hostIp);
    const asking = setInterval(send, 10);
    const answered = async () => {
      const isAnswered = { yet: false };
      const onAnswer = () => {
        isAnswered.yet = true;
      };
      client.on("message", onAnswer);
      await sleep(150);
      client.off("message", onAnswer);
      return isAnswered.yet;
    };
    try {
      assert.equal(await answered(), false, "asked before anything is published");
      const first = await networks.openSandbox(world.request("dns", "front", { publish: dns }), signal);
      using _first = udpServer(kernel, { path: first.netnsPath }, 53);
      assert.ok(await answered(), "published while asked");
      await networks.closeSandbox(first.id, signal);
      assert.equal(await answered(), false, "stopped");
      const again = await networks.openSandbox(world.request("dns2", "front", { publish: dns }), signal);
      assert.notEqual(again.endpoints[0]?.ipv4?.address, first.endpoints[0]?.ipv4?.address);
      using _again = udpServer(kernel, { path: again.netnsPath }, 53);
      assert.ok(await answered(), "restarted");
    } finally {
      clearInterval(asking);
      client.close();
    }
  });

  test("internal networks and networks without ICC keep their containers apart", async () => {
    await using world = await openWorld();
    const { kernel, networks } = world;
    await networks.create(testSpec("inner", { internal: true }), signal);
    const icc = { "com.docker.network.bridge.enable_icc": "false" };
    await networks.create(testSpec("apart", { options: icc }), signal);
    const [a, b] = [
      await networks.openSandbox(world.request("a", "inner"), signal),
      await networks.openSandbox(world.request("b", "inner"), signal),
    ];
    using _b = closing(await tcpServer(kernel, { path: b.netnsPath }, 80));
    using _outside = closing(await tcpServer(kernel, world.outside, 90));
    const ipOf = (sandbox: typeof a) => String(sandbox.endpoints[0]?.ipv4?.address);
    assert.ok(await tcpCall(kernel, { path: a.netnsPath }, { ip: ipOf(b), port: 80 }));
    assert.equal(await tcpCall(kernel, { path: a.netnsPath }, { ip: outsideIp, port: 90 }), undefined);
    shell(`nsenter --net=${a.netnsPath} ip route add default via 172.18.0.1`);
    assert.equal(await tcpCall(kernel, { path: a.netnsPath }, { ip: outsideIp, port: 90 }), undefined);
    const [c, d] = [
      await networks.openSandbox(world.request("c", "apart"), signal),
      await networks.openSandbox(world.request("d", "apart", { publish: [publish({})] }), signal),
    ];
    using _d = closing(await tcpServer(kernel, { path: d.netnsPath }, 80));
    assert.equal(await tcpCall(kernel, { path: c.netnsPath }, { ip: ipOf(d), port: 80 }), undefined);
    assert.ok(await tcpCall(kernel, { path: c.netnsPath }, { ip: outsideIp, port: 90 }));
    assert.ok(await tcpCall(kernel, { path: c.netnsPath }, { ip: hostIp, port: 18080 }), "what is published is open");
  });

  test("connect and disconnect: interfaces, default route and published ports follow", async () => {
    await using world = await openWorld();
    const { kernel, networks } = world;
    for (const name of ["b-net", "a-net"]) await networks.create(testSpec(name), signal);
    const web = await networks.openSandbox(world.request("web", "b-net", { publish: [publish({})] }), signal);
    using _server = closing(await tcpServer(kernel, { path: web.netnsPath }, 80));
    const route = () => shell(`nsenter --net=${web.netnsPath} ip -4 route show default`).trim();
    const at = { ip: hostIp, port: 18080 };
    assert.equal(route(), "default via 172.18.0.1 dev eth0");
    assert.equal(await tcpCall(kernel, world.outside, at), outsideIp);
    const made = await networks.connect(web.id, endpointRequest("a-net"), signal);
    assert.equal(made.interfaceName, "eth1");
    assert.equal(route(), "default via 172.19.0.1 dev eth1");
    assert.equal(await tcpCall(kernel, world.outside, at), outsideIp, "through the new gateway endpoint");
    assert.match(readFileSync(`${world.directory}/web/hosts`, "utf8"), /172\.18\.0\.2\tweb\n172\.19\.0\.2\tweb\n/);
    await assert.rejects(networks.connect(web.id, endpointRequest("a-net"), signal), {
      message: "endpoint with name web already exists in network a-net",
    });
    await assert.rejects(networks.remove("a-net", signal), /has active endpoints \(name:"web" id:"[0-9a-f]{12}"\)/);
    await networks.disconnect(web.id, "a-net", signal);
    assert.equal(route(), "default via 172.18.0.1 dev eth0");
    assert.equal(await tcpCall(kernel, world.outside, at), outsideIp);
    await networks.remove("a-net", signal);
    await assert.rejects(networks.disconnect(web.id, "a-net", signal), /is not connected to network a-net/);
  });

  test("a restart keeps addresses, ports and live connections; what died meanwhile is swept", async () => {
    await using world = await openWorld();
    await world.networks.create(testSpec("front"), signal);
    const request = world.request("web", "front", { publish: [publish({ hostPortFirst: 0, hostPortLast: 0 })] });
    const before = await world.networks.openSandbox(request, signal);
    await world.networks.openSandbox(world.request("gone", "front"), signal);
    const server = await tcpServer(world.kernel, { path: before.netnsPath }, 80);
    const port = before.endpoints[0]?.ports[0]?.hostPort ?? 0;
    const live = connectAndKeep(world.kernel, world.outside, { ip: hostIp, port });
    await live.next();
    await world.restart();
    const { networks, kernel } = world;
    const after = await networks.openSandbox(request, signal);
    assert.deepEqual(plain(after), plain(before));
    await networks.recovered(new Set([before.id]), signal);
    assert.equal(await tcpCall(kernel, world.outside, { ip: hostIp, port }), outsideIp);
    await live.next();
    live.close();
    server.close();
    assert.deepEqual(shell(`ls ${world.execRoot}/netns`).trim().split("\n"), [before.netnsPath.split("/").at(-1)]);
    const front = await networks.find("front");
    assert.deepEqual(
      networks.endpoints(front.id).map(({ name }) => name),
      ["web"],
    );
    assert.equal(shell("ip -o link show type veth").match(/veth[0-9a-f]{11}/g)?.length, 1);
    await networks.closeSandbox(before.id, signal);
    await networks.remove("front", signal);
    assert.equal(shell("nft list table ip weft").includes("elements"), true, "docker0's");
    assert.equal(shell("nft list table ip weft").includes("172.18"), false);
  });

  test("an endpoint on a bridge takes less than 10 ms", async () => {
    await using world = await openWorld();
    await world.networks.create(testSpec("front"), signal);
    const times: number[] = [];
    for (let n = 0; n < 15; n++) {
      const request = world.request(`c${n}`, "front", {
        publish: [publish({ hostPortFirst: 20000 + n, hostPortLast: 20000 + n })],
      });
      await world.networks.prepareSandbox(request.sandboxId, "private");
      const start = performance.now();
      await world.networks.openSandbox(request, signal);
      times.push(performance.now() - start);
    }
    times.sort((x, y) => x - y);
    const median = times[7] ?? 0;
    const closing: number[] = [];
    for (let n = 0; n < 15; n++) {
      const start = performance.now();
      await world.networks.closeSandbox(world.request(`c${n}`, "front").sandboxId, signal);
      closing.push(performance.now() - start);
    }
    console.log(`closeSandbox median ${closing.sort((x, y) => x - y)[7]?.toFixed(1)} ms`);
    const wide = publish({ hostPortFirst: 0, hostPortLast: 0 });
    const ports = Array.from({ length: 200 }, (_, i) => ({
      ...wide,
      containerPort: 1000 + i,
      hostPortFirst: 21000 + i,
      hostPortLast: 21000 + i,
    }));
    const start = performance.now();
    await world.networks.openSandbox(world.request("wide", "front", { publish: ports }), signal);
    console.log(`200 ports ${(performance.now() - start).toFixed(0)} ms`);
    console.log(`openSandbox median ${median.toFixed(1)} ms, worst ${times.at(-1)?.toFixed(1)} ms`);
    assert.ok(median < 30, `median ${median} ms`);
  });
});

/** A connection that stays open; `next` sends a line and waits for its echo. */
function connectAndKeep(kernel: Kernel, ns: Netns, to: { readonly ip: string; readonly port: number }) {
  const socket = new Socket({ fd: kernel.openUnbound(ns, "tcp4") });
  socket.connect(to.port, to.ip);
  return {
    next: () =>
      new Promise<void>((resolve, reject) => {
        const timer = setTimeout(() => reject(new Error("the connection is dead")), 2000);
        socket.on("data", (data) => {
          if (!String(data).includes("ping")) return;
          clearTimeout(timer);
          socket.removeAllListeners("data");
          resolve();
        });
        socket.write("ping\n");
      }),
    close: () => socket.destroy(),
  };
}

/** For commands that need an answer from this process: it must not stand still meanwhile. */
function run(command: string): Promise<string> {
  return new Promise((resolve) => {
    exec(command, { timeout: 5000 }, (_, stdout, stderr) => resolve(stdout + stderr));
  });
}

/** As the store gives it back: without the properties that are undefined. */
const plain = (value: unknown): unknown => JSON.parse(JSON.stringify(value));

function closing(server: { close(): unknown }): Disposable {
  return { [Symbol.dispose]: () => void server.close() };
}
