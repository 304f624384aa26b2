import { hostname as systemHostname } from "node:os";
import type { IpAddress } from "../../base/ip.ts";
import type { Upstream } from "../dns/dns.ts";
import type { DnsOptions, SandboxRequest } from "../model.ts";
import { ensureDirectory, readOrUndefined, writeUnlessEdited } from "./files.ts";
import type { Attached } from "./gateway.ts";
import { hostsFile } from "./hosts-file.ts";
import { hasFamily, hasNames, listedAddresses } from "./plan.ts";
import { embeddedResolvConf, parseResolvConf, plainResolvConf, type ResolvInput } from "./resolv-conf.ts";

/** `/etc/hosts`, `/etc/hostname` and `/etc/resolv.conf` of a container, and what its resolver needs to know. */
export interface ContainerFiles {
  readonly hosts: string;
  readonly hostname: string;
  readonly resolvConf: string;
  /** Given the container's namespace, for servers that are asked from inside it. */
  upstreams(namespacePath: string): readonly Upstream[];
  readonly ndotsConfigured: boolean;
}

export function containerFiles(options: {
  readonly request: SandboxRequest;
  readonly attached: readonly Attached[];
  readonly daemonDns: DnsOptions;
  readonly hostGateway: IpAddress | undefined;
  readonly hasIpv6: boolean;
}): ContainerFiles {
  const { request, attached } = options;
  const { path, text } = readHostResolvConf();
  const input: ResolvInput = {
    host: parseResolvConf(text),
    hostPath: path,
    overrides: over(request.dns, options.daemonDns),
    hasIpv6: hasFamily(attached, 6),
  };
  const embedded = attached.some(({ network }) => hasNames(network));
  const resolv = embedded ? embeddedResolvConf(input) : plainResolvConf(input);
  // Nothing leaves an internal network, so neither does a question (reference: network-data-plane 7.4).
  const isInternal = attached.every(({ network }) => network.spec.internal);
  return {
    hosts: hostsFile({
      hostname: request.hostname,
      domainname: request.domainname,
      addresses: listedAddresses(attached),
      extraHosts: request.extraHosts,
      linked: request.linkedHosts,
      hostGateway: options.hostGateway,
      ipv6Loopback: options.hasIpv6,
    }),
    hostname: `${request.hostname}\n`,
    resolvConf: resolv.text,
    upstreams: (namespacePath) =>
      resolv.upstreams
        .filter(({ from }) => from === "container" || !isInternal)
        .map(({ address, from }) => ({
          address,
          portHostOrder: 53,
          from: from === "host" ? ("host" as const) : { path: namespacePath },
        })),
    ndotsConfigured: resolv.ndotsConfigured,
  };
}

/** A container in the host's namespace sees the host's own files. */
export function hostModeFiles(request: SandboxRequest): ContainerFiles {
  const [hosts, resolv] = [readOrUndefined("/etc/hosts"), readHostResolvConf()];
  const extra = request.extraHosts.map((text) => text.split(/[:=](.*)/)).map(([name, ip]) => `${ip}\t${name}\n`);
  return {
    hosts: `${hosts ?? ""}${extra.join("")}`,
    hostname: `${request.hostname === "" ? systemHostname() : request.hostname}\n`,
    resolvConf: resolv.text,
    upstreams: () => [],
    ndotsConfigured: false,
  };
}

export function writeContainerFiles(directory: string, files: ContainerFiles): void {
  if (directory === "") return;
  ensureDirectory(directory);
  writeUnlessEdited(directory, "hosts", files.hosts);
  writeUnlessEdited(directory, "hostname", files.hostname);
  writeUnlessEdited(directory, "resolv.conf", files.resolvConf);
}

/** Name servers of the host, for pools to keep clear of. */
export function hostNameServers(): readonly IpAddress[] {
  return parseResolvConf(readHostResolvConf().text).nameservers;
}

const stubPath = "/run/systemd/resolve/resolv.conf";

/** systemd-resolved's stub listens where no container can reach it; its other file names the real servers (7.2). */
function readHostResolvConf(): { readonly path: string; readonly text: string } {
  const path = "/etc/resolv.conf";
  const text = readOrUndefined(path) ?? "";
  const { nameservers } = parseResolvConf(text);
  if (nameservers.length !== 1 || nameservers[0] !== "127.0.0.53") return { path, text };
  const real = readOrUndefined(stubPath);
  return real === undefined ? { path, text } : { path: stubPath, text: real };
}

/** What the container says goes before what the daemon says, list by list. */
function over(container: DnsOptions, daemon: DnsOptions): DnsOptions {
  return {
    servers: container.servers.length > 0 ? container.servers : daemon.servers,
    search: container.search.length > 0 ? container.search : daemon.search,
    options: container.options.length > 0 ? container.options : daemon.options,
  };
}
