import { create } from "@bufbuild/protobuf";
import { Code, ConnectError, createRouterTransport, type Interceptor, type Transport } from "@connectrpc/connect";
import type { Clock } from "../../base/clock.ts";
import { newSwarmId } from "../../base/ids.ts";
import type { Log } from "../../base/log.ts";
import { type Random, shuffled } from "../../base/random.ts";
import type { NodeSpec_Availability } from "../../wire/gen/swarm_specs_pb.ts";
import {
  CertificateSchema,
  IssuanceStatus_State,
  NodeRole,
  NodeStatus_State,
  type Peer,
  PeerSchema,
} from "../../wire/gen/swarm_types_pb.ts";
import { namingOurselves } from "../agent/connection.ts";
import { AddressPointers } from "../allocator/addresses.ts";
import { allocateNodes } from "../allocator/attachments.ts";
import { createAuthority, signNodeCertificate } from "../ca/authority.ts";
import type { NodeCredentials } from "../ca/model.ts";
import { createCertificateRequest } from "../ca/request.ts";
import { Dispatcher } from "../dispatcher/dispatcher.ts";
import { type Draft, ObjectStore, type StoreOptions } from "../state/objects.ts";
import { Attachments } from "./attachments.ts";
import { authorizing, callerKey } from "./authorization.ts";
import { Certificates, newNode, nodeValidityMs } from "./certificates.ts";
import { firstNetworks, type NewClusterOptions, newCluster } from "./first-objects.ts";
import { keyRotationMs, rotateKeys } from "./network-keys.ts";
import { ManagerServer } from "./server.ts";
import { type ManagerParts, registerServices } from "./services.ts";

export interface ManagerOptions {
  readonly objects: ObjectStore;
  readonly nodeId: string;
  readonly credentials: NodeCredentials;
  readonly listen: { readonly address: string; readonly portHostOrder: number };
  /** `host:port` under which nodes reach us; must be routable, they also gossip with its host (T9). */
  readonly advertise: string;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
}

/** A swarm's one manager: its services on the wire, and the same in-process for its own node. */
export class Manager implements AsyncDisposable {
  readonly objects: ObjectStore;
  readonly pointers: AddressPointers;
  readonly certificates: Certificates;
  /** What the own node's agent calls: no sockets, the same handlers, the own identity. */
  readonly transport: Transport;
  readonly peer: Peer;
  readonly #options: ManagerOptions;
  readonly #dispatcher: Dispatcher;
  readonly #server: ManagerServer;
  #rotation: Disposable;

  private constructor(
    options: ManagerOptions,
    parts: ManagerParts & { readonly pointers: AddressPointers },
    server: ManagerServer,
  ) {
    this.#options = options;
    this.objects = options.objects;
    this.pointers = parts.pointers;
    this.certificates = parts.certificates;
    this.#dispatcher = parts.dispatcher;
    this.#server = server;
    this.peer = peerOf(options);
    this.transport = ownTransport(options, parts);
    this.#rotation = this.#rotateLater();
  }

  static async open(options: ManagerOptions, signal: AbortSignal): Promise<Manager> {
    const { objects, log } = options;
    const pointers = new AddressPointers();
    const reallocate = (draft: Draft) => {
      for (const failure of allocateNodes(draft, pointers)) log.warn("no address for a node", { failure });
    };
    const peer = peerOf(options);
    const dispatcher = new Dispatcher({ ...options, reallocate, managers: () => [peer] });
    const parts = {
      objects,
      pointers,
      dispatcher,
      certificates: new Certificates(options),
      attachments: new Attachments({ ...options, pointers, reallocate }),
    };
    await dispatcher.start();
    await objects.write(reallocate);
    const server = await ManagerServer.open(
      {
        address: options.listen.address,
        portHostOrder: options.listen.portHostOrder,
        credentials: options.credentials,
        cluster: () => objects.cluster(),
        routes: (router) => registerServices(router, parts),
      },
      signal,
    ).catch((error: unknown) => {
      dispatcher[Symbol.dispose]();
      throw error;
    });
    return new Manager(options, parts, server);
  }

  /** Node attachments follow tasks, nodes and networks: call in each write that changes one of them. */
  reallocate(draft: Draft): void {
    for (const failure of allocateNodes(draft, this.pointers))
      this.#options.log.warn("no address for a node", { failure });
  }

