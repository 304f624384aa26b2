import { formatCidr } from "../../src/base/ip.ts";
import type { Network, NetworkMember } from "../../src/network/mod.ts";
import type { ClusterWorld } from "./cluster-world.ts";
import type { SimulatedHost } from "./simulated-host.ts";

interface Member extends NetworkMember {
  readonly host: SimulatedHost;
}

/** What contradicts what the hosts' containers call for, in words. Empty when all is as it should be. */
export async function disagreements(world: ClusterWorld): Promise<readonly string[]> {
  const out: string[] = [];
  const networks = await swarmNetworks(world);
  const members = new Map([...networks.keys()].map((id) => [id, membersOf(world, id)]));
  for (const host of world.running()) {
    out.push(...(await wrongInstalled(host, networks)));
    for (const [id, network] of networks) out.push(...wrongEntries(host, network, members.get(id) ?? []));
    out.push(...wrongNamespaces(host, networks));
    out.push(...wrongNames(world, host, networks));
  }
  for (const [id, network] of networks) out.push(...sharedAddresses(network, members.get(id) ?? []));
  out.push(...wrongAttachments(world));
  return out;
}

/** Overlay addresses that two living containers have in their kernels at this moment; never right, settled or not. */
export function addressesHeldTwice(world: ClusterWorld): readonly string[] {
  const holders = new Map<string, string>();
  return world.hosts.flatMap((host) =>
    [...host.containers.keys()].flatMap((name) => {
      const path = host.sandboxPath(name);
      const own = host.kernel.links({ path }).flatMap(({ addresses }) => addresses.map(({ address }) => address));
      return own.filter(isOverlayAddress).flatMap((address) => {
        const holder = holders.get(address);
        holders.set(address, `${name} on ${host.name}`);
        return holder === undefined ? [] : [`${address} is ${name}'s on ${host.name} and ${holder}'s`];
      });
    }),
  );
}

function isOverlayAddress(address: string): boolean {
  return address.startsWith("10.");
}

async function swarmNetworks(world: ClusterWorld): Promise<ReadonlyMap<string, Network>> {
  const found = new Map<string, Network>();
  for (const host of world.running()) {
    for (const network of await host.networks.list()) if (network.scope === "swarm") found.set(network.id, network);
  }
  return found;
}

function membersOf(world: ClusterWorld, networkId: string): readonly Member[] {
  return world.running().flatMap((host) => host.networks.endpoints(networkId).map((member) => ({ ...member, host })));
}

function containersOn(host: SimulatedHost, network: Network): readonly string[] {
  return [...host.containers.values()]
    .filter(({ endpoints }) => endpoints.some((endpoint) => endpoint.network === network.spec.name))
    .map(({ containerName }) => containerName);
}

function isUsed(host: SimulatedHost, network: Network): boolean {
  return network.spec.ingress || containersOn(host, network).length > 0;
}

/** Endpoints are exactly those of the containers that run, and the node's own on each network it has. */
async function wrongInstalled(host: SimulatedHost, networks: ReadonlyMap<string, Network>): Promise<readonly string[]> {
  return [...networks.values()].flatMap((network) => {
    const balancer = network.spec.ingress ? "ingress-sbox" : `lb-${network.spec.name}`;
    const own = isUsed(host, network) ? [`${network.spec.name}-endpoint`, balancer] : [];
    const found = host.networks.endpoints(network.id).map(({ name }) => name);
    const containers = found.filter((name) => !own.includes(name));
    const what = (side: string, names: readonly string[]) =>
      `${host.name}: endpoints on ${network.spec.name} ${side} ${JSON.stringify(names)}`;
    const wanted = containersOn(host, network);
    const out: string[] = [];
    if (!isSameSet(containers, wanted)) out.push(`${what("are", found)}, ${what("expected", wanted)}`);
    if (found.length - containers.length !== (own.length > 0 ? 1 : 0))
      out.push(`${what("are", found)}, own is missing`);
    return out;
  });
}

/** One neighbour and one forwarding entry for each endpoint elsewhere, where there is an endpoint here; else nothing. */
function wrongEntries(host: SimulatedHost, network: Network, members: readonly Member[]): readonly string[] {
  const path = overlayPath(host, network);
  const isThere = host.kernel.namespaces().includes(path);
  if (!isUsed(host, network)) return isThere ? [`${host.name}: has a namespace for ${network.spec.name}`] : [];
  if (!isThere) return [`${host.name}: has no namespace for ${network.spec.name}`];
  const wanted = members
    .filter((member) => member.host !== host)
    .flatMap(({ ipv4, mac, host: { address } }) => [`${ipv4?.address} ${mac}`, `${mac} ${address}`]);
  const tunnels = host.kernel.links({ path }).filter(({ type }) => type === "vxlan");
  if (tunnels.length !== 1) return [`${host.name}: has ${tunnels.length} tunnels for ${network.spec.name}`];
  const found = host.kernel.neighbours({ path }, "vxlan0");
  return difference(`${host.name}: entries of ${network.spec.name}`, found, wanted);
}

