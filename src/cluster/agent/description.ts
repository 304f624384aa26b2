import { availableParallelism, machine, totalmem } from "node:os";
import { create } from "@bufbuild/protobuf";
import { type NodeDescription, NodeDescriptionSchema } from "../../wire/gen/swarm_types_pb.ts";
import { issuerOf } from "../ca/chain.ts";
import type { NodeCredentials } from "../ca/model.ts";

export interface EngineFacts {
  readonly hostname: string;
  readonly engineVersion: string;
  readonly labels: Readonly<Record<string, string>>;
}

// Without `Network/overlay` a dockerd manager never gives us a task on an overlay (U3). Sorted by type, then name.
const plugins = [
  { type: "Log", name: "json-file" },
  { type: "Network", name: "bridge" },
  { type: "Network", name: "host" },
  { type: "Network", name: "ipvlan" },
  { type: "Network", name: "macvlan" },
  { type: "Network", name: "null" },
  { type: "Network", name: "overlay" },
  { type: "Volume", name: "local" },
];

/** What this node says about itself in each session (reference: swarm-control-plane 8.6). */
export function describeNode(facts: EngineFacts, credentials: NodeCredentials): NodeDescription {
  const issuer = issuerOf(credentials.chainPem, credentials.rootPem);
  return create(NodeDescriptionSchema, {
    hostname: facts.hostname,
    platform: { architecture: machine(), os: "linux" },
    resources: { nanoCpus: BigInt(availableParallelism()) * 1_000_000_000n, memoryBytes: BigInt(totalmem()) },
    engine: { engineVersion: facts.engineVersion, labels: { ...facts.labels }, plugins },
    tlsInfo: {
      trustRoot: credentials.rootPem,
      certIssuerSubject: issuer.subject,
      certIssuerPublicKey: issuer.publicKey,
    },
  });
}
