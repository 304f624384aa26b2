import { familyOf, type IpAddress, type IpFamily, isLoopback, isUnspecified } from "../../../base/ip.ts";
import type { KernelObject, Netns } from "../../../kernel/mod.ts";
import { hostElement, joined, quoted } from "../../firewall/host-table.ts";
import type { Endpoint, Network, PortBinding } from "../../model.ts";
import { parseBridgeOptions } from "./options.ts";

export interface BridgeDefaults {
  readonly mtuBytes: number;
  /** Device of the default bridge. */
  readonly defaultName: string;
  /** Whether frames between ports of a bridge pass the host table (br_netfilter's `bridge-nf-call-iptables`). */
  readonly filtersBridged: boolean;
}

export function bridgeName(network: Network, defaults: BridgeDefaults): string {
  const options = parseBridgeOptions(network.spec.options);
  return options.bridgeName ?? (options.isDefault ? defaults.defaultName : `br-${network.id.slice(0, 12)}`);
}

/** Host end of an endpoint's veth pair: `veth` and as many digits of the endpoint id as fit (15 bytes). */
export function vethName(endpointId: string): string {
  return `veth${endpointId.slice(0, 11)}`;
}

/** What the host must contain for one bridge network, endpoints apart. */
export function networkObjects(network: Network, defaults: BridgeDefaults): readonly KernelObject[] {
  const options = parseBridgeOptions(network.spec.options);
  const name = bridgeName(network, defaults);
  const mtuBytes = options.mtuBytes ?? defaults.mtuBytes;
  const objects: KernelObject[] = [{ kind: "link", ns: "host", link: { type: "bridge", name, mtuBytes } }];
  for (const pool of network.pools) {
    const family = familyOf(pool.subnet.address);
    if (pool.gateway !== undefined) {
      const address = { address: pool.gateway, prefix: pool.subnet.prefix };
      objects.push({ kind: "address", ns: "host", link: name, address, noDad: true });
    }
    objects.push(hostElement(family, "subnets", `${pool.subnet.address}/${pool.subnet.prefix}`));
  }
  for (const family of familiesOf(network)) {
    objects.push(hostElement(family, "bridges", quoted(name)));
    objects.push(hostElement(family, "own", joined(quoted(name), quoted(name))));
    if (options.icc) objects.push(hostElement(family, "icc", joined(quoted(name), quoted(name))));
    if (network.spec.internal) objects.push(hostElement(family, "internal", quoted(name)));
    else if (options.masquerade) objects.push(hostElement(family, "masquerading", quoted(name)));
  }
  // Connections to 127.0.0.1:PORT on the host are sent on to a container: their replies must be let in again.
  if (familiesOf(network).includes(4)) {
    objects.push({ kind: "sysctl", ns: "host", key: `net.ipv4.conf.${name}.route_localnet`, value: "1" });
  }
  // Forwarding makes a host deaf to router advertisements, so it is switched on only where an IPv6 network needs it.
  if (familiesOf(network).includes(6)) {
    objects.push({ kind: "sysctl", ns: "host", key: "net.ipv6.conf.all.forwarding", value: "1" });
  }
  return objects;
}

/** What one endpoint needs: the pair of interfaces, its addresses, and its published ports. */
export function endpointObjects(
  network: Network,
  endpoint: Endpoint,
  namespacePath: string,
  defaults: BridgeDefaults,
): readonly KernelObject[] {
  const options = parseBridgeOptions(network.spec.options);
  const ns: Netns = { path: namespacePath };
  const mac = endpoint.mac;
  if (mac === undefined) return [];
  const objects: KernelObject[] = [
    {
      kind: "link",
      ns: "host",
      link: {
        type: "veth",
        name: vethName(endpoint.id),
        mtuBytes: options.mtuBytes ?? defaults.mtuBytes,
        master: bridgeName(network, defaults),
        // Without ICC the forward chain keeps the ports apart where it sees bridged frames, else the bridge does. Not both: what
        // is translated to another port of the same bridge is then bridged straight to it, and isolation would stop it.
        isolated: !options.icc && !defaults.filtersBridged,
        // For the same reason a container that calls its own published port comes back through its own bridge port.
        hairpin: endpoint.ports.length > 0,
        peer: { ns, name: endpoint.interfaceName, mac },
      },
    },
  ];
  for (const address of [endpoint.ipv4, endpoint.ipv6]) {
    if (address === undefined) continue;
    objects.push({ kind: "address", ns, link: endpoint.interfaceName, address, noDad: true });
  }
  objects.push({
    kind: "sysctl",
    ns,
    key: `net.ipv6.conf.${endpoint.interfaceName}.disable_ipv6`,
    value: endpoint.ipv6 === undefined ? "1" : "0",
  });
  return [...objects, ...portObjects(endpoint)];
}

/** Elements that lead published ports to the endpoint. IPv6 to an IPv4-only endpoint is the relay's (portmapping/relay.ts). */
export function portObjects(endpoint: Endpoint): readonly KernelObject[] {
  const byKey = new Map<string, KernelObject>();
  const add = (object: KernelObject & { readonly kind: "nft-element" }) =>
    byKey.set(`${object.element.family} ${object.element.set} ${object.element.key}`, object);
  for (const port of endpoint.ports) {
    const target = targetOf(endpoint, port);
    if (target === undefined) continue;
    const family = familyOf(target);
    const to = joined(target, port.containerPort);
    add(element(family, "self", joined(target, target)));
    add(element(family, "published", joined(target, port.protocol, port.containerPort)));
    if (isUnspecified(port.hostAddress)) {
      add(element(family, "everywhere", joined(port.protocol, port.hostPort), to));
      continue;
    }
    const key = joined(port.hostAddress, port.protocol, port.hostPort);
    add(element(family, "addressed", key, to));
    if (isLoopback(port.hostAddress)) add(element(family, "loopback", key));
  }
  return [...byKey.values()];
}

/** Address of the endpoint that the kernel can translate a binding to, or undefined when the families differ. */
export function targetOf(endpoint: Endpoint, port: PortBinding): IpAddress | undefined {
  return familyOf(port.hostAddress) === 4 ? endpoint.ipv4?.address : endpoint.ipv6?.address;
}

function element(...args: Parameters<typeof hostElement>): KernelObject & { readonly kind: "nft-element" } {
  return hostElement(...args) as KernelObject & { readonly kind: "nft-element" };
}

function familiesOf(network: Network): readonly IpFamily[] {
  return [...new Set(network.pools.map((pool) => familyOf(pool.subnet.address)))];
}
