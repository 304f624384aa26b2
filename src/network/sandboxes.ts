import { join } from "node:path";
import { KeyedMutex } from "../base/async.ts";
import { crashPoint } from "../base/crash-point.ts";
import { EngineError, runAll } from "../base/errors.ts";
import { shortId } from "../base/ids.ts";
import type { Cidr } from "../base/ip.ts";
import { tryFindNetwork } from "./lookup.ts";
import type { Endpoint, EndpointRequest, Network, Sandbox, SandboxRequest } from "./model.ts";
import { namespaceObjects } from "./sandbox/desired.ts";
import { EndpointNames } from "./sandbox/endpoint-names.ts";
import { keep, type Resolved, SandboxEndpoints } from "./sandbox/endpoints.ts";
import type { Attached } from "./sandbox/gateway.ts";
import { balancerRequest } from "./sandbox/identity.ts";
import { attachedOf, isWayOut, type Live, newLive, type SandboxesDeps } from "./sandbox/live.ts";
import { namesOf } from "./sandbox/plan.ts";
import { Settling } from "./sandbox/settling.ts";

/**
 * Sandboxes: which endpoints each has, in which order they come up and go. Opening, connecting, disconnecting and taking
 * over after a restart all end in `Settling`.
 */
export class Sandboxes {
  readonly #deps: SandboxesDeps;
  readonly #names: EndpointNames;
  readonly #endpoints: SandboxEndpoints;
  readonly #settling: Settling;
  readonly #live = new Map<string, Live>();
  readonly #mutex = new KeyedMutex();

  constructor(deps: SandboxesDeps) {
    this.#deps = deps;
    this.#names = new EndpointNames(deps);
    this.#endpoints = new SandboxEndpoints(deps);
    this.#settling = new Settling(deps, { endpoints: this.#endpoints, names: this.#names });
  }

  has(sandboxId: string): boolean {
    return this.#live.has(sandboxId);
  }

  sandbox(sandboxId: string): Sandbox | undefined {
    const live = this.#live.get(sandboxId);
    return live === undefined ? undefined : this.#show(live);
  }

