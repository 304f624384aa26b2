import { EngineError } from "../base/errors.ts";
import type { NetworkSpec } from "./model.ts";
import type { SwarmNetworks } from "./networks.ts";

/** Networks of the cluster are made by managers. Pure. @throws {EngineError} in Docker's words. */
export function refuseOutsideManager(spec: NetworkSpec, role: SwarmNetworks["role"]): void {
  // compat: all texts (reference: network-data-plane 15)
  if (spec.scope === "local") {
    throw new EngineError("forbidden", "cannot downgrade network scope for overlay networks");
  }
  if (role === "none") throw notManager();
  if (role === "worker") {
    const text =
      "Cannot create a multi-host network from a worker node. Please create the network from a manager node.";
    throw new EngineError("forbidden", text);
  }
}

export function notManager(): EngineError {
  const text = `This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node to swarm and try again.`;
  return new EngineError("forbidden", text); // compat:
}
