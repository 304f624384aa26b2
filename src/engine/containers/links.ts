import { EngineError } from "../../base/errors.ts";
import type { IpAddress } from "../../base/ip.ts";
import type { Networks, SandboxRequest } from "../../network/mod.ts";
import type { ContainerRecord, ContainerSpec } from "../model.ts";
import type { ContainerDirectory } from "./directory.ts";
import { linkEnvironment } from "./link-environment.ts";

/** The other end of a `--link other:alias` on the default bridge, where it runs now. */
interface ResolvedLink {
  readonly alias: string;
  readonly other: ContainerRecord;
  readonly address: IpAddress;
}

interface LinkContext {
  readonly networks: Pick<Networks, "sandbox">;
  readonly directory: Pick<ContainerDirectory, "lookUp">;
}

/** @throws {EngineError} `invalid` when a container to link to does not exist, or has no address of its own. */
export function checkLinks(spec: ContainerSpec, directory: Pick<ContainerDirectory, "lookUp">): void {
  for (const { term } of linksOf(spec)) {
    const other = directory.lookUp(term)?.record;
    // compat: as code not "not-found", which would make the CLI pull the image.
    if (other === undefined) {
      throw new EngineError("invalid", `could not get container for ${term}: No such container: ${term}`);
    }
    if (other.spec.networkMode === "host") {
      // compat:
      throw new EngineError(
        "invalid",
        "conflicting options: host type networking can't be used with links. This would result in undefined behavior",
      );
    }
  }
}

/**
 * A container is not started before those that it links to. One that was removed since is forgotten, as Docker does.
 * @throws {EngineError} `invalid` in Docker's words.
 */
export function refuseStoppedLinks(record: ContainerRecord, context: LinkContext): void {
  const resolved = new Set(resolveLinks(record, context).map(({ alias }) => alias));
  for (const { term, alias } of linksOf(record.spec)) {
    const other = context.directory.lookUp(term)?.record;
    if (other === undefined || resolved.has(alias)) continue;
    // compat:
    throw new EngineError(
      "invalid",
      `Cannot link to a non running container: /${other.name} AS /${record.name}/${alias}`,
    );
  }
}

/** Lines for the hosts file, of the links whose other end runs. */
export function linkedHosts(record: ContainerRecord, context: LinkContext): SandboxRequest["linkedHosts"] {
  return resolveLinks(record, context).map(({ alias, other, address }) => ({
    address,
    names: [...new Set([alias, other.hostname, other.name])],
  }));
}

/** Variables that tell about the linked containers; the container's own win. */
export function linkedEnvironment(record: ContainerRecord, context: LinkContext): readonly string[] {
  return resolveLinks(record, context).flatMap(({ alias, other, address }) =>
    linkEnvironment({
      alias,
      parentName: record.name,
      childAddress: address,
      childPorts: other.spec.exposedPorts,
      childEnv: other.process.env.filter((variable) => !isImplied(variable, other)),
    }),
  );
}

/** What the engine adds by itself is not passed on: only the image's and the user's variables are. */
function isImplied(variable: string, record: ContainerRecord): boolean {
  return variable === `HOSTNAME=${record.hostname}` || variable === "TERM=xterm";
}

function linksOf(spec: ContainerSpec): readonly { readonly term: string; readonly alias: string }[] {
  // On a user-defined network the CLI sends them once more with the endpoint: they are aliases in its name service.
  if (spec.networkMode !== "bridge") return [];
  return spec.host.links.map((link) => {
    const [term = "", alias = term] = link.split(":");
    return { term, alias: alias.slice(alias.lastIndexOf("/") + 1) };
  });
}

function resolveLinks(record: ContainerRecord, { networks, directory }: LinkContext): readonly ResolvedLink[] {
  return linksOf(record.spec).flatMap(({ term, alias }): readonly ResolvedLink[] => {
    const other = directory.lookUp(term)?.record;
    if (other?.sandboxId === undefined || other.state.kind !== "running") return [];
    const endpoints = networks.sandbox(other.sandboxId)?.endpoints ?? [];
    const address = endpoints.find((endpoint) => endpoint.networkName === "bridge")?.ipv4?.address;
    return address === undefined ? [] : [{ alias, other, address }];
  });
}
