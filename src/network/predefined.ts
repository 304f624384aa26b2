import { type Cidr, networkOf } from "../base/ip.ts";
import type { NetworksConfig } from "./config.ts";
import { bridgeOptionKeys } from "./drivers/bridge/options.ts";
import type { IpamPoolSpec, NetworkSpec } from "./model.ts";
import { gatewayBridgeName } from "./sandbox/gateway.ts";

const plain: NetworkSpec = {
  name: "",
  driver: "",
  scope: "local",
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
};

export const hostSpec: NetworkSpec = { ...plain, name: "host", driver: "host" };
export const noneSpec: NetworkSpec = { ...plain, name: "none", driver: "null" };

/** The default bridge as the daemon's flags describe it. Pure. */
export function defaultBridgeSpec(config: NetworksConfig): NetworkSpec {
  const subnet = config.bip ?? config.fixedCidr;
  return {
    ...plain,
    name: "bridge",
    driver: "bridge",
    ipam: { driver: "default", options: {}, pools: subnet === undefined ? [] : [defaultPool(config, subnet)] },
    options: {
      [bridgeOptionKeys.defaultBridge]: "true",
      [bridgeOptionKeys.icc]: String(config.icc),
      [bridgeOptionKeys.masquerade]: String(config.ipMasquerade),
      [bridgeOptionKeys.hostBinding]: config.defaultPublishAddress ?? "0.0.0.0",
      [bridgeOptionKeys.name]: config.bridgeName ?? "docker0",
      [bridgeOptionKeys.mtu]: String(config.mtuBytes),
    },
  };
}

/** `fixed-cidr` without `bip` is the whole subnet (reference: network-data-plane 9.1). */
function defaultPool(config: NetworksConfig, subnet: Cidr): IpamPoolSpec {
  const { bip, fixedCidr, defaultGateway } = config;
  return {
    subnet: networkOf(subnet),
    ...(bip === undefined ? {} : { gateway: bip.address }),
    ...(bip === undefined || fixedCidr === undefined ? {} : { ipRange: fixedCidr }),
    auxiliary: defaultGateway === undefined ? {} : { DefaultGatewayIPv4: defaultGateway },
  };
}

/** The way out of overlay-only containers, made on demand unless the user has made it (reference: network-data-plane 8.7). */
export const gatewayBridgeSpec: NetworkSpec = {
  ...plain,
  name: gatewayBridgeName,
  driver: "bridge",
  options: {
    [bridgeOptionKeys.icc]: "false",
    [bridgeOptionKeys.masquerade]: "true",
    [bridgeOptionKeys.name]: gatewayBridgeName,
  },
};
