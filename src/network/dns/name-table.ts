import { Hub } from "../../base/async.ts";
import { familyOf, type IpAddress, type IpFamily } from "../../base/ip.ts";
import type { NameRecord, NameTable, NameView } from "./dns.ts";

type Networks = Parameters<NameTable["view"]>[0];

export function openNameTable(): NameTable {
  const networks = new Map<string, NetworkNames>();
  const added = new Hub<void>();
  return {
    set(networkId, endpointId, record) {
      valueFor(networks, networkId, () => new NetworkNames()).set(endpointId, record);
      added.emit();
    },
    delete(networkId, endpointId) {
      const names = networks.get(networkId);
      names?.delete(endpointId);
      if (names?.isEmpty()) networks.delete(networkId);
    },
    deleteNetwork: (networkId) => void networks.delete(networkId),
    view: (visible) => new View(networks, visible, added),
  };
}

/** What one name stands for in one network, given by one or more endpoints. */
class Entry {
  readonly #byEndpoint = new Map<string, readonly IpAddress[]>();
  #families: Readonly<Record<IpFamily, readonly IpAddress[]>> | undefined;

  set(endpointId: string, addresses: readonly IpAddress[]): void {
    const known = this.#byEndpoint.get(endpointId) ?? [];
    this.#byEndpoint.set(endpointId, [...known, ...addresses]);
    this.#families = undefined;
  }

  delete(endpointId: string): void {
    this.#byEndpoint.delete(endpointId);
    this.#families = undefined;
  }

  isEmpty(): boolean {
    return this.#byEndpoint.size === 0;
  }

