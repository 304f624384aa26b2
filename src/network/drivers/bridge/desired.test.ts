import assert from "node:assert/strict";
import { test } from "node:test";
import type { IpAddress } from "../../../base/ip.ts";
import { type KernelObject, objectKey } from "../../../kernel/mod.ts";
import type { PortBinding } from "../../model.ts";
import { testEndpoint, testNetwork } from "../../testing.ts";
import { endpointObjects, networkObjects } from "./desired.ts";

const defaults = { mtuBytes: 1500, defaultName: "docker0", filtersBridged: true };

/** One line an object: its key, and what is not in it. */
function text(objects: readonly KernelObject[]): readonly string[] {
  return objects.map((object) => {
    const rest =
      object.kind === "link"
        ? JSON.stringify(object.link)
        : object.kind === "nft-element"
          ? (object.element.value ?? "")
          : object.kind === "sysctl"
            ? object.value
            : "";
    return `${objectKey(object)} ${rest}`.trim();
  });
}

test("networkObjects() of a plain network: bridge, gateway, one element a set", () => {
  assert.deepEqual(text(networkObjects(testNetwork("front"), defaults)), [
    'link host br-66726f6e7400 {"type":"bridge","name":"br-66726f6e7400","mtuBytes":1500}',
    "address host br-66726f6e7400 172.18.0.1/16",
    "nft-element host ip weft subnets 172.18.0.0/16",
    'nft-element host ip weft bridges "br-66726f6e7400"',
    'nft-element host ip weft own "br-66726f6e7400" . "br-66726f6e7400"',
    'nft-element host ip weft icc "br-66726f6e7400" . "br-66726f6e7400"',
    'nft-element host ip weft masquerading "br-66726f6e7400"',
    "sysctl host net.ipv4.conf.br-66726f6e7400.route_localnet 1",
  ]);
});

test("networkObjects() of an internal network without ICC: no masquerade, no icc element", () => {
  const network = testNetwork("back", {
    internal: true,
    options: { "com.docker.network.bridge.enable_icc": "false", "com.docker.network.bridge.name": "br0x" },
  });
  assert.deepEqual(
    text(networkObjects(network, defaults)).filter((line) => line.startsWith("nft")),
    [
      "nft-element host ip weft subnets 172.18.0.0/16",
      'nft-element host ip weft bridges "br0x"',
      'nft-element host ip weft own "br0x" . "br0x"',
      'nft-element host ip weft internal "br0x"',
    ],
  );
});

test("endpointObjects() leads published ports to the endpoint, each key once", () => {
  const network = testNetwork("front");
  const port = (hostAddress: string, hostPort: number): PortBinding => ({
    protocol: "tcp",
    containerPort: 80,
    hostAddress: hostAddress as IpAddress,
    hostPort,
  });
  const ports = [port("0.0.0.0", 8080), port("::", 8080), port("127.0.0.1", 9090)];
  assert.deepEqual(text(endpointObjects(network, testEndpoint(network, "172.18.0.2", { ports }), "/ns/a", defaults)), [
    'link host vetheeeeeeeeeee {"type":"veth","name":"vetheeeeeeeeeee","mtuBytes":1500,"master":"br-66726f6e7400","isolated":false,"hairpin":true,"peer":{"ns":{"path":"/ns/a"},"name":"eth0","mac":"02:00:00:00:00:01"}}',
    "address /ns/a eth0 172.18.0.2/16",
    "sysctl /ns/a net.ipv6.conf.eth0.disable_ipv6 1",
    "nft-element host ip weft self 172.18.0.2 . 172.18.0.2",
    "nft-element host ip weft published 172.18.0.2 . tcp . 80",
    "nft-element host ip weft everywhere tcp . 8080 172.18.0.2 . 80",
    "nft-element host ip weft addressed 127.0.0.1 . tcp . 9090 172.18.0.2 . 80",
    "nft-element host ip weft loopback 127.0.0.1 . tcp . 9090",
  ]);
});
