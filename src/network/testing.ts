import { type IpAddress, type MacAddress, parseCidr, parseIp } from "../base/ip.ts";
import type { Endpoint, EndpointRequest, Network, NetworkSpec } from "./model.ts";

/** Builders for this room's tests. */
export function testSpec(name: string, change: Partial<NetworkSpec> = {}): NetworkSpec {
  return {
    name,
    driver: "bridge",
    scope: undefined,
    ipam: { driver: "default", options: {}, pools: [] },
    enableIpv4: true,
    enableIpv6: false,
    internal: false,
    attachable: false,
    ingress: false,
    configOnly: false,
    configFrom: undefined,
    options: {},
    labels: {},
    ...change,
  };
}

export function testNetwork(name: string, change: Partial<NetworkSpec> = {}, subnet = "172.18.0.0/16"): Network {
  const cidr = parseCidr(subnet);
  const gateway = parseIp(cidr.address.replace(/0$/, "1"));
  return {
    id: `${Buffer.from(name).toString("hex")}${"0".repeat(64)}`.slice(0, 64),
    createdAt: "2026-01-01T00:00:00.000Z",
    spec: testSpec(name, change),
    scope: "local",
    pools: [{ subnet: cidr, gateway, auxiliary: {} }],
    vnis: [],
  };
}

export function testRequest(network: string, change: Partial<EndpointRequest> = {}): EndpointRequest {
  return {
    network,
    ipv4: undefined,
    ipv6: undefined,
    mac: undefined,
    aliases: [],
    links: [],
    driverOptions: {},
    gatewayPriority: 0,
    ...change,
  };
}

export function testEndpoint(network: Network, address: string, change: Partial<Endpoint> = {}): Endpoint {
  return {
    id: "e".repeat(64),
    networkId: network.id,
    networkName: network.spec.name,
    sandboxId: "5".repeat(64),
    containerId: "c".repeat(64),
    containerName: "web",
    request: testRequest(network.spec.name),
    mac: "02:00:00:00:00:01" as MacAddress,
    ipv4: { address: address as IpAddress, prefix: 16 },
    ipv6: undefined,
    gateway: network.pools[0]?.gateway,
    gateway6: undefined,
    dnsNames: [],
    interfaceName: "eth0",
    attachmentId: undefined,
    ports: [],
    ...change,
  };
}