function wrongNamespaces(host: SimulatedHost, networks: ReadonlyMap<string, Network>): readonly string[] {
  const wanted = [...host.containers.keys()].map((name) => host.sandboxPath(name));
  for (const network of networks.values()) {
    if (!isUsed(host, network)) continue;
    wanted.push(overlayPath(host, network));
    const balancer = network.spec.ingress ? "ingress_sbox" : `lb_${network.id.slice(0, 9)}`;
    wanted.push(`${host.execRoot}/netns/${balancer}`);
  }
  return difference(`${host.name}: namespaces`, host.kernel.namespaces(), wanted);
}

/** Every name ever used answers, in each container, with its address on each shared network, or not at all. */
function wrongNames(
  world: ClusterWorld,
  host: SimulatedHost,
  networks: ReadonlyMap<string, Network>,
): readonly string[] {
  const out: string[] = [];
  for (const container of host.containers.values()) {
    const resolver = host.resolvers.get(host.sandboxPath(container.containerName));
    for (const { network: name } of container.endpoints) {
      const network = [...networks.values()].find(({ spec }) => spec.name === name);
      if (network === undefined) continue;
      for (const asked of world.names) {
        const wanted = addressesOf(world, network, asked);
        const found = resolver?.lookup(`${asked}.${name}`, 4) ?? [];
        if (isSameSet(found, wanted)) continue;
        out.push(`${host.name}: ${asked}.${name} is [${found}] in ${container.containerName}, expected [${wanted}]`);
      }
    }
  }
  return out;
}

function addressesOf(world: ClusterWorld, network: Network, name: string): readonly string[] {
  return world.running().flatMap((host) =>
    host.networks
      .endpoints(network.id)
      .filter((member) => member.name === name && host.containers.has(name))
      .map(({ ipv4 }) => String(ipv4?.address)),
  );
}

function sharedAddresses(network: Network, members: readonly Member[]): readonly string[] {
  const holders = new Map<string, string>();
  const gateways = network.pools.map(({ gateway }) => gateway);
  return members.flatMap(({ ipv4, name, host }) => {
    if (ipv4 === undefined) return [`${host.name}: ${name} has no address on ${network.spec.name}`];
    const holder = holders.get(ipv4.address);
    holders.set(ipv4.address, `${name} on ${host.name}`);
    if (gateways.includes(ipv4.address)) return [`${name} on ${host.name} has the gateway's address`];
    return holder === undefined ? [] : [`${formatCidr(ipv4)} of ${network.spec.name} is ${name}'s and ${holder}'s`];
  });
}

/** The manager holds an attachment for each endpoint of a container, and no other. */
function wrongAttachments(world: ClusterWorld): readonly string[] {
  const objects = world.manager.manager?.parts.objects;
  if (objects === undefined) return [];
  const found = objects
    .list("task")
    .filter(({ nodeId }) => world.running().some((host) => host.nodeId === nodeId))
    .map(({ nodeId, networks: [attachment] }) => `${nodeId} ${attachment?.network?.id} ${attachment?.addresses[0]}`);
  const wanted = world.running().flatMap((host) =>
    [...world.overlays].flatMap(([, networkId]) =>
      host.networks
        .endpoints(networkId)
        .filter(({ name }) => host.containers.has(name))
        .map(({ ipv4 }) => `${host.nodeId} ${networkId} ${ipv4 && formatCidr(ipv4)}`),
    ),
  );
  return difference("attachments", found, wanted);
}

function overlayPath(host: SimulatedHost, network: Network): string {
  return `${host.execRoot}/netns/1-${network.id.slice(0, 10)}`;
}

function difference(what: string, found: readonly string[], wanted: readonly string[]): readonly string[] {
  const [surplus, missing] = [without(found, wanted), without(wanted, found)];
  if (surplus.length === 0 && missing.length === 0) return [];
  return [`${what}: too many ${JSON.stringify(surplus)}, missing ${JSON.stringify(missing)}`];
}

/** Counts: what is there twice and wanted once is there once too often. */
function without(list: readonly string[], others: readonly string[]): readonly string[] {
  const left = [...others];
  return list.filter((one) => {
    const at = left.indexOf(one);
    if (at >= 0) left.splice(at, 1);
    return at < 0;
  });
}

function isSameSet(a: readonly string[], b: readonly string[]): boolean {
  return without(a, b).length === 0 && without(b, a).length === 0;
}
