import { EngineError } from "../../../base/errors.ts";
import { familyOf, overlaps } from "../../../base/ip.ts";
import type { Kernel } from "../../../kernel/mod.ts";
import type { Network } from "../../model.ts";
import type { Driver } from "../driver.ts";
import { type BridgeDefaults, bridgeName, endpointObjects, networkObjects } from "./desired.ts";
import { parseBridgeOptions } from "./options.ts";

/** Networks of one host: a Linux bridge each, a veth pair per endpoint, addresses translated at the host's edge. */
export function bridgeDriver(options: { readonly kernel: Kernel; readonly defaults: BridgeDefaults }): Driver {
  const { kernel, defaults } = options;
  return {
    name: "bridge",
    addresses: true,
    check(spec) {
      parseBridgeOptions(spec.options);
      const count = spec.ipam.pools.filter((pool) => pool.subnet !== undefined && familyOf(pool.subnet.address) === 4);
      if (count.length > 1) throw new EngineError("forbidden", "bridge driver doesn't support multiple subnets");
    },
    ensureNetwork: (network, signal) =>
      kernel.reconcile(`network/${network.id}`, networkObjects(network, defaults), signal),
    removeNetwork: (network, signal) => kernel.reconcile(`network/${network.id}`, [], signal),
    join: (network, endpoint, path, signal) =>
      kernel.reconcile(`endpoint/${endpoint.id}`, endpointObjects(network, endpoint, path, defaults), signal),
    leave: (_network, endpoint, signal) => kernel.reconcile(`endpoint/${endpoint.id}`, [], signal),
  };
}

/** Refuses a network, addresses assigned, that would share its device or its subnet with another bridge. */
export function checkBridgeConflicts(network: Network, existing: readonly Network[], defaults: BridgeDefaults): void {
  const name = bridgeName(network, defaults);
  for (const other of existing) {
    if (other.spec.driver !== "bridge" || other.id === network.id) continue;
    const otherName = bridgeName(other, defaults);
    const conflict = `cannot create network ${network.id} (${name}): conflicts with network ${other.id} (${otherName}): networks have`;
    if (otherName === name) throw new EngineError("forbidden", `${conflict} same bridge name`);
    for (const pool of network.pools) {
      const family = familyOf(pool.subnet.address);
      if (other.pools.some((theirs) => overlaps(theirs.subnet, pool.subnet))) {
        throw new EngineError("forbidden", `${conflict} overlapping IPv${family}`);
      }
    }
  }
}
