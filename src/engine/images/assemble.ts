import type { Clock } from "../../base/clock.ts";
import { crashPoint } from "../../base/crash-point.ts";
import {
  type ConfigDocument,
  chainIds,
  type Descriptor,
  decodeConfig,
  digestOf,
  type Manifest,
  mediaTypes,
} from "./codec.ts";
import { ensureBlob } from "./content.ts";
import type { Leased } from "./lease.ts";

/**
 * Stores an image's documents so that garbage collection follows them: manifest -> config and layers, config -> snapshot.
 * Its layers must be stored already. Idempotent; nothing is visible before the catalog publishes the image.
 */
export async function storeDocuments(
  leased: Leased,
  image: { readonly manifest: Manifest; readonly manifestBytes: Uint8Array; readonly configBytes: Uint8Array },
  options: { readonly snapshotter: string; readonly clock: Clock },
  signal: AbortSignal,
): Promise<{ readonly target: Descriptor; readonly id: string; readonly document: ConfigDocument }> {
  const document = decodeConfig(image.configBytes);
  const top = chainIds(document.diffIds).at(-1);
  const configLabels = top === undefined ? {} : { [`containerd.io/gc.ref.snapshot.${options.snapshotter}`]: top };
  const config = { bytes: image.configBytes, labels: configLabels };
  const { digest: id } = await ensureBlob(leased.containerd, config, options.clock, signal);
  crashPoint("image.config");
  const manifestLabels = Object.fromEntries([
    ["containerd.io/gc.ref.content.config", id],
    ...image.manifest.layers.map((layer, i) => [`containerd.io/gc.ref.content.l.${i}`, layer.digest]),
  ]);
  const manifest = { bytes: image.manifestBytes, labels: manifestLabels };
  await ensureBlob(leased.containerd, manifest, options.clock, signal);
  crashPoint("image.manifest");
  const target = {
    mediaType: image.manifest.mediaType,
    digest: digestOf(image.manifestBytes),
    sizeBytes: image.manifestBytes.length,
    annotations: {},
  };
  return { target, id, document };
}

/** Descriptor of a configuration that came without a manifest. */
export function configDescriptor(bytes: Uint8Array): Descriptor {
  return { mediaType: mediaTypes.ociConfig, digest: digestOf(bytes), sizeBytes: bytes.length, annotations: {} };
}
