import { EngineError } from "../../base/errors.ts";

// Docker's own words (reference: swarm-control-plane 13.4).
const texts = {
  noSwarm: `This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node to swarm and try again.`,
  notManager:
    "This node is not a swarm manager. Worker nodes can't be used to view or modify cluster state. Please run this command on a manager node or promote the current node to a manager.",
  preparing: "This node is not a swarm manager. Manager is being prepared or has trouble connecting to the cluster.",
  notMember: "This node is not part of a swarm",
  alreadyMember: `This node is already part of a swarm. Use "docker swarm leave" to leave this swarm and join another one.`,
  joinTimeout: `Timeout was reached before node joined. The attempt to join the swarm will continue in the background. Use the "docker info" command to see the current swarm status of your node.`,
  lastManager:
    "You are attempting to leave the swarm on a node that is participating as a manager. Removing the last manager erases all current state of the swarm. Use `--force` to ignore this message. ",
  expired: "Swarm certificates have expired. To replace them, leave the swarm and join again.",
} as const;

export function refusal(text: keyof typeof texts): EngineError {
  return new EngineError("unavailable", texts[text]);
}
