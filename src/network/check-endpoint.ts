import { EngineError } from "../base/errors.ts";
import { contains } from "../base/ip.ts";
import type { EndpointRequest, Network } from "./model.ts";
import { hasNames } from "./sandbox/plan.ts";

/** Refuses an endpoint that its network cannot have. Pure. @throws {EngineError} in Docker's words. */
export function checkEndpoint(network: Network, request: EndpointRequest): void {
  if (network.spec.configOnly) {
    throw new EngineError("forbidden", "cannot create endpoint on configuration-only network"); // compat:
  }
  const lines = [...addressErrors(network, request)];
  if (request.aliases.length > 0 && !hasNames(network)) {
    lines.push("network-scoped aliases are only supported for user-defined networks");
  }
  if (lines.length > 0) throw new EngineError("invalid", `invalid endpoint settings:\n${lines.join("\n")}`);
}

function addressErrors(network: Network, request: EndpointRequest): readonly string[] {
  const wanted = [request.ipv4, request.ipv6].filter((address) => address !== undefined);
  if (wanted.length === 0) return [];
  if (!hasNames(network)) return ["user-specified IP address is supported on user-defined networks only"];
  // Swarm networks' subnets are the manager's; it checks what is asked there.
  if (network.scope !== "local") return [];
  const configured = network.spec.ipam.pools.flatMap((pool) => (pool.subnet === undefined ? [] : [pool.subnet]));
  return wanted
    .filter((address) => !configured.some((subnet) => contains(subnet, address)))
    .map((address) =>
      configured.length === 0
        ? "user specified IP address is supported only when connecting to networks with user configured subnets"
        : `no configured subnet contains IP address ${address}`,
    );
}
