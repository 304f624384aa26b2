import { type Cidr, type MacAddress, macFromBytes, macFromIpv4 } from "../../base/ip.ts";
import type { Random } from "../../base/random.ts";
import type { EndpointAddresses } from "../addresses.ts";
import type { Network, SandboxRequest } from "../model.ts";
import { gatewayRequest } from "./plan.ts";

/** compat: random with the local bit on bridges (28+), from the address on overlays, where peers may expect it. */
export function macFor(network: Network, addresses: EndpointAddresses, random: Random): MacAddress {
  if (network.spec.driver === "overlay" && addresses.ipv4 !== undefined) return macFromIpv4(addresses.ipv4.address);
  const bytes = random.bytes(6);
  bytes[0] = ((bytes[0] as number) & 0xfc) | 0x02;
  return macFromBytes(bytes);
}

export function balancerRequest(network: Network, nodeAddress: Cidr): SandboxRequest {
  const { ingress, name } = network.spec;
  return {
    sandboxId: ingress ? "ingress-sbox" : `lb_${network.id.slice(0, 9)}`,
    containerId: ingress ? "ingress-sbox" : `lb-${name}`,
    containerName: ingress ? "ingress-sbox" : `lb-${name}`,
    hostname: "",
    domainname: "",
    mode: "private",
    endpoints: [{ ...gatewayRequest(), network: network.id, ipv4: nodeAddress.address }],
    dns: { servers: [], search: [], options: [] },
    extraHosts: [],
    linkedHosts: [],
    publish: [],
    sysctls: {},
    filesDirectory: "",
  };
}
