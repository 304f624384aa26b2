import type { DelegateVersions, Member, Versions } from "./model.ts";

/** Protocol 1 to 5 understood, 2 spoken: what every engine since 1.12 announces. */
export function ownVersions(delegate: DelegateVersions): Versions {
  return [1, 5, 2, ...delegate];
}

/** A range that makes no sense; such an announcement is ignored. */
export function isSane(versions: Versions | undefined): boolean {
  if (versions === undefined) return true;
  const [min, max, current] = versions;
  return min > 0 && max > 0 && min <= max && current >= min && current <= max;
}

type Checked = Pick<Member, "name" | "state" | "versions">;

/**
 * Whether two sets of members can live in one cluster: every current version must lie in what all alive nodes understand.
 * Returns the refusal, or `undefined` when all is well.
 */
export function incompatibility(local: readonly Checked[], remote: readonly Checked[]): string | undefined {
  const all = [...remote, ...local].filter((node) => node.versions !== undefined);
  const alive = all.filter((node) => node.state === "alive").map((node) => node.versions as Versions);
  const protocolMin = Math.max(0, ...alive.map((v) => v[0]));
  const protocolMax = Math.min(255, ...alive.map((v) => v[1]));
  const delegateMin = Math.max(0, ...alive.map((v) => v[3]));
  const delegateMax = Math.min(255, ...alive.map((v) => v[4]));
  for (const { name, versions } of all) {
    const [, , protocol, , , delegate] = versions as Versions;
    if (protocol < protocolMin || protocol > protocolMax) {
      return `Node '${name}' protocol version (${protocol}) is incompatible: [${protocolMin}, ${protocolMax}]`;
    }
    if (delegate < delegateMin || delegate > delegateMax) {
      return `Node '${name}' delegate protocol version (${delegate}) is incompatible: [${delegateMin}, ${delegateMax}]`;
    }
  }
  return undefined;
}
