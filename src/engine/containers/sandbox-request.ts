import type { EndpointRequest, Networks, PortPublish, SandboxRequest } from "../../network/mod.ts";
import type { LiveContainer } from "../lifecycle/container.ts";
import type { ContainerSpec } from "../model.ts";
import type { ContainerDirectory } from "./directory.ts";
import { linkedHosts } from "./links.ts";

/** What a container's network is asked for with, at its start and again after a restart of the daemon. */
export function sandboxRequest(
  container: LiveContainer,
  networks: Networks,
  directory: Pick<ContainerDirectory, "lookUp">,
): SandboxRequest {
  const { record } = container;
  const { spec } = record;
  return {
    sandboxId: record.sandboxId ?? "",
    containerId: record.id,
    containerName: record.name,
    hostname: record.hostname,
    domainname: spec.domainname,
    mode: spec.networkMode === "host" ? "host" : "private",
    endpoints: endpointsOf(spec),
    dns: spec.host.dns,
    extraHosts: spec.host.extraHosts,
    linkedHosts: linkedHosts(record, { networks, directory }),
    publish: publishOf(spec),
    sysctls: Object.fromEntries(Object.entries(spec.host.sysctls).filter(([name]) => name.startsWith("net."))),
    filesDirectory: container.dataDirectory,
  };
}

/** `default` is the default bridge. */
export function normaliseNetworkMode(mode: string): string {
  return mode === "" || mode === "default" ? "bridge" : mode;
}

/** A network named by the mode alone is joined with default settings. */
export function endpointsOf(spec: ContainerSpec): readonly EndpointRequest[] {
  const { networkMode: mode, endpoints } = spec;
  if (mode === "host" || mode.startsWith("container:") || endpoints.length > 0) return endpoints;
  return [
    {
      network: mode,
      ipv4: undefined,
      ipv6: undefined,
      mac: undefined,
      aliases: [],
      links: [],
      driverOptions: {},
      gatewayPriority: 0,
    },
  ];
}

/** With `-P` every exposed port that was not published by itself gets any free one. */
export function publishOf(spec: ContainerSpec): readonly PortPublish[] {
  const explicit = spec.host.publish;
  if (!spec.host.publishAll) return explicit;
  const taken = new Set(explicit.map((port) => `${port.containerPort}/${port.protocol}`));
  const exposed = spec.exposedPorts.flatMap((text): readonly PortPublish[] => {
    const match = /^(\d+)(?:\/(tcp|udp|sctp))?$/.exec(text);
    if (match === null || taken.has(`${match[1]}/${match[2] ?? "tcp"}`)) return [];
    return [
      {
        protocol: (match[2] ?? "tcp") as PortPublish["protocol"],
        containerPort: Number(match[1]),
        hostAddress: undefined,
        hostPortFirst: 0,
        hostPortLast: 0,
      },
    ];
  });
  return [...explicit, ...exposed];
}