  /**
   * Where up to `limit` other nodes that were not lost can be reached, in random order. A manager that comes back has nobody to
   * ask for the way into the gossip; without these it would wait until a worker's detector gives up its former name.
   */
  livingPeers(limit: number): readonly string[] {
    const living = this.objects
      .list("node")
      .filter(({ id, status }) => id !== this.#options.nodeId && status !== undefined && status.addr !== "")
      .filter(({ status }) => status?.state !== NodeStatus_State.DOWN)
      .map(({ status }) => status?.addr ?? "");
    return shuffled(living, this.#options.random).slice(0, limit);
  }

  setCredentials(credentials: NodeCredentials): void {
    this.#server.setCredentials(credentials);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#rotation[Symbol.dispose]();
    this.#dispatcher[Symbol.dispose]();
    await this.#server[Symbol.asyncDispose]();
  }

  #rotateLater(): Disposable {
    const { clock, random, objects, log } = this.#options;
    return clock.after(keyRotationMs, () => {
      this.#rotation = this.#rotateLater();
      objects
        .write((draft) => {
          const cluster = draft.list("cluster")[0];
          if (cluster === undefined) return;
          const current = { keys: cluster.networkBootstrapKeys, clock: cluster.encryptionKeyLamportClock };
          const next = rotateKeys(current, random);
          const fields = { networkBootstrapKeys: [...next.keys], encryptionKeyLamportClock: next.clock };
          draft.put("cluster", { ...cluster, ...fields });
        })
        .catch((error: unknown) => log.error("cannot rotate the network keys", { error }));
    });
  }
}

/** Makes a new swarm in the store: root, cluster, networks, and this node as its manager. Returns the node's credentials. */
export async function createSwarm(
  options: StoreOptions & { readonly random: Random },
  request: Omit<NewClusterOptions, "authority"> & { readonly availability: NodeSpec_Availability },
): Promise<{ readonly objects: ObjectStore; readonly nodeId: string; readonly credentials: NodeCredentials }> {
  await ObjectStore.erase(options.store);
  const objects = await ObjectStore.load(options);
  const authority = await createAuthority(options);
  const cluster = newCluster({ ...request, authority }, options.random);
  const nodeId = newSwarmId(options.random);
  const { csrPem, keyPem } = await createCertificateRequest();
  const identity = { nodeId, role: "manager", clusterId: cluster.id } as const;
  const validityMs = nodeValidityMs(cluster);
  const chainPem = await signNodeCertificate(authority, { csrPem, identity, validityMs }, options);
  const certificate = create(CertificateSchema, {
    role: NodeRole.MANAGER,
    csr: csrPem,
    cn: nodeId,
    certificate: chainPem,
    status: { state: IssuanceStatus_State.ISSUED },
  });
  await objects.write((draft) => {
    draft.put("cluster", cluster);
    for (const network of firstNetworks(cluster, options.random)) draft.put("network", network);
    draft.put("node", newNode({ id: nodeId, certificate, availability: request.availability, cluster }));
  });
  return { objects, nodeId, credentials: { keyPem, chainPem, rootPem: authority.certificatePem } };
}

function peerOf(options: ManagerOptions): Peer {
  return create(PeerSchema, { nodeId: options.nodeId, addr: options.advertise });
}

function ownTransport(options: ManagerOptions, parts: ManagerParts): Transport {
  const { nodeId, objects, advertise } = options;
  const asOwnNode: Interceptor = (next) => (request) => {
    const identity = { nodeId, role: "manager", clusterId: objects.cluster().id } as const;
    request.contextValues.set(callerKey, { identity, address: hostOf(advertise) });
    return next(request);
  };
  return createRouterTransport((router) => registerServices(router, parts), {
    router: { interceptors: [asOwnNode, authorizing(() => objects.cluster())] },
    transport: { interceptors: [namingOurselves] },
  });
}

/** Host of `host:port`, brackets removed. @throws {ConnectError} when there is no port. */
export function hostOf(address: string): string {
  const match = /^(?:\[([^\]]+)\]|([^:]+)):\d+$/.exec(address);
  const host = match?.[1] ?? match?.[2];
  if (host === undefined) throw new ConnectError(`invalid address ${JSON.stringify(address)}`, Code.InvalidArgument);
  return host;
}
