import { EngineError } from "../../base/errors.ts";
import type { EndpointRequest, Network, Networks } from "../../network/mod.ts";
import type { ContainerRecord } from "../model.ts";
import { endpointsOf } from "./sandbox-request.ts";

interface ChangeContext {
  readonly networks: Networks;
  readonly save: (record: ContainerRecord) => Promise<void>;
}

/**
 * Adds a network to what the container asks for, and joins it when it runs. The wish is stored first: a daemon that dies
 * on the way joins when it comes back.
 */
export async function connectNetwork(
  { networks, save }: ChangeContext,
  container: ContainerRecord,
  request: EndpointRequest,
  signal: AbortSignal,
): Promise<void> {
  const network = await networks.find(request.network);
  refuseUnconnectable(container, network);
  const before = await withoutNetwork(networks, endpointsOf(container.spec), network);
  const isMember = before.length < endpointsOf(container.spec).length;
  if (isMember) {
    // compat:
    throw new EngineError(
      "forbidden",
      `endpoint with name ${container.name} already exists in network ${network.spec.name}`,
    );
  }
  const endpoints = [...before, request];
  if (container.state.kind !== "running" || container.sandboxId === undefined) {
    await networks.check({ mode: "private", endpoints, publish: container.spec.host.publish });
  }
  await save({ ...container, spec: { ...container.spec, endpoints } });
  if (container.state.kind !== "running" || container.sandboxId === undefined) return;
  try {
    await networks.connect(container.sandboxId, request, signal);
  } catch (error) {
    await save(container);
    throw error;
  }
}

/** Takes a network away; `force` also forgets one that is no longer known. */
export async function disconnectNetwork(
  { networks, save }: ChangeContext,
  container: ContainerRecord,
  options: { readonly network: string; readonly force: boolean },
  signal: AbortSignal,
): Promise<void> {
  const network = await networks.find(options.network);
  refuseUnconnectable(container, network);
  const before = endpointsOf(container.spec);
  const endpoints = await withoutNetwork(networks, before, network);
  if (endpoints.length === before.length && !options.force) {
    // compat:
    throw new EngineError("forbidden", `container ${container.id} is not connected to network ${network.spec.name}`);
  }
  // Of the last network only the mode is left; it must not bring it back.
  const networkMode = endpoints.length === 0 ? "none" : container.spec.networkMode;
  await save({ ...container, spec: { ...container.spec, networkMode, endpoints } });
  if (container.state.kind !== "running" || container.sandboxId === undefined) return;
  await networks.disconnect(container.sandboxId, network.id, signal);
}

function refuseUnconnectable(container: ContainerRecord, network: Network): void {
  const { networkMode } = container.spec;
  const { driver } = network.spec;
  if (networkMode.startsWith("container:")) {
    // compat:
    throw new EngineError(
      "invalid",
      "container sharing network namespace with another container or host cannot be connected to any other network",
    );
  }
  if (networkMode === "host" || driver === "host") {
    // compat:
    throw new EngineError("invalid", "container cannot be disconnected from host network or connected to host network");
  }
  if (driver === "null" || (networkMode === "none" && container.state.kind === "running" && hasNone(container))) {
    // compat:
    throw new EngineError(
      "invalid",
      "container cannot be connected to multiple networks with one of the networks in private (none) mode",
    );
  }
}

/** `--network none` was asked for by name, rather than being what disconnecting left. */
function hasNone(container: ContainerRecord): boolean {
  return container.spec.endpoints.some((endpoint) => endpoint.network === "none");
}

/** Requests name networks as typed: by name, id or prefix; those that are gone stay. */
async function withoutNetwork(
  networks: Networks,
  endpoints: readonly EndpointRequest[],
  network: Network,
): Promise<readonly EndpointRequest[]> {
  const kept: EndpointRequest[] = [];
  for (const endpoint of endpoints) {
    const found = await networks.find(endpoint.network).catch(() => undefined);
    if (found?.id !== network.id) kept.push(endpoint);
  }
  return kept;
}
