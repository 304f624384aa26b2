import assert from "node:assert/strict";
import { test } from "node:test";
import { silentLog } from "../../src/base/log.ts";
import { removeForwardRule } from "../../src/network/mod.ts";
import { hostIp, inOwnMachine, openWorld, outsideIp, shell, tcpCall, tcpServer } from "./network-world.ts";

const signal = new AbortController().signal;

/** How a host may have its FORWARD policy set to DROP, and how to see and undo it. */
const firewalls = [
  { name: "none", close: "true", rules: "true", open: "true", reload: undefined, expected: 0 },
  {
    name: "iptables-legacy",
    close: "iptables-legacy -P FORWARD DROP; iptables-legacy -A FORWARD -s 203.0.113.1 -j ACCEPT",
    rules: "iptables-legacy -S FORWARD",
    reload: undefined,
    open: "iptables-legacy -P FORWARD ACCEPT; iptables-legacy -F FORWARD",
    expected: 1,
  },
  {
    name: "iptables-nft",
    close: "iptables-nft -P FORWARD DROP; iptables-nft -A FORWARD -s 203.0.113.1 -j ACCEPT",
    rules: "iptables-nft -S FORWARD",
    reload: "iptables-nft -F FORWARD; iptables-nft -A FORWARD -s 203.0.113.1 -j ACCEPT",
    open: "nft delete table ip filter",
    expected: 1,
  },
  {
    name: "firewalld's table",
    close:
      "nft 'add table inet firewalld; add chain inet firewalld filter_FORWARD { type filter hook forward priority filter + 10; }; add rule inet firewalld filter_FORWARD reject'",
    rules: "nft list chain inet firewalld filter_FORWARD",
    reload:
      "nft 'delete table inet firewalld; add table inet firewalld; add chain inet firewalld filter_FORWARD { type filter hook forward priority filter + 10; }; add rule inet firewalld filter_FORWARD reject'",
    open: "nft delete table inet firewalld",
    expected: 1,
  },
  {
    name: "iptables-nft, in place only after weftd",
    close: "true",
    rules: "iptables-nft -S FORWARD",
    reload: "iptables-nft -P FORWARD DROP; iptables-nft -A FORWARD -s 203.0.113.1 -j ACCEPT",
    open: "nft delete table ip filter",
    expected: 0,
  },
] as const;

inOwnMachine(import.meta.filename, () => {
  for (const firewall of firewalls) {
    test(`a FORWARD policy of DROP by ${firewall.name} does not stop containers, and still stops the rest`, async () => {
      shell(firewall.close);
      await using world = await openWorld();
      const { networks, kernel } = world;
      const publish = {
        protocol: "tcp" as const,
        containerPort: 80,
        hostAddress: undefined,
        hostPortFirst: 18080,
        hostPortLast: 18080,
      };
      const web = await networks.openSandbox(world.request("web", "bridge", { publish: [publish] }), signal);
      using _web = closing(await tcpServer(kernel, { path: web.netnsPath }, 80));
      using _outside = closing(await tcpServer(kernel, world.outside, 90));
      const check = async () => {
        assert.equal(await tcpCall(kernel, { path: web.netnsPath }, { ip: outsideIp, port: 90 }), hostIp, "out");
        assert.equal(await tcpCall(kernel, world.outside, { ip: hostIp, port: 18080 }), outsideIp, "in");
      };
      const count = () => shell(`${firewall.rules}`).match(/weft/g)?.length ?? 0;
      await check();
      assert.equal(count(), firewall.expected);
      await world.restart();
      await world.networks.openSandbox(world.request("web", "bridge", { publish: [publish] }), signal);
      assert.equal(count(), firewall.expected, "once, however often weftd starts");
      if (firewall.reload !== undefined) {
        shell(firewall.reload);
        assert.equal(count(), 0, "reloading took it away");
        await eventually(() => count() === 1);
        await check();
        assert.equal(count(), 1);
      }
      await world.networks[Symbol.asyncDispose]();
      await removeForwardRule({ chains: world.kernel.foreignChains, log: silentLog }, signal);
      assert.equal(count(), 0);
      if (firewall.expected > 0) {
        const out = await tcpCall(world.kernel, { path: web.netnsPath }, { ip: outsideIp, port: 90 });
        assert.equal(out, undefined, "it was the rule that let us through");
      }
      shell(firewall.open);
    });
  }
});

async function eventually(isSo: () => boolean): Promise<void> {
  for (let i = 0; i < 40 && !isSo(); i++) await new Promise((resolve) => setTimeout(resolve, 50));
  assert.ok(isSo(), "the rule is put back");
}

function closing(server: { close(): unknown }): Disposable {
  return { [Symbol.dispose]: () => void server.close() };
}
