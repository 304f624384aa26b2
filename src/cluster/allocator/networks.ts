import { create } from "@bufbuild/protobuf";
import { EngineError } from "../../base/errors.ts";
import {
  type Cidr,
  familyOf,
  formatCidr,
  isUnspecified,
  networkOf,
  overlaps,
  parseCidr,
  tryParseCidr,
  tryParseIp,
} from "../../base/ip.ts";
import { type DefaultPool, globalDefaultPools, ipam } from "../../network/ipam/mod.ts";
import type { Cluster, Network } from "../../wire/gen/swarm_objects_pb.ts";
import {
  DriverSchema,
  type IPAMConfig,
  IPAMConfig_AddressFamily,
  IPAMConfigSchema,
  IPAMOptionsSchema,
} from "../../wire/gen/swarm_types_pb.ts";

export const vxlanIdsOption = "com.docker.network.driver.overlay.vxlanid_list";
const nodeLocalDrivers: ReadonlySet<string> = new Set(["bridge", "host", "ipvlan", "macvlan"]);
const firstVni = 4096;
const lastVni = 2 ** 24 - 1;

export function driverOf(network: Network): string {
  const name = network.spec?.driverConfig?.name ?? "";
  return name === "" ? "overlay" : name;
}

/** Both states are there: the network can be used (reference: swarm-control-plane 10.1). */
export function isAllocated(network: Network): boolean {
  return network.driverState !== undefined && network.ipam !== undefined;
}

export function isOverlay(network: Network): boolean {
  return network.driverState?.name === "overlay";
}

export function vnisOf(network: Network): readonly number[] {
  const list = network.driverState?.options[vxlanIdsOption] ?? "";
  return list === "" ? [] : list.split(",").map(Number);
}

export function poolsOf(cluster: Cluster): readonly DefaultPool[] {
  if (cluster.defaultAddressPool.length === 0) return globalDefaultPools;
  return cluster.defaultAddressPool.map((text) => ({ base: parseCidr(text), size: cluster.subnetSize || 24 }));
}

/**
 * Subnets, gateways and VNIs for a new network. Pure: returns the network with `driver_state` and `ipam`.
 *
 * @param others All other networks of the cluster.
 * @throws {EngineError} `forbidden` when a wanted subnet overlaps, `conflict` when a wanted VNI is taken, `invalid` when the pools are used up.
 */
export function allocateNetwork(
  network: Network,
  context: { readonly others: readonly Network[]; readonly pools: readonly DefaultPool[] },
): Network {
  const driver = driverOf(network);
  if (nodeLocalDrivers.has(driver)) {
    return {
      ...network,
      driverState: create(DriverSchema, { name: driver }),
      // An IPAM without a driver makes a dockerd worker panic (trap T14).
      ipam: create(IPAMOptionsSchema, { driver: create(DriverSchema) }),
    };
  }
  const taken = context.others.flatMap((other) => other.ipam?.configs ?? []).map((config) => parseCidr(config.subnet));
  const configs: IPAMConfig[] = [];
  for (const wanted of wantedConfigs(network)) {
    const subnet = chooseSubnet(wanted, taken, context.pools);
    taken.push(subnet);
    configs.push(withGateway(wanted, subnet));
  }
  const ipv4Count = configs.filter((config) => config.family === IPAMConfig_AddressFamily.IPV4).length;
  const options = { ...network.spec?.driverConfig?.options };
  options[vxlanIdsOption] = chooseVnis(options[vxlanIdsOption], ipv4Count, context.others).join(",");
  return {
    ...network,
    driverState: create(DriverSchema, { name: driver, options }),
    ipam: create(IPAMOptionsSchema, {
      driver: create(DriverSchema, { name: "default", options: network.spec?.ipam?.driver?.options ?? {} }),
      configs,
    }),
  };
}

function wantedConfigs(network: Network): readonly IPAMConfig[] {
  const configs = network.spec?.ipam?.configs ?? [];
  const any = create(IPAMConfigSchema, { family: IPAMConfig_AddressFamily.IPV4 });
  // VNIs belong to IPv4 subnets, so there is always one.
  return configs.some((config) => !config.subnet.includes(":")) ? configs : [any, ...configs];
}

function chooseSubnet(wanted: IPAMConfig, taken: readonly Cidr[], pools: readonly DefaultPool[]): Cidr {
  const asked = tryParseCidr(wanted.subnet);
  if (asked === undefined) return ipam.choosePool(pools, 4, taken);
  // `0.0.0.0/26` asks for a size.
  if (isUnspecified(asked.address) && asked.prefix > 0) {
    return ipam.choosePool(
      pools.map(({ base }) => ({ base, size: asked.prefix })),
      familyOf(asked.address),
      taken,
    );
  }
  const subnet = networkOf(asked);
  if (taken.some((other) => overlaps(other, subnet))) {
    throw new EngineError("forbidden", "invalid pool request: Pool overlaps with other one on this address space"); // compat:
  }
  return subnet;
}

function withGateway(wanted: IPAMConfig, subnet: Cidr): IPAMConfig {
  const family = familyOf(subnet.address) === 4 ? IPAMConfig_AddressFamily.IPV4 : IPAMConfig_AddressFamily.IPV6;
  const reserved = new Set(Object.values(wanted.reserved));
  const use = {
    subnet,
    range: wanted.range === "" ? undefined : tryParseCidr(wanted.range),
    isTaken: (ip: string) => reserved.has(ip),
  };
  const asked = tryParseIp(wanted.gateway);
  const gateway = ipam.chooseAddress(use, asked === undefined ? {} : { wanted: asked });
  return { ...wanted, family, subnet: formatCidr(subnet), gateway };
}

/** Given ids are honoured; otherwise the next ones after the highest in use, and the lowest free ones at the end. */
function chooseVnis(wanted: string | undefined, count: number, others: readonly Network[]): readonly number[] {
  const taken = new Set(others.flatMap(vnisOf));
  if (wanted !== undefined && wanted !== "") {
    const vnis = wanted.split(",").map((text) => Number(text.trim()));
    const bad = vnis.find((vni) => !Number.isInteger(vni) || vni < 0 || vni > lastVni);
    if (bad !== undefined || vnis.length < count) {
      throw new EngineError(
        "invalid",
        `invalid vxlan id list ${JSON.stringify(wanted)}: expected ${count} ids up to ${lastVni}`,
      );
    }
    const clash = vnis.find((vni) => taken.has(vni));
    if (clash !== undefined) throw new EngineError("conflict", `vxlan id ${clash} is already in use`);
    return vnis;
  }
  const vnis: number[] = [];
  let next = Math.max(firstVni - 1, ...[...taken].filter((vni) => vni < lastVni)) + 1;
  let wrapped = false;
  while (vnis.length < count) {
    if (next > lastVni) {
      if (wrapped) throw new EngineError("exhausted", "no vxlan id is free");
      wrapped = true;
      next = firstVni;
    }
    if (!taken.has(next)) {
      taken.add(next);
      vnis.push(next);
    }
    next++;
  }
  return vnis;
}
