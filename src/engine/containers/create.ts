import { EngineError } from "../../base/errors.ts";
import { shortId } from "../../base/ids.ts";
import type { Networks } from "../../network/mod.ts";
import type { Collection } from "../../store/mod.ts";
import type { Images } from "../engine.ts";
import type { LiveContainer } from "../lifecycle/container.ts";
import { planCreate, planRemove } from "../lifecycle/plan.ts";
import type { StepRunner } from "../lifecycle/steps.ts";
import type { ContainerRecord, ContainerSpec, ImageDetail } from "../model.ts";
import type { HostFacts } from "../runtime-spec/spec.ts";
import type { HostVolumes } from "../volumes/open.ts";
import type { ContainerDirectory } from "./directory.ts";
import { checkLinks } from "./links.ts";
import { mergeLabels, mergeProcess } from "./merge.ts";
import { type ResolvedMounts, resolveMounts, type WantedMounts, wantedMounts } from "./mounts.ts";
import { endpointsOf, normaliseNetworkMode, publishOf } from "./sandbox-request.ts";
import { checkContainerSpec } from "./validate.ts";

/** Volume names chosen for a creation under way, so that a crash leaves none behind. */
export interface CreationIntent {
  readonly volumes: readonly string[];
}

export interface CreateContext {
  readonly images: Pick<Images, "find">;
  readonly networks: Networks;
  readonly volumes: HostVolumes;
  readonly directory: ContainerDirectory;
  readonly steps: StepRunner;
  readonly intents: Collection<CreationIntent>;
  readonly host: () => HostFacts;
  readonly now: () => string;
  readonly newId: () => string;
  readonly live: (record: ContainerRecord) => LiveContainer;
}

/** Makes a container under a name that the caller has reserved. On failure nothing of it is left. */
export async function createContainer(
  context: CreateContext,
  request: { readonly id: string; readonly name: string; readonly spec: ContainerSpec },
  signal: AbortSignal,
): Promise<LiveContainer> {
  const { id, name } = request;
  const spec = { ...request.spec, networkMode: normaliseNetworkMode(request.spec.networkMode) };
  const host = context.host();
  checkContainerSpec(spec, host);
  checkLinks(spec, context.directory);
  const image = await context.images.find(spec.image);
  const merged = withImage(spec, image);
  await checkNetworks(context.networks, merged);
  const hostname = hostnameOf(context, spec, id, host);
  const process = mergeProcess(spec, image.config, hostname);
  const wanted = wantedMounts(spec, image.config, context.newId);
  signal.throwIfAborted();

  if (wanted.anonymous.length > 0) await context.intents.put(id, { volumes: wanted.anonymous });
  const resolved = await resolveOrUndo(context, id, wanted);
  const container = context.live({
    id,
    name,
    createdAt: context.now(),
    spec: merged,
    imageId: image.id,
    process,
    hostname,
    mounts: resolved.mounts,
    state: { kind: "created" },
    sandboxId: undefined,
    sandboxOwner: undefined,
    restartCount: 0,
  });
  try {
    const input = { container, parentSnapshot: image.chainId, fill: resolved.toFill };
    container.isReleased = true;
    await context.steps.apply(planCreate(resolved.toFill.length > 0), input, signal);
  } catch (error) {
    await context.steps.applyAll(planRemove({ ...container.record, removeVolumes: true }, true), { container }, signal);
    throw error;
  }
  if (wanted.anonymous.length > 0) await context.intents.delete(id);
  return container;
}

/** At start-up: volumes of creations that died before their record was written. */
export async function undoIntents(context: Pick<CreateContext, "intents" | "directory" | "volumes">): Promise<void> {
  for (const { id, value } of await context.intents.list()) {
    if (context.directory.get(id) === undefined) await releaseVolumes(context.volumes, value.volumes, id);
    await context.intents.delete(id);
  }
}

async function resolveOrUndo(context: CreateContext, id: string, wanted: WantedMounts): Promise<ResolvedMounts> {
  try {
    return await resolveMounts(wanted, context.volumes);
  } catch (error) {
    await releaseVolumes(context.volumes, wanted.anonymous, id);
    if (wanted.anonymous.length > 0) await context.intents.delete(id);
    throw error;
  }
}

async function releaseVolumes(volumes: HostVolumes, names: readonly string[], containerId: string): Promise<void> {
  for (const name of names) await volumes.releaseAnonymous(name, containerId);
}

/**
 * An unknown network is refused at once, with a code that is not `not-found`: that one makes the CLI pull the image. Where
 * a manager may know more networks than we do, it is asked at the start.
 */
async function checkNetworks(networks: Networks, spec: ContainerSpec): Promise<void> {
  const mode = spec.networkMode === "host" ? "host" : "private";
  try {
    await networks.check({ mode, endpoints: endpointsOf(spec), publish: publishOf(spec) });
  } catch (error) {
    if (!(error instanceof EngineError) || error.code !== "not-found") throw error;
    throw new EngineError("invalid", error.message, { cause: error });
  }
}

/** What the image adds to the specification, so that the record tells all without it. */
function withImage(spec: ContainerSpec, image: ImageDetail): ContainerSpec {
  return {
    ...spec,
    labels: mergeLabels(spec, image.config),
    exposedPorts: [...new Set([...spec.exposedPorts, ...image.config.exposedPorts])],
    stopSignal: spec.stopSignal !== "" ? spec.stopSignal : image.config.stopSignal,
  };
}

function hostnameOf(context: CreateContext, spec: ContainerSpec, id: string, host: HostFacts): string {
  const { networkMode } = spec;
  if (networkMode.startsWith("container:")) {
    try {
      return context.directory.find(networkMode.slice("container:".length)).record.hostname;
    } catch (error) {
      // Refused at the start, as Docker does: the other may come in between.
      if (error instanceof EngineError) return shortId(id);
      throw error;
    }
  }
  if (spec.hostname !== "") return spec.hostname;
  return networkMode === "host" || spec.host.utsMode === "host" ? host.hostname : shortId(id);
}
