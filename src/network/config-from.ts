import { EngineError } from "../base/errors.ts";
import type { Network, NetworkSpec } from "./model.ts";

/** A spec with the settings of the configuration-only network that it names. Pure. @throws {EngineError} in Docker's words. */
export function withConfigFrom(spec: NetworkSpec, existing: readonly Network[]): NetworkSpec {
  // compat: all texts (reference: network-data-plane 15)
  if (spec.configOnly && (spec.internal || spec.attachable || spec.ingress)) {
    const text =
      "configuration network can only contain network specific fields. Network operator fields like [ ingress | internal | attachable | scope ] are not supported.";
    throw new EngineError("forbidden", text);
  }
  if (spec.configFrom === undefined || spec.configFrom === "") return spec;
  const source = existing.find((network) => network.spec.name === spec.configFrom && network.spec.configOnly);
  if (source === undefined) {
    throw new EngineError("not-found", `configuration network "${spec.configFrom}" does not exist`);
  }
  if (spec.ipam.pools.length > 0 || Object.keys(spec.options).length > 0) {
    const text = "user-specified configurations are not supported if the network depends on a configuration network";
    throw new EngineError("forbidden", text);
  }
  const { ipam, options, enableIpv4, enableIpv6 } = source.spec;
  return { ...spec, ipam, options, enableIpv4, enableIpv6, labels: { ...source.spec.labels, ...spec.labels } };
}
