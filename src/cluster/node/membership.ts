import { Secret } from "../../base/secret.ts";
import { Collection, type Seal, type Store } from "../../store/mod.ts";
import type { NodeSpec_Availability } from "../../wire/gen/swarm_specs_pb.ts";
import type { ManagerPeer } from "../agent/remotes.ts";
import type { Role } from "../ca/model.ts";
import type { SwarmAddresses } from "./addresses.ts";

/** What this node remembers of its swarm over restarts. Written before anything is begun, so that a crash resumes it. */
export type Membership =
  | {
      readonly kind: "joining";
      readonly addresses: SwarmAddresses;
      readonly remoteAddresses: readonly string[];
      readonly token: Secret<string>;
      readonly availability: NodeSpec_Availability;
    }
  | {
      readonly kind: "member";
      readonly addresses: SwarmAddresses;
      readonly nodeId: string;
      readonly role: Role;
      readonly managers: readonly ManagerPeer[];
      /** As the manager told it; tunnels of a daemon that starts again must not wait for it to tell it once more. */
      readonly dataPathPort?: number;
    }
  /** Everything of the swarm is being removed. */
  | { readonly kind: "leaving" };

const id = "membership";

export class MembershipStore {
  readonly #records: Collection<Membership>;

  constructor(options: { readonly store: Store; readonly seal: Seal }) {
    this.#records = new Collection({
      ...options,
      prefix: "swarm-node",
      // Sealed: the token of a join that goes on is in it.
      codec: { version: 1, secret: true, upgrade: decode },
    });
  }

  async load(): Promise<Membership | undefined> {
    return (await this.#records.get(id))?.value;
  }

  async save(membership: Membership): Promise<void> {
    const plain = membership.kind === "joining" ? { ...membership, token: membership.token.reveal() } : membership;
    await this.#records.put(id, plain as Membership);
  }

  async remove(): Promise<void> {
    await this.#records.delete(id);
  }
}

/** Records are sealed: what decrypts was written by `save`. */
function decode(json: unknown): Membership {
  const record = json as Membership & { readonly token?: string };
  return record.kind === "joining" ? { ...record, token: new Secret(record.token as unknown as string) } : record;
}
