import { create } from "@bufbuild/protobuf";
import { Code, ConnectError, createRouterTransport, type Interceptor } from "@connectrpc/connect";
import { anySignal, withSignal } from "../../src/base/async.ts";
import { newSwarmId } from "../../src/base/ids.ts";
import { silentLog } from "../../src/base/log.ts";
import type { Random } from "../../src/base/random.ts";
import { Secret } from "../../src/base/secret.ts";
import { type ManagerConnection, namingOurselves } from "../../src/cluster/agent/connection.ts";
import { AddressPointers } from "../../src/cluster/allocator/addresses.ts";
import { allocateNodes } from "../../src/cluster/allocator/attachments.ts";
import { Dispatcher } from "../../src/cluster/dispatcher/dispatcher.ts";
import { Attachments } from "../../src/cluster/manager/attachments.ts";
import { authorizing, callerKey } from "../../src/cluster/manager/authorization.ts";
import { Certificates, newNode } from "../../src/cluster/manager/certificates.ts";
import { Control } from "../../src/cluster/manager/control.ts";
import { firstNetworks, newCluster } from "../../src/cluster/manager/first-objects.ts";
import type { Manager } from "../../src/cluster/manager/manager.ts";
import { type ManagerParts, registerServices } from "../../src/cluster/manager/services.ts";
import { type Draft, ObjectStore } from "../../src/cluster/state/objects.ts";
import { aesSeal, type Store } from "../../src/store/mod.ts";
import { NodeSpec_Availability } from "../../src/wire/gen/swarm_specs_pb.ts";
import { CertificateSchema, NodeRole, PeerSchema } from "../../src/wire/gen/swarm_types_pb.ts";
import type { World } from "./gossip-world.ts";
import type { WeftProcess } from "./weft-process.ts";

export const managerPort = 2377;
const seal = aesSeal(new Uint8Array(32).fill(7));
/** After so long a call gives up on a peer that says nothing. */
const callTimeoutMs = 5000;
const pollMs = 100;

/** The manager's own parts in one process, without TLS and listening socket: these have their own tests. */
export interface SimulatedManager {
  readonly parts: ManagerParts;
  readonly process: WeftProcess;
  readonly address: string;
  readonly control: Control;
}

/** Makes a swarm's first objects in an empty store: `nodeIds`, the first of them the manager, and the ingress network. */
export async function foundSwarm(store: Store, process: WeftProcess, random: Random, count: number): Promise<string[]> {
  const objects = await ObjectStore.load({ store, seal, clock: process.clock });
  const authority = { certificatePem: new Uint8Array([1]), keyPem: new Secret("none") };
  const options = { authority, spec: undefined, addressPools: [], subnetSize: 24, dataPathPort: 0 };
  const cluster = newCluster(options, random);
  const ids = Array.from({ length: count }, () => newSwarmId(random));
  await objects.write((draft) => {
    draft.put("cluster", cluster);
    for (const network of firstNetworks(cluster, random)) draft.put("network", network);
    for (const [i, id] of ids.entries()) {
      const certificate = create(CertificateSchema, { role: i === 0 ? NodeRole.MANAGER : NodeRole.WORKER });
      draft.put("node", newNode({ id, certificate, availability: NodeSpec_Availability.ACTIVE, cluster }));
    }
  });
  return ids;
}

export async function openManager(options: {
  readonly store: Store;
  readonly process: WeftProcess;
  readonly random: Random;
  readonly nodeId: string;
  readonly address: string;
}): Promise<SimulatedManager> {
  const { store, process, random, nodeId, address } = options;
  const { clock } = process;
  const objects = await ObjectStore.load({ store, seal, clock });
  const pointers = new AddressPointers();
  const reallocate = (draft: Draft) => {
    const failures = allocateNodes(draft, pointers);
    if (failures.length > 0) throw new Error(`no address for a node: ${failures.join(", ")}`);
  };
  const peer = create(PeerSchema, { nodeId, addr: `${address}:${managerPort}` });
  const common = { objects, clock, random, log: silentLog };
  const dispatcher = new Dispatcher({ ...common, nodeId, reallocate, managers: () => [peer] });
  const parts = {
    objects,
    dispatcher,
    certificates: new Certificates(common),
    attachments: new Attachments({ ...common, pointers, reallocate }),
  };
  await dispatcher.start();
  await objects.write(reallocate);
  return {
    parts,
    process,
    address,
    control: new Control({ manager: { objects, pointers, reallocate, peer } as unknown as Manager, nodeId, random }),
  };
}

