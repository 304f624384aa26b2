import { formatCidr, type IpAddress, type MacAddress } from "../../../base/ip.ts";
import type { OverlayPeer } from "../../networks.ts";

/** An address or a hardware address whose entry in the kernel may have to change. */
export type PeerKey =
  | { readonly kind: "ip"; readonly ip: IpAddress; readonly prefix: number }
  | { readonly kind: "mac"; readonly mac: MacAddress };

/** An endpoint of this host; it has no tunnel. */
export type LocalPeer = Omit<OverlayPeer, "vtep">;

/**
 * Who has which address on one network, as far as this host has been told. Several endpoints with one address are a legal
 * transient: a task has moved and word of its end is still under way. The first one told counts until it goes, then the
 * next; an endpoint of this host counts before all (reference: network-data-plane 2.6).
 */
export class PeerSet {
  readonly #remote = new Map<string, OverlayPeer>();
  readonly #local = new Map<string, LocalPeer>();
  /** Members in the order in which they came. */
  readonly #byIp = new Map<string, Set<string>>();
  readonly #byMac = new Map<MacAddress, Set<string>>();

  /** Takes the current record of a remote endpoint, or none. Returns what may have changed. */
  put(endpointId: string, peer: OverlayPeer | undefined): readonly PeerKey[] {
    const before = this.#remote.get(endpointId);
    if (before !== undefined && peer !== undefined && isSame(before, peer)) return [];
    if (before !== undefined) {
      this.#remote.delete(endpointId);
      leaveGroup(this.#byIp, formatCidr(before.address), endpointId);
      leaveGroup(this.#byMac, before.mac, endpointId);
    }
    if (peer !== undefined) {
      this.#remote.set(endpointId, peer);
      enterGroup(this.#byIp, formatCidr(peer.address), endpointId);
      enterGroup(this.#byMac, peer.mac, endpointId);
    }
    return keysOf(before, peer);
  }

  putLocal(endpoint: LocalPeer): readonly PeerKey[] {
    const before = this.#local.get(endpoint.endpointId);
    this.#local.set(endpoint.endpointId, endpoint);
    return keysOf(before, endpoint);
  }

  deleteLocal(endpointId: string): readonly PeerKey[] {
    const before = this.#local.get(endpointId);
    this.#local.delete(endpointId);
    return keysOf(before);
  }

  get localCount(): number {
    return this.#local.size;
  }

  /** Everything that has an entry. */
  keys(): readonly PeerKey[] {
    return [...this.#remote.values()].flatMap((peer) => keysOf(peer));
  }

  /** Hardware address to answer for an IP address; undefined when nobody remote has it, or somebody here. */
  macOf(address: OverlayPeer["address"]): MacAddress | undefined {
    for (const local of this.#local.values()) {
      if (local.address.address === address.address) return undefined;
    }
    return this.#first(this.#byIp.get(formatCidr(address)))?.mac;
  }

  /** The peer that frames to a hardware address are tunnelled to. */
  ownerOf(mac: MacAddress): OverlayPeer | undefined {
    for (const local of this.#local.values()) {
      if (local.mac === mac) return undefined;
    }
    return this.#first(this.#byMac.get(mac));
  }

  #first(members: ReadonlySet<string> | undefined): OverlayPeer | undefined {
    const endpointId = members?.values().next().value;
    return endpointId === undefined ? undefined : this.#remote.get(endpointId);
  }
}

export function keyText(key: PeerKey): string {
  return key.kind === "ip" ? key.ip : key.mac;
}

function keysOf(...peers: readonly (LocalPeer | undefined)[]): PeerKey[] {
  return peers.flatMap((peer): PeerKey[] =>
    peer === undefined
      ? []
      : [
          { kind: "ip", ip: peer.address.address, prefix: peer.address.prefix },
          { kind: "mac", mac: peer.mac },
        ],
  );
}

function isSame(a: OverlayPeer, b: OverlayPeer): boolean {
  return formatCidr(a.address) === formatCidr(b.address) && a.mac === b.mac && a.vtep === b.vtep;
}

function enterGroup<K>(groups: Map<K, Set<string>>, key: K, member: string): void {
  const group = groups.get(key);
  if (group === undefined) groups.set(key, new Set([member]));
  else group.add(member);
}

function leaveGroup<K>(groups: Map<K, Set<string>>, key: K, member: string): void {
  const group = groups.get(key);
  group?.delete(member);
  if (group?.size === 0) groups.delete(key);
}
