import { create } from "@bufbuild/protobuf";
import { timestampDate } from "@bufbuild/protobuf/wkt";
import { EngineError } from "../../base/errors.ts";
import { formatCidr, parseCidr, parseIp, tryParseCidr, tryParseIp } from "../../base/ip.ts";
import type { IpamPool, Network, NetworkSpec } from "../../network/mod.ts";
import type { Network as NetworkObject } from "../../wire/gen/swarm_objects_pb.ts";
import { type NetworkSpec as NetworkSpecMessage, NetworkSpecSchema } from "../../wire/gen/swarm_specs_pb.ts";
import { type IPAMConfig, IPAMConfig_AddressFamily } from "../../wire/gen/swarm_types_pb.ts";
import { driverOf, vnisOf } from "../allocator/networks.ts";
import { isIngress } from "./tasks.ts";

/**
 * A swarm's network as this host's network room sees it.
 *
 * @throws {EngineError} `invalid` when the manager sent addresses that do not parse.
 */
export function decodeNetwork(object: NetworkObject): Network {
  const { spec, driverState, ipam } = object;
  const name = spec?.annotations?.name ?? "";
  try {
    return {
      id: object.id,
      createdAt: object.meta?.createdAt === undefined ? "" : timestampDate(object.meta.createdAt).toISOString(),
      scope: "swarm",
      vnis: vnisOf(object),
      pools: (ipam?.configs ?? []).map(decodePool),
      spec: {
        name,
        driver: driverOf(object),
        scope: "swarm",
        ipam: { driver: ipam?.driver?.name || "default", options: ipam?.driver?.options ?? {}, pools: [] },
        enableIpv4: true,
        enableIpv6: spec?.ipv6Enabled ?? false,
        internal: spec?.internal ?? false,
        attachable: spec?.attachable ?? false,
        ingress: isIngress(object),
        configOnly: false,
        configFrom: spec?.configFrom.case === "network" ? spec.configFrom.value : undefined,
        options: driverState?.options ?? spec?.driverConfig?.options ?? {},
        labels: spec?.annotations?.labels ?? {},
      },
    };
  } catch (cause) {
    throw new EngineError("invalid", `cannot use network ${JSON.stringify(name)} as the manager describes it`, {
      cause,
    });
  }
}

export function encodeNetworkSpec(spec: NetworkSpec): NetworkSpecMessage {
  return create(NetworkSpecSchema, {
    annotations: { name: spec.name, labels: { ...spec.labels } },
    driverConfig: { name: spec.driver, options: { ...spec.options } },
    ipv6Enabled: spec.enableIpv6,
    internal: spec.internal,
    attachable: spec.attachable,
    ingress: spec.ingress,
    configFrom: spec.configFrom === undefined ? { case: undefined } : { case: "network", value: spec.configFrom },
    ipam: {
      driver: { name: spec.ipam.driver, options: { ...spec.ipam.options } },
      configs: spec.ipam.pools.map((pool) => ({
        family:
          pool.subnet?.address.includes(":") === true ? IPAMConfig_AddressFamily.IPV6 : IPAMConfig_AddressFamily.IPV4,
        subnet: pool.subnet === undefined ? "" : formatCidr(pool.subnet),
        range: pool.ipRange === undefined ? "" : formatCidr(pool.ipRange),
        gateway: pool.gateway ?? "",
        reserved: { ...pool.auxiliary },
      })),
    },
  });
}

function decodePool(config: IPAMConfig): IpamPool {
  const ipRange = tryParseCidr(config.range);
  const gateway = tryParseIp(config.gateway);
  return {
    subnet: parseCidr(config.subnet),
    ...(ipRange === undefined ? {} : { ipRange }),
    ...(gateway === undefined ? {} : { gateway }),
    auxiliary: Object.fromEntries(Object.entries(config.reserved).map(([name, ip]) => [name, parseIp(ip)])),
  };
}
