import type { Secret } from "../../base/secret.ts";

export type Role = "manager" | "worker";

/** Organisational unit in a node certificate; authorisation goes by it (reference: swarm-control-plane 3.2). */
export type RoleUnit = "swarm-manager" | "swarm-worker";

export const unitOf: Readonly<Record<Role, RoleUnit>> = { manager: "swarm-manager", worker: "swarm-worker" };

export function roleOfUnit(unit: string | undefined): Role | undefined {
  if (unit === "swarm-manager") return "manager";
  return unit === "swarm-worker" ? "worker" : undefined;
}

/** Who a node certificate says its holder is. */
export interface Identity {
  readonly nodeId: string;
  readonly role: Role;
  readonly clusterId: string;
}

/** Name in the certificate of whoever signs; dialled under this name, whatever the address. */
export const caServerName = "swarm-ca";
export const managerServerName = "swarm-manager";

/** A root or signing certificate with its key, both PEM. The certificate's bytes are served as they are (trap T4). */
export interface Authority {
  readonly certificatePem: Uint8Array;
  readonly keyPem: Secret<string>;
}

/** A node's own credentials: private key (PKCS#8 PEM), chain (leaf first), trust bundle. */
export interface NodeCredentials {
  readonly keyPem: Secret<string>;
  readonly chainPem: Uint8Array;
  readonly rootPem: Uint8Array;
}
