import type { NameTable } from "../dns/dns.ts";
import type { Endpoint } from "../model.ts";
import type { PeerTable } from "../networks.ts";
import type { Attached } from "./gateway.ts";

/** Says under which names an endpoint is found, and takes it back. */
export class EndpointNames {
  readonly #deps: { readonly names: NameTable; readonly peerTable: PeerTable };

  constructor(deps: { readonly names: NameTable; readonly peerTable: PeerTable }) {
    this.#deps = deps;
  }

  /** Names of an endpoint, here and, on a swarm network, everywhere. */
  announce({ endpoint, network }: Attached): void {
    const [name, ...others] = endpoint.dnsNames;
    const addresses = [endpoint.ipv4?.address, endpoint.ipv6?.address].filter((address) => address !== undefined);
    if (name === undefined || addresses.length === 0) return;
    this.#deps.names.set(network.id, endpoint.id, { names: endpoint.dnsNames, addresses });
    const address = endpoint.ipv4?.address;
    if (network.scope !== "swarm" || address === undefined) return;
    this.#deps.peerTable.publishName(network.id, {
      endpointId: endpoint.id,
      name,
      serviceName: "",
      serviceId: "",
      virtualIp: undefined,
      address,
      serviceAliases: [],
      taskAliases: others,
      disabled: false,
    });
  }

  withdraw(endpoint: Endpoint): void {
    this.#deps.names.delete(endpoint.networkId, endpoint.id);
    this.#deps.peerTable.withdrawName(endpoint.networkId, endpoint.id);
  }
}
