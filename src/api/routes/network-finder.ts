import type { Network } from "../../network/mod.ts";
import type { Rooms } from "../rooms.ts";

/** A look-up over one listing of the networks, for shapes that name many. By name, id, then id prefix. */
export async function networkFinder(rooms: Rooms): Promise<(term: string) => Network | undefined> {
  const networks = await rooms.networks.list();
  return (term) =>
    networks.find((network) => network.id === term) ??
    networks.find((network) => network.spec.name === term) ??
    networks.find((network) => term !== "" && network.id.startsWith(term));
}
