import { EngineError } from "../base/errors.ts";
import type { Network } from "./model.ts";

/** Full id, exact name, unique id prefix. Pure. @throws {EngineError} in Docker's words. */
export function findNetwork(networks: readonly Network[], term: string): Network {
  const found = tryFindNetwork(networks, term);
  // compat:
  if (found === undefined) throw new EngineError("not-found", `network ${term} not found`);
  return found;
}

/** As `findNetwork`, but `undefined` when there is none. */
export function tryFindNetwork(networks: readonly Network[], term: string): Network | undefined {
  const byId = networks.find((network) => network.id === term);
  if (byId !== undefined) return byId;
  const byName = networks.filter((network) => network.spec.name === term);
  if (byName.length > 1) throw ambiguous(term, byName.length, "name");
  if (byName[0] !== undefined) return byName[0];
  const byPrefix = term === "" ? [] : networks.filter((network) => network.id.startsWith(term));
  if (byPrefix.length > 1) throw ambiguous(term, byPrefix.length, "ID prefix");
  return byPrefix[0];
}

function ambiguous(term: string, matches: number, by: string): EngineError {
  return new EngineError("invalid", `network ${term} is ambiguous (${matches} matches found on ${by})`); // compat:
}