  /** Without duplicates: every endpoint of a service gives the same virtual IP. */
  addresses(family: IpFamily): readonly IpAddress[] {
    if (this.#families === undefined) {
      const all = [...new Set([...this.#byEndpoint.values()].flat())];
      this.#families = { 4: all.filter((ip) => familyOf(ip) === 4), 6: all.filter((ip) => familyOf(ip) === 6) };
    }
    return this.#families[family];
  }
}

/** The names of one network. Keys are lower case. */
class NetworkNames {
  readonly #records = new Map<string, NameRecord>();
  readonly #entries = new Map<string, Entry>();
  /** Per address the first name of each endpoint that has it; the oldest answers. */
  readonly #reverse = new Map<IpAddress, Map<string, string>>();

  set(endpointId: string, record: NameRecord): void {
    this.delete(endpointId);
    this.#records.set(endpointId, record);
    for (const { name, addresses } of namesOf(record)) {
      valueFor(this.#entries, name.toLowerCase(), () => new Entry()).set(endpointId, addresses);
    }
    for (const { address, name } of reverseNamesOf(record)) {
      valueFor(this.#reverse, address, () => new Map<string, string>()).set(endpointId, name);
    }
  }

  delete(endpointId: string): void {
    const record = this.#records.get(endpointId);
    if (record === undefined) return;
    this.#records.delete(endpointId);
    for (const { name } of namesOf(record)) {
      const entry = this.#entries.get(name.toLowerCase());
      entry?.delete(endpointId);
      if (entry?.isEmpty()) this.#entries.delete(name.toLowerCase());
    }
    for (const { address } of reverseNamesOf(record)) {
      const names = this.#reverse.get(address);
      names?.delete(endpointId);
      if (names?.size === 0) this.#reverse.delete(address);
    }
  }

  isEmpty(): boolean {
    return this.#records.size === 0;
  }

  lookup(name: string, family: IpFamily): readonly IpAddress[] | undefined {
    return this.#entries.get(name)?.addresses(family);
  }

  reverse(ip: IpAddress): string | undefined {
    return this.#reverse.get(ip)?.values().next().value;
  }
}

/** All names that an endpoint gives (reference: network-data-plane 6). */
function namesOf(record: NameRecord): { readonly name: string; readonly addresses: readonly IpAddress[] }[] {
  const out: { name: string; addresses: readonly IpAddress[] }[] = [];
  const { service } = record;
  const draining = service?.disabled === true;
  if (!draining) out.push(...record.names.map((name) => ({ name, addresses: record.addresses })));
  for (const name of service?.names ?? []) {
    // A draining task keeps its service's virtual IP resolvable: it is still a backend, of weight 0.
    if (service?.virtualIp !== undefined) out.push({ name, addresses: [service.virtualIp] });
    else if (!draining) out.push({ name, addresses: record.addresses });
    if (!draining) out.push({ name: `tasks.${name}`, addresses: record.addresses });
  }
  return out;
}

function reverseNamesOf(record: NameRecord): { readonly address: IpAddress; readonly name: string }[] {
  const { service } = record;
  const name = record.names[0];
  const own =
    name === undefined || service?.disabled === true ? [] : record.addresses.map((address) => ({ address, name }));
  const serviceName = service?.names[0];
  // Docker has no reverse name for a virtual IP, so the question went to an upstream that may not be reachable.
  return service?.virtualIp === undefined || serviceName === undefined
    ? own
    : [...own, { address: service.virtualIp, name: serviceName }];
}

class View implements NameView {
  readonly #table: ReadonlyMap<string, NetworkNames>;
  readonly #networks: Networks;
  readonly #added: Hub<void>;

  constructor(table: ReadonlyMap<string, NetworkNames>, networks: Networks, added: Hub<void>) {
    this.#table = table;
    this.#networks = networks;
    this.#added = added;
  }

  onAdded(listener: () => void): Disposable {
    return this.#added.listen(listener);
  }

  /**
   * Names and network names may both hold dots, so `a.b.c` is tried as `a.b.c` in any network, `a.b` in network `c`, `a` in
   * network `b.c`; each time as a link alias first (reference: network-data-plane 7.3).
   */
  lookup(name: string, family: IpFamily): readonly IpAddress[] | undefined {
    const wanted = name.toLowerCase();
    const networks = this.#networks();
    for (let dot = wanted.length; dot > 0; dot = wanted.lastIndexOf(".", dot - 1)) {
      const host = wanted.slice(0, dot);
      const network = dot === wanted.length ? undefined : wanted.slice(dot + 1);
      const found =
        this.#lookup(networks, network, host, family, linkTarget) ?? this.#lookup(networks, network, host, family);
      if (found !== undefined) return found;
    }
    return undefined;
  }

  reverse(ip: IpAddress): string | undefined {
    for (const network of this.#networks()) {
      const name = this.#table.get(network.id)?.reverse(ip);
      if (name !== undefined) return `${name}.${network.name}`;
    }
    return undefined;
  }

  /** The first network that has addresses of the family; an empty list when one has the name at all. */
  #lookup(
    networks: ReturnType<Networks>,
    networkName: string | undefined,
    host: string,
    family: IpFamily,
    translate?: typeof linkTarget,
  ): readonly IpAddress[] | undefined {
    let known: readonly IpAddress[] | undefined;
    for (const network of networks) {
      if (networkName !== undefined && network.name.toLowerCase() !== networkName) continue;
      const name = translate === undefined ? host : translate(network.links, host);
      const addresses = name === undefined ? undefined : this.#table.get(network.id)?.lookup(name, family);
      if (addresses !== undefined && addresses.length > 0) return addresses;
      known ??= addresses;
    }
    return known;
  }
}

function linkTarget(links: ReadonlyMap<string, string>, alias: string): string | undefined {
  for (const [name, target] of links) {
    if (name.toLowerCase() === alias) return target.toLowerCase();
  }
  return undefined;
}

function valueFor<K, V>(map: Map<K, V>, key: K, make: () => V): V {
  const known = map.get(key);
  if (known !== undefined) return known;
  const made = make();
  map.set(key, made);
  return made;
}
