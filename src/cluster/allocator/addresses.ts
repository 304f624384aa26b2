import {
  type Cidr,
  formatCidr,
  type IpAddress,
  networkOf,
  parseCidr,
  tryParseCidr,
  tryParseIp,
} from "../../base/ip.ts";
import { ipam } from "../../network/ipam/mod.ts";
import type { Network, NetworkAttachment } from "../../wire/gen/swarm_objects_pb.ts";
import type { IPAMConfig } from "../../wire/gen/swarm_types_pb.ts";
import type { View } from "../state/objects.ts";
import { isLive } from "../state/tasks.ts";

/**
 * The last address given on each subnet without being asked for by name. A freed address is not reused until the search
 * wraps; a new leader starts from the lowest again (reference: swarm-control-plane 10.2).
 */
export class AddressPointers {
  readonly #last = new Map<string, IpAddress>();

  last(networkId: string, subnet: string): IpAddress | undefined {
    return this.#last.get(`${networkId} ${subnet}`);
  }

  move(networkId: string, subnet: string, ip: IpAddress): void {
    this.#last.set(`${networkId} ${subnet}`, ip);
  }

  forget(networkId: string): void {
    for (const key of this.#last.keys()) if (key.startsWith(`${networkId} `)) this.#last.delete(key);
  }
}

/**
 * One address on a network, with its subnet's mask. What is taken is derived from the stored objects each time, so there
 * is no second truth that could leak.
 *
 * @param wanted Bare or with a mask, as the user gave it; the empty string asks for any.
 * @throws {EngineError} `exhausted`, `forbidden` when taken, `invalid` when outside.
 */
export function allocateAddress(view: View, network: Network, wanted: string, pointers: AddressPointers): Cidr {
  const configs = network.ipam?.configs ?? [];
  const ip = wanted === "" ? undefined : (tryParseIp(wanted) ?? tryParseCidr(wanted)?.address);
  const taken = takenAddresses(view, network);
  const fits = ip === undefined ? configs : configs.filter((config) => isIn(ip, config));
  let failure: unknown;
  for (const config of fits.length > 0 ? fits : configs) {
    const subnet = networkOf(parseCidr(config.subnet));
    const use = {
      subnet,
      range: config.range === "" ? undefined : tryParseCidr(config.range),
      isTaken: (address: IpAddress) => taken.has(address),
    };
    const last = pointers.last(network.id, config.subnet);
    try {
      const address = ipam.chooseAddress(use, {
        ...(ip === undefined ? {} : { wanted: ip }),
        ...(last === undefined ? {} : { last }),
      });
      if (ip === undefined) pointers.move(network.id, config.subnet, address);
      return { address, prefix: subnet.prefix };
    } catch (error) {
      failure ??= error;
    }
  }
  throw failure ?? new RangeError(`network ${network.id} has no subnet`);
}

/** Every address of the network that a stored object holds. */
export function takenAddresses(view: View, network: Network): ReadonlySet<IpAddress> {
  const taken = new Set<IpAddress>();
  for (const config of network.ipam?.configs ?? []) {
    for (const text of [config.gateway, ...Object.values(config.reserved)]) {
      const ip = tryParseIp(text);
      if (ip !== undefined) taken.add(ip);
    }
  }
  const add = (attachments: readonly NetworkAttachment[]) => {
    for (const attachment of attachments) {
      if (attachment.network?.id !== network.id) continue;
      for (const text of attachment.addresses) {
        const cidr = tryParseCidr(text);
        if (cidr !== undefined) taken.add(cidr.address);
      }
    }
  };
  for (const node of view.list("node")) add(node.attachments);
  for (const task of view.list("task")) if (isLive(task)) add(task.networks);
  return taken;
}

function isIn(ip: IpAddress, config: IPAMConfig): boolean {
  const subnet = tryParseCidr(config.subnet);
  return (
    subnet !== undefined &&
    formatCidr(networkOf({ address: ip, prefix: subnet.prefix })) === formatCidr(networkOf(subnet))
  );
}