  /** `lb_…` and `ingress-sbox` are whole names; a container's sandbox id is cut, as in `SandboxKey`. */
  pathOf(sandboxId: string): string {
    return join(this.#deps.netnsDirectory, shortId(sandboxId).replace("-", "_"));
  }

  async prepare(sandboxId: string, mode: SandboxRequest["mode"], signal: AbortSignal): Promise<string> {
    if (mode === "host") return hostPath();
    const path = this.pathOf(sandboxId);
    if (!this.#live.has(sandboxId)) {
      await this.#deps.kernel.reconcile(`sandbox/${sandboxId}`, namespaceObjects(path), signal);
      crashPoint("sandbox.prepare");
    }
    return path;
  }

  open(request: SandboxRequest, signal: AbortSignal): Promise<Sandbox> {
    return this.#mutex.run(request.sandboxId, async () => {
      const live = this.#enter(request, "container");
      live.request = request;
      try {
        const resolved = await this.#endpoints.resolveAll(live, request.endpoints, signal);
        await this.#settling.settle(live, await this.#endpoints.plan(live, resolved, signal), signal);
        return this.#show(live);
      } catch (error) {
        await this.#undo(live);
        throw error;
      }
    });
  }

  /** A swarm network's presence on this node: one endpoint with the node's address, and for ingress the way out. */
  openBalancer(options: { readonly network: Network; readonly nodeAddress: Cidr }, signal: AbortSignal): Promise<void> {
    const { network, nodeAddress } = options;
    const request = balancerRequest(network, nodeAddress);
    return this.#mutex.run(request.sandboxId, async () => {
      const live = this.#enter(request, "balancer");
      try {
        const kept = this.#deps.catalogue.endpointsOf(live.id).find((endpoint) => endpoint.networkId === network.id);
        const [endpointRequest] = request.endpoints;
        if (endpointRequest === undefined) return;
        const same = kept?.ipv4?.address === nodeAddress.address ? kept : undefined;
        const resolved: Resolved = {
          request: endpointRequest,
          network,
          kept: same,
          attachment: { id: "", addresses: [nodeAddress] },
        };
        await this.#settling.settle(live, await this.#endpoints.plan(live, [resolved], signal), signal);
      } catch (error) {
        await this.#undo(live);
        throw error;
      }
    });
  }

  close(sandboxId: string, signal: AbortSignal): Promise<void> {
    return this.#mutex.run(sandboxId, () => this.#close(sandboxId, signal));
  }

  connect(sandboxId: string, request: EndpointRequest, signal: AbortSignal): Promise<Endpoint> {
    return this.#mutex.run(sandboxId, async () => {
      const live = this.#find(sandboxId);
      if (live.request.mode === "host") throw hostModeRefusal();
      const before = this.#attached(live);
      const target = tryFindNetwork(this.#deps.allNetworks(), request.network);
      if (target?.spec.driver === "host") throw hostModeRefusal();
      if (target?.spec.driver === "null" || before.some(({ network }) => network.spec.driver === "null")) {
        // compat:
        const text =
          "container cannot be connected to multiple networks with one of the networks in private (none) mode";
        throw new EngineError("invalid", text);
      }
      if (target !== undefined && before.some(({ network }) => network.id === target.id)) {
        const text = `endpoint with name ${live.request.containerName} already exists in network ${target.spec.name}`;
        throw new EngineError("forbidden", text); // compat:
      }
      const kept = before.filter((a) => !isWayOut(a)).map(keep);
      const resolved = await this.#endpoints.resolve(live, request, signal);
      try {
        await this.#settling.settle(live, await this.#endpoints.plan(live, [...kept, resolved], signal), signal);
      } catch (error) {
        await this.#restore(live, before, signal);
        // Unless the endpoint got as far as being made, and took it along when it was undone.
        const attachment = resolved.attachment?.id;
        if (attachment !== undefined && live.attachments.has(attachment))
          await this.#endpoints.detach(live, attachment);
        throw error;
      }
      live.request = { ...live.request, endpoints: [...live.request.endpoints, request] };
      const made = this.#attached(live).find(({ network }) => network.id === resolved.network.id);
      if (made === undefined) throw new EngineError("internal", `endpoint on ${request.network} is gone`);
      return made.endpoint;
    });
  }

  disconnect(sandboxId: string, term: string, signal: AbortSignal): Promise<void> {
    return this.#mutex.run(sandboxId, async () => {
      const live = this.#find(sandboxId);
      const before = this.#attached(live);
      const target = tryFindNetwork(
        before.map(({ network }) => network),
        term,
      );
      if (target?.spec.driver === "host") throw hostModeRefusal();
      if (target === undefined) {
        const text = `container ${live.request.containerId} is not connected to network ${term}`;
        throw new EngineError("internal", text); // compat:
      }
      const kept = before.filter((a) => a.network.id !== target.id && !isWayOut(a)).map(keep);
      await this.#settling.settle(live, await this.#endpoints.plan(live, kept, signal), signal);
      const left = kept.map(({ request }) => request);
      live.request = { ...live.request, endpoints: left };
    });
  }

  rename(sandboxId: string, containerName: string): Promise<void> {
    return this.#mutex.run(sandboxId, async () => {
      const live = this.#live.get(sandboxId);
      if (live === undefined) return;
      live.request = { ...live.request, containerName };
      const attached = this.#attached(live).map((a): Attached => {
        if (isWayOut(a)) return a;
        const dnsNames = namesOf(a.network, a.endpoint.request, live.request);
        return { ...a, endpoint: { ...a.endpoint, containerName, dnsNames } };
      });
      await this.#deps.catalogue.saveEndpoints(attached.map(({ endpoint }) => endpoint));
      for (const a of attached) {
        live.applied.set(a.endpoint.id, a.endpoint);
        this.#names.announce(a);
      }
    });
  }

  /** Releases endpoint records whose sandbox is nobody's any more; the kernel's sweep takes what they had. */
  async releaseDead(isAlive: (sandboxId: string) => boolean): Promise<void> {
    const dead = this.#deps.catalogue.endpoints().filter((endpoint) => !isAlive(endpoint.sandboxId));
    if (dead.length === 0) return;
    this.#deps.log.info("releasing endpoints of dead containers", { count: dead.length });
    for (const endpoint of dead) {
      this.#deps.hostPorts.release(endpoint.id);
      this.#names.withdraw(endpoint);
      await this.#endpoints.detach(undefined, endpoint.attachmentId);
    }
    await this.#deps.catalogue.deleteEndpoints(dead);
  }

  /** Closes the resolvers. The kernel keeps what it has: containers go on without us. */
  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all([...this.#live.values()].map((live) => live.dns?.[Symbol.asyncDispose]()));
    this.#live.clear();
  }

  #enter(request: SandboxRequest, kind: Live["kind"]): Live {
    const found = this.#live.get(request.sandboxId);
    if (found !== undefined) return found;
    const path = request.mode === "host" ? hostPath() : this.pathOf(request.sandboxId);
    const live = newLive({ request, kind, path });
    this.#live.set(live.id, live);
    return live;
  }

  #find(sandboxId: string): Live {
    const live = this.#live.get(sandboxId);
    if (live === undefined) throw new EngineError("not-found", `sandbox ${sandboxId} not found`);
    return live;
  }

  #attached(live: Live): readonly Attached[] {
    return attachedOf(live, this.#deps.catalogue);
  }

  #show(live: Live): Sandbox {
    return { id: live.id, netnsPath: live.path, endpoints: this.#attached(live).map(({ endpoint }) => endpoint) };
  }

  async #close(sandboxId: string, signal: AbortSignal): Promise<void> {
    const { kernel, catalogue } = this.#deps;
    const endpoints = catalogue.endpointsOf(sandboxId);
    const live = this.#live.get(sandboxId);
    const isHost = live?.request.mode === "host";
    await runAll(`close sandbox ${shortId(sandboxId)}`, [
      async () => {
        await live?.dns?.[Symbol.asyncDispose]();
      },
      () => this.#settling.leave({ live, endpoints }, signal),
      () => (isHost ? undefined : kernel.reconcile(`sandbox/${sandboxId}`, [], signal)),
      async () => {
        for (const id of live?.attachments ?? []) await this.#endpoints.detach(live, id);
      },
      () => void this.#live.delete(sandboxId),
    ]);
    crashPoint("sandbox.close");
  }

  async #undo(live: Live): Promise<void> {
    try {
      await this.#close(live.id, new AbortController().signal);
    } catch (error) {
      this.#deps.log.error("could not undo a failed sandbox", { sandbox: live.id, error });
    }
  }

  /** Back to what it was before a connect that failed. */
  async #restore(live: Live, before: readonly Attached[], signal: AbortSignal): Promise<void> {
    try {
      await this.#settling.settle(live, before, signal);
    } catch (error) {
      this.#deps.log.error("could not undo a failed connect", { sandbox: live.id, error });
    }
  }
}

/** Our own namespace as others (the runtime) can name it: weftd need not live in the machine's first one. */
function hostPath(): string {
  return `/proc/${process.pid}/ns/net`;
}

function hostModeRefusal(): EngineError {
  // compat:
  return new EngineError("invalid", "container cannot be disconnected from host network or connected to host network");
}
