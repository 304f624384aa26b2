import type { IpAddress, IpFamily } from "../../base/ip.ts";
import type { Netns } from "../../kernel/mod.ts";

/** What one sandbox may resolve. Lookups are synchronous and fast: they are on the path of every query. */
export interface NameView {
  /** `undefined`: the name is not ours (forward it). An empty list: ours, without an address of this family (NOERROR, empty). */
  lookup(name: string, family: IpFamily): readonly IpAddress[] | undefined;
  /** `<name>.<network>` or undefined. */
  reverse(ip: IpAddress): string | undefined;
  /** Calls `listener` after a name was added somewhere: a question under way upstream may be ours now. */
  onAdded(listener: () => void): Disposable;
}

export interface Upstream {
  readonly address: IpAddress;
  readonly portHostOrder: number;
  /** Where the query leaves from: the host's namespace, or the container's for servers given by `--dns`. */
  readonly from: Netns;
}

/** A running resolver inside one namespace, listening on 127.0.0.11. Disposing closes its sockets. */
export interface DnsServer extends AsyncDisposable {
  readonly udpPort: number;
  readonly tcpPort: number;
}

export interface DnsServerOptions {
  readonly namespace: Netns;
  readonly names: NameView;
  /** Asked anew for every forwarded query. */
  upstreams(): readonly Upstream[];
  /** ndots configured by the user or the host: single-label names not found locally answer NOERROR, empty (7.3). */
  readonly ndotsConfigured: boolean;
}

/**
 * Names of all networks on this host. Each (network, endpoint id) has one record; several endpoints may share a name
 * (aliases, `tasks.x`), the answer is then all of their addresses.
 */
export interface NameTable {
  set(networkId: string, endpointId: string, record: NameRecord): void;
  delete(networkId: string, endpointId: string): void;
  deleteNetwork(networkId: string): void;
  /** What a sandbox with these networks sees; the first of `names` of an endpoint is its PTR. Networks in the order in which they are tried. */
  view(
    networks: () => readonly {
      readonly id: string;
      readonly name: string;
      readonly links: ReadonlyMap<string, string>;
    }[],
  ): NameView;
}

export interface NameRecord {
  /** In order: container name, aliases, short id, host name. */
  readonly names: readonly string[];
  readonly addresses: readonly IpAddress[];
  /** Services only: `NAME` answers with the VIP when there is one, `tasks.NAME` with the addresses (6). */
  readonly service?: {
    readonly names: readonly string[];
    readonly virtualIp: IpAddress | undefined;
    readonly disabled: boolean;
  };
}
