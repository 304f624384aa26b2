import type { Endpoint, Network } from "../model.ts";

export const gatewayBridgeName = "docker_gwbridge";

export interface Attached {
  readonly endpoint: Endpoint;
  readonly network: Network;
}

/**
 * Endpoints in the order in which one is asked for the default route: priority, not docker_gwbridge, not internal, more
 * address families, network name (reference: network-data-plane 7.5).
 */
export function gatewayOrder(attached: readonly Attached[]): readonly Attached[] {
  const families = (a: Attached) => Number(a.endpoint.ipv4 !== undefined) + Number(a.endpoint.ipv6 !== undefined);
  return [...attached].sort(
    (a, b) =>
      b.endpoint.request.gatewayPriority - a.endpoint.request.gatewayPriority ||
      Number(isGatewayBridge(a.network)) - Number(isGatewayBridge(b.network)) ||
      Number(a.network.spec.internal) - Number(b.network.spec.internal) ||
      families(b) - families(a) ||
      (a.network.spec.name < b.network.spec.name ? -1 : 1),
  );
}

/** The endpoint whose gateway becomes the IPv4 default route and whose address ports are published to. */
export function gatewayEndpoint(attached: readonly Attached[]): Attached | undefined {
  return gatewayOrder(attached).find((a) => !a.network.spec.internal && a.endpoint.gateway !== undefined);
}

export function gatewayEndpoint6(attached: readonly Attached[]): Attached | undefined {
  return gatewayOrder(attached).find((a) => !a.network.spec.internal && a.endpoint.gateway6 !== undefined);
}

/** An overlay has no way out of its own: the second interface on docker_gwbridge gives one, unless another network does. */
export function needsGatewayBridge(networks: readonly Network[]): boolean {
  const others = networks.filter((network) => !isGatewayBridge(network));
  const hasWayOut = others.some((network) => network.spec.driver === "bridge" && !network.spec.internal);
  return !hasWayOut && others.some((network) => network.spec.driver === "overlay" && !network.spec.internal);
}

export function isGatewayBridge(network: Network): boolean {
  return network.spec.name === gatewayBridgeName && network.spec.driver === "bridge";
}

/** compat: `gateway_` and the first twelve of the sandbox id; a pseudo container's short id whole. */
export function gatewayEndpointName(sandboxId: string): string {
  return `gateway_${sandboxId.slice(0, 12)}`;
}
