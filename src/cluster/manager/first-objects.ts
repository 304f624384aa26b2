import { createHash } from "node:crypto";
import { create } from "@bufbuild/protobuf";
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import { newSwarmId } from "../../base/ids.ts";
import type { Random } from "../../base/random.ts";
import { type Cluster, ClusterSchema, type Network, NetworkSchema } from "../../wire/gen/swarm_objects_pb.ts";
import type { ClusterSpec } from "../../wire/gen/swarm_specs_pb.ts";
import { DriverSchema, IPAMOptionsSchema } from "../../wire/gen/swarm_types_pb.ts";
import { allocateNetwork, poolsOf } from "../allocator/networks.ts";
import type { Authority } from "../ca/model.ts";
import { predefinedLabel } from "../state/tasks.ts";
import { newJoinToken } from "../tokens/tokens.ts";
import { firstKeys } from "./network-keys.ts";

export interface NewClusterOptions {
  readonly authority: Authority;
  readonly spec: ClusterSpec | undefined;
  readonly addressPools: readonly string[];
  readonly subnetSize: number;
  readonly dataPathPort: number;
}

/** The cluster object of a new swarm. What the user left open gets Docker's defaults (reference: swarm-control-plane 13.2). */
export function newCluster(options: NewClusterOptions, random: Random): Cluster {
  const { authority, spec } = options;
  const { keys, clock } = firstKeys(random);
  const caCert = authority.certificatePem;
  return create(ClusterSchema, {
    id: newSwarmId(random),
    spec: {
      annotations: { name: "default", labels: spec?.annotations?.labels ?? {} },
      orchestration: spec?.orchestration ?? { taskHistoryRetentionLimit: 5n },
      raft: spec?.raft ?? {
        snapshotInterval: 10000n,
        keepOldSnapshots: 0n,
        logEntriesForSlowFollowers: 500n,
        electionTick: 10,
        heartbeatTick: 1,
      },
      dispatcher: spec?.dispatcher ?? { heartbeatPeriod: durationFromMs(5000) },
      caConfig: spec?.caConfig ?? { nodeCertExpiry: durationFromMs(90 * 24 * 3_600_000) },
      taskDefaults: spec?.taskDefaults ?? {},
      encryptionConfig: spec?.encryptionConfig ?? {},
    },
    rootCa: {
      caCert,
      caKey: new TextEncoder().encode(authority.keyPem.reveal()),
      caCertHash: createHash("sha256").update(caCert).digest("hex"),
      joinTokens: {
        worker: newJoinToken(caCert, random).reveal(),
        manager: newJoinToken(caCert, random).reveal(),
      },
    },
    networkBootstrapKeys: [...keys],
    encryptionKeyLamportClock: clock,
    defaultAddressPool: [...options.addressPools],
    subnetSize: options.subnetSize,
    VXLANUDPPort: options.dataPathPort,
  });
}

/** `ingress` takes the first subnet and the first VNI; `bridge` and `host` are there so that services can name them. */
export function firstNetworks(cluster: Cluster, random: Random): readonly Network[] {
  const ingress = create(NetworkSchema, {
    id: newSwarmId(random),
    spec: {
      annotations: { name: "ingress" },
      ingress: true,
      driverConfig: create(DriverSchema),
      ipam: create(IPAMOptionsSchema, { driver: create(DriverSchema) }),
    },
  });
  const predefined = ["bridge", "host"].map((name) =>
    create(NetworkSchema, {
      id: newSwarmId(random),
      spec: { annotations: { name, labels: { [predefinedLabel]: "true" } }, driverConfig: { name } },
    }),
  );
  const networks: Network[] = [];
  for (const network of [ingress, ...predefined]) {
    networks.push(allocateNetwork(network, { others: networks, pools: poolsOf(cluster) }));
  }
  return networks;
}
