import { EngineError } from "../../base/errors.ts";
import { parseBridgeOptions } from "../drivers/bridge/options.ts";
import type { Endpoint, PortBinding } from "../model.ts";
import { type Attached, gatewayEndpoint } from "../sandbox/gateway.ts";
import type { Live, SandboxesDeps } from "../sandbox/live.ts";

/** Ports follow the gateway endpoint; they keep their numbers when it changes. */
export function publishPorts(
  { hostPorts, config }: Pick<SandboxesDeps, "hostPorts" | "config">,
  live: Live,
  { wanted, stored }: { readonly wanted: readonly Attached[]; readonly stored: readonly Endpoint[] },
): readonly Attached[] {
  const { publish } = live.request;
  if (publish.length === 0 || live.request.mode === "host") return wanted;
  const gateway = gatewayEndpoint(wanted);
  const earlier = stored.flatMap((endpoint) => endpoint.ports);
  for (const endpoint of stored) {
    if (endpoint.id === gateway?.endpoint.id) continue;
    if (gateway === undefined) hostPorts.release(endpoint.id);
    else hostPorts.move(endpoint.id, gateway.endpoint.id);
  }
  let ports: readonly PortBinding[] = [];
  if (gateway !== undefined && gateway.network.spec.driver === "bridge") {
    const { publishAddress } = parseBridgeOptions(gateway.network.spec.options);
    const defaultAddress = publishAddress ?? config.defaultPublishAddress;
    try {
      ports = hostPorts.reserve({ holder: gateway.endpoint.id, publish, earlier, defaultAddress });
    } catch (error) {
      if (!(error instanceof EngineError)) throw error;
      const { containerName, id } = gateway.endpoint;
      const text = `driver failed programming external connectivity on endpoint ${containerName} (${id}): ${error.message}`;
      throw new EngineError("internal", text, { cause: error }); // compat:
    }
  }
  return wanted.map((a) => ({
    ...a,
    endpoint: { ...a.endpoint, ports: a.endpoint.id === gateway?.endpoint.id ? ports : [] },
  }));
}
