import { EngineError } from "../base/errors.ts";
import type { Swarm } from "../cluster/mod.ts";
import type { PeerTable, SwarmNetworks } from "../network/mod.ts";

/** The swarm as the rooms beside it need it. */
export interface DaemonSwarm extends Swarm {
  networks(): SwarmNetworks;
  peerTable(): PeerTable | undefined;
}

// compat: reference: swarm-control-plane 13.4
const notManager =
  'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node to swarm and try again.';

/** A host that is in no swarm and cannot be in one; stands in until `cluster/` has its `openSwarm`. */
export function outsideSwarm(): DaemonSwarm {
  const refuse = async (): Promise<never> => {
    throw new EngineError("unavailable", notManager);
  };
  const unsupported = async (): Promise<never> => {
    throw new EngineError("unsupported", "swarm mode is not part of this build");
  };
  const noSwarm: SwarmNetworks = {
    role: "none",
    dataPath: undefined,
    list: () => [],
    create: refuse,
    remove: refuse,
    attach: refuse,
    detach: async () => {},
  };
  return {
    info: () => ({
      state: "inactive",
      nodeId: "",
      nodeAddress: "",
      controlAvailable: false,
      error: "",
      remoteManagers: [],
      nodes: 0,
      managers: 0,
      cluster: undefined,
    }),
    init: unsupported,
    join: unsupported,
    leave: async () => {
      throw new EngineError("unavailable", "This node is not part of a swarm");
    },
    inspect: refuse,
    update: refuse,
    nodes: refuse,
    findNode: refuse,
    updateNode: refuse,
    removeNode: refuse,
    networks: () => noSwarm,
    peerTable: () => undefined,
    [Symbol.asyncDispose]: async () => {},
  };
}
