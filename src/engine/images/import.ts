import type { Clock } from "../../base/clock.ts";
import { crashPoint } from "../../base/crash-point.ts";
import { EngineError } from "../../base/errors.ts";
import { newHexId } from "../../base/ids.ts";
import type { Random } from "../../base/random.ts";
import { checkTar, decompress } from "./archive.ts";
import { configDescriptor, storeDocuments } from "./assemble.ts";
import type { Catalog } from "./catalog.ts";
import { applyChanges, type ConfigJson } from "./changes.ts";
import { type Descriptor, encodeManifest, type Manifest, mediaTypes } from "./codec.ts";
import { coalesce, openBlob } from "./content.ts";
import type { Leased, WorkLease } from "./lease.ts";
import type { Platform } from "./platform.ts";
import { canonicalString, parseReference, withDefaultTag } from "./reference.ts";
import type { Unpacker } from "./unpack.ts";

export interface ImportDeps {
  readonly clock: Clock;
  readonly random: Random;
  readonly catalog: Catalog;
  readonly lease: WorkLease;
  readonly unpacker: Unpacker;
  readonly platform: Platform;
}

export interface ImportOptions {
  readonly reference?: string;
  readonly message: string;
  readonly changes: readonly string[];
}

const defaultMessage = "Imported from -";

/**
 * `docker import`: an image of one layer from the tar of a root file system. Returns its id and its canonical name.
 *
 * @throws {EngineError} `invalid`; nothing is changed then.
 */
export async function importImage(
  deps: ImportDeps,
  source: AsyncIterable<Uint8Array>,
  options: ImportOptions,
  signal: AbortSignal,
): Promise<{ readonly id: string; readonly name: string | undefined }> {
  const config = applyChanges(options.changes);
  const name = targetName(options.reference);
  return await deps.lease.run(async (leased) => {
    const layer = await storeLayer(deps, leased, source, signal);
    const diffIds = [layer.digest];
    await deps.unpacker.unpack(leased, layer, diffIds, signal);
    const createdAt = goTime(deps.clock.wall(), deps.random);
    const document = configDocument({ config, diffIds, createdAt, comment: options.message, platform: deps.platform });
    const configBytes = new TextEncoder().encode(JSON.stringify(document));
    const descriptor = configDescriptor(configBytes);
    const manifest: Manifest = {
      kind: "manifest",
      mediaType: mediaTypes.ociManifest,
      config: descriptor,
      layers: [layer],
    };
    const stored = await storeDocuments(
      leased,
      { manifest, manifestBytes: encodeManifest(descriptor, [layer]), configBytes },
      { snapshotter: deps.unpacker.snapshotter, clock: deps.clock },
      signal,
    );
    const names = name === undefined ? [] : [name];
    await deps.catalog.exclusively(() => deps.catalog.publish({ id: stored.id, target: stored.target, names }));
    return { id: stored.id, name };
  });
}

function targetName(text: string | undefined): string | undefined {
  if (text === undefined || text === "") return undefined;
  const reference = withDefaultTag(parseReference(text));
  // compat: dockerd's words
  if (reference.digest !== undefined) throw new EngineError("invalid", "cannot import digest reference");
  return canonicalString(reference);
}

/** Stored without compression: its digest is the diff id, and unpacking needs no second pass. */
async function storeLayer(
  deps: ImportDeps,
  leased: Leased,
  source: AsyncIterable<Uint8Array>,
  signal: AbortSignal,
): Promise<Descriptor> {
  const ref = `weft-import-${newHexId(deps.random).slice(0, 16)}`;
  await using writer = await openBlob(leased.containerd, { ref }, deps.clock, signal);
  if (writer === undefined) throw new EngineError("conflict", "a write of this name is there already");
  for await (const chunk of coalesce(checkTar(decompress(source, signal), signal), 1 << 20)) await writer.write(chunk);
  const stored = await writer.commit();
  crashPoint("import.layer");
  return { mediaType: mediaTypes.ociLayer, ...stored, annotations: {} };
}

function configDocument(image: {
  readonly config: ConfigJson;
  readonly diffIds: readonly string[];
  readonly createdAt: string;
  readonly comment: string;
  readonly platform: Platform;
}): Record<string, unknown> {
  const comment = image.comment === "" ? defaultMessage : image.comment;
  const { os, architecture, variant } = image.platform;
  return {
    architecture,
    ...(variant === "" ? {} : { variant }),
    os,
    created: image.createdAt,
    comment,
    config: image.config,
    rootfs: { type: "layers", diff_ids: image.diffIds },
    history: [{ created: image.createdAt, comment }],
  };
}

/** RFC 3339 with nanoseconds. The clock knows milliseconds; the rest keeps two imports of the same file apart. */
function goTime(date: Date, random: Random): string {
  return date.toISOString().replace(/Z$/, `${String(random.below(1_000_000)).padStart(6, "0")}Z`);
}