export interface Dialling {
  readonly world: World;
  readonly from: { readonly address: string; readonly nodeId: string; readonly process: WeftProcess };
  /** Whoever is the manager there now; undefined while none runs. */
  readonly manager: () => SimulatedManager | undefined;
}

/** A connection to the manager through the same network that the gossip crosses: slow, cut, or refused. */
export function dial(dialling: Dialling): ManagerConnection {
  const { world, from } = dialling;
  const manager = dialling.manager();
  const closed = new AbortController();
  if (manager === undefined) return { transport: refusing(), close: () => {} };
  const broken = anySignal(closed.signal, from.process.ended, manager.process.ended);
  const asCaller: Interceptor = (next) => (request) => {
    const { objects } = manager.parts;
    const identity = { nodeId: from.nodeId, role: "worker", clusterId: objects.cluster().id } as const;
    request.contextValues.set(callerKey, { identity, address: from.address });
    return next(request);
  };
  const line = new Line(world, { from: from.address, to: manager.address, broken });
  const transport = createRouterTransport((router) => registerServices(router, manager.parts), {
    router: { interceptors: [asCaller, authorizing(() => manager.parts.objects.cluster())] },
    transport: { interceptors: [namingOurselves, line.interceptor] },
  });
  return { transport, close: () => closed.abort(new ConnectError("connection closed", Code.Unavailable)) };
}

class Line {
  readonly #world: World;
  readonly #ends: { readonly from: string; readonly to: string; readonly broken: AbortSignal };

  constructor(world: World, ends: { readonly from: string; readonly to: string; readonly broken: AbortSignal }) {
    this.#world = world;
    this.#ends = ends;
  }

  readonly interceptor: Interceptor = (next) => async (request) => {
    const { broken } = this.#ends;
    await this.#cross(callTimeoutMs);
    const response = await withSignal(next(request), broken);
    if (!response.stream) {
      await this.#cross(callTimeoutMs);
      return response;
    }
    return { ...response, message: this.#stream(response.message) };
  };

  /** TCP: what is sent into a cut line arrives when it is whole again. */
  async *#stream<T>(messages: AsyncIterable<T>): AsyncGenerator<T> {
    const iterator = messages[Symbol.asyncIterator]();
    for (;;) {
      const next = await withSignal(iterator.next(), this.#ends.broken);
      if (next.done === true) return;
      await this.#cross(Number.POSITIVE_INFINITY);
      yield next.value;
    }
  }

  async #cross(limitMs: number): Promise<void> {
    const { from, to, broken } = this.#ends;
    const start = this.#world.now;
    await this.#pause(0.2 + this.#world.random.below(1000) / 500);
    while (this.#world.isCut(from, to)) {
      if (this.#world.now - start > limitMs) throw new ConnectError("timed out", Code.Unavailable);
      await this.#pause(pollMs);
    }
    broken.throwIfAborted();
  }

  #pause(delayMs: number): Promise<void> {
    const waited = new Promise<void>((done) => this.#world.after(delayMs, done));
    return withSignal(waited, this.#ends.broken);
  }
}

function refusing(): ManagerConnection["transport"] {
  return createRouterTransport(() => {}, {
    transport: {
      interceptors: [
        () => () => {
          throw new ConnectError("connection refused", Code.Unavailable);
        },
      ],
    },
  });
}
