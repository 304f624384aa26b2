import type { ContainerRecord } from "../../engine/mod.ts";
import type { Endpoint, EndpointRequest, Network, PortBinding, Sandbox } from "../../network/mod.ts";
import type { ApiVersion } from "../version.ts";

/** Never shown among a container's networks (reference: network-data-plane 14.3). */
const hiddenNetwork = "docker_gwbridge";

export interface NetworkFacts {
  readonly sandbox: Sandbox | undefined;
  /** Network of a name, id or prefix; undefined when it is gone. */
  readonly findNetwork: (term: string) => Network | undefined;
  readonly version: ApiVersion;
}

/** `NetworkSettings.Networks`: what is in force where the container runs, what was asked for where it does not. */
export function endpointSettings(record: ContainerRecord, facts: NetworkFacts): Readonly<Record<string, unknown>> {
  const out: Record<string, unknown> = {};
  if (record.spec.networkMode.startsWith("container:")) return out;
  const started = record.state.kind !== "created";
  for (const request of requestsOf(record)) {
    const network = facts.findNetwork(request.network);
    // compat: Docker fills in the network's id at the first start.
    out[network?.spec.name ?? request.network] = settings(record, request, {
      networkId: started || facts.version < 44 ? (network?.id ?? "") : "",
      endpoint: undefined,
      version: facts.version,
    });
  }
  if (record.state.kind !== "running") return out;
  for (const endpoint of visibleEndpoints(facts.sandbox)) {
    out[endpoint.networkName] = settings(record, endpoint.request, {
      networkId: endpoint.networkId,
      endpoint,
      version: facts.version,
    });
  }
  return out;
}

export function visibleEndpoints(sandbox: Sandbox | undefined): readonly Endpoint[] {
  return (sandbox?.endpoints ?? []).filter((endpoint) => endpoint.networkName !== hiddenNetwork);
}

/** Published ports in force, of every endpoint: on an overlay they hang on docker_gwbridge. */
export function bindingsOf(sandbox: Sandbox | undefined): readonly PortBinding[] {
  return (sandbox?.endpoints ?? []).flatMap((endpoint) => endpoint.ports);
}

function requestsOf(record: ContainerRecord): readonly EndpointRequest[] {
  if (record.spec.networkMode !== "host" && record.spec.networkMode !== "none") return record.spec.endpoints;
  return [{ ...noRequest, network: record.spec.networkMode }];
}

const noRequest: Omit<EndpointRequest, "network"> = {
  ipv4: undefined,
  ipv6: undefined,
  mac: undefined,
  aliases: [],
  links: [],
  driverOptions: {},
  gatewayPriority: 0,
};

function settings(
  record: ContainerRecord,
  request: EndpointRequest,
  facts: { readonly networkId: string; readonly endpoint: Endpoint | undefined; readonly version: ApiVersion },
): Readonly<Record<string, unknown>> {
  const { endpoint, version } = facts;
  const isSpecific = request.ipv4 !== undefined || request.ipv6 !== undefined;
  const ipam = {
    ...(request.ipv4 === undefined ? {} : { IPv4Address: request.ipv4 }),
    ...(request.ipv6 === undefined ? {} : { IPv6Address: request.ipv6 }),
  };
  // compat: before 1.45 the short id was one of the aliases.
  const aliases =
    version < 45 && endpoint !== undefined ? [...request.aliases, record.id.slice(0, 12)] : request.aliases;
  return {
    IPAMConfig: isSpecific ? ipam : null,
    Links: orNull(request.links),
    Aliases: orNull(aliases.filter((alias, at) => aliases.indexOf(alias) === at)),
    MacAddress: endpoint?.mac ?? request.mac ?? "",
    DriverOpts: Object.keys(request.driverOptions).length === 0 ? null : request.driverOptions,
    GwPriority: request.gatewayPriority,
    NetworkID: facts.networkId,
    EndpointID: endpoint?.id ?? "",
    Gateway: endpoint?.gateway ?? "",
    IPAddress: endpoint?.ipv4?.address ?? "",
    IPPrefixLen: endpoint?.ipv4?.prefix ?? 0,
    IPv6Gateway: endpoint?.gateway6 ?? "",
    GlobalIPv6Address: endpoint?.ipv6?.address ?? "",
    GlobalIPv6PrefixLen: endpoint?.ipv6?.prefix ?? 0,
    DNSNames: endpoint === undefined ? null : orNull(endpoint.dnsNames),
  };
}

function orNull<T>(list: readonly T[]): readonly T[] | null {
  return list.length === 0 ? null : list;
}
