import { createHash } from "node:crypto";
import { z } from "zod";
import { messageOf } from "../../base/errors.ts";
import type { ImageConfig } from "../model.ts";
import { isDigest } from "./reference.ts";

/** Media types of what registries and archives hold (OCI image-spec 1.1; Docker image manifest v2 schema 2). */
export const mediaTypes = {
  ociIndex: "application/vnd.oci.image.index.v1+json",
  ociManifest: "application/vnd.oci.image.manifest.v1+json",
  ociConfig: "application/vnd.oci.image.config.v1+json",
  ociLayer: "application/vnd.oci.image.layer.v1.tar",
  ociLayerGzip: "application/vnd.oci.image.layer.v1.tar+gzip",
  ociLayerZstd: "application/vnd.oci.image.layer.v1.tar+zstd",
  dockerList: "application/vnd.docker.distribution.manifest.list.v2+json",
  dockerManifest: "application/vnd.docker.distribution.manifest.v2+json",
  dockerConfig: "application/vnd.docker.container.image.v1+json",
  dockerSchema1: "application/vnd.docker.distribution.manifest.v1+json",
  dockerSchema1Signed: "application/vnd.docker.distribution.manifest.v1+prettyjws",
} as const;

export const maxManifestBytes = 4 << 20;
export const maxConfigBytes = 8 << 20;
const maxLayers = 1000;
const maxIndexEntries = 10_000;

/** Points at content by its digest. */
export interface Descriptor {
  readonly mediaType: string;
  readonly digest: string;
  readonly sizeBytes: number;
  readonly annotations: Readonly<Record<string, string>>;
}

export interface Manifest {
  readonly kind: "manifest";
  readonly mediaType: string;
  readonly config: Descriptor;
  /** Base first. */
  readonly layers: readonly Descriptor[];
}

export interface IndexEntry extends Descriptor {
  readonly os: string;
  readonly architecture: string;
  readonly variant: string;
}

export interface Index {
  readonly kind: "index";
  readonly mediaType: string;
  readonly manifests: readonly IndexEntry[];
}

/** What we need of an image's configuration document; `raw` is all of it. */
export interface ConfigDocument {
  readonly architecture: string;
  readonly variant: string;
  readonly os: string;
  readonly created: string;
  readonly author: string;
  readonly comment: string;
  readonly diffIds: readonly string[];
  readonly config: ImageConfig;
  readonly raw: Readonly<Record<string, unknown>>;
}

const digest = z.string().refine(isDigest, "is not a sha256 digest");
const size = z.number().int().nonnegative().safe();
const optionalText = z.string().nullish();
const stringMap = z.record(z.string(), z.string()).nullish();

const descriptorSchema = z.object({
  mediaType: optionalText,
  digest,
  size,
  annotations: stringMap,
});

const manifestSchema = z.object({
  schemaVersion: z.literal(2),
  mediaType: optionalText,
  config: descriptorSchema,
  layers: z.array(descriptorSchema).max(maxLayers).nullish(),
});

const platformSchema = z.object({ os: optionalText, architecture: optionalText, variant: optionalText }).nullish();
const indexSchema = z.object({
  schemaVersion: z.literal(2),
  mediaType: optionalText,
  manifests: z
    .array(descriptorSchema.extend({ platform: platformSchema }))
    .max(maxIndexEntries)
    .nullish(),
});

const strings = z.array(z.string()).nullish();
const set = z.record(z.string(), z.unknown()).nullish();
const configSchema = z.object({
  architecture: optionalText,
  variant: optionalText,
  os: optionalText,
  created: optionalText,
  author: optionalText,
  comment: optionalText,
  rootfs: z.object({ type: optionalText, diff_ids: z.array(digest).max(maxLayers).nullish() }).nullish(),
  config: z
    .object({
      Env: strings,
      Entrypoint: strings,
      Cmd: strings,
      WorkingDir: optionalText,
      User: optionalText,
      ExposedPorts: set,
      Volumes: set,
      Labels: stringMap,
      StopSignal: optionalText,
    })
    .nullish(),
});

/** The bytes are not the JSON document they should be. */
export class DocumentError extends Error {
  constructor(what: string, problem: string, options?: { readonly cause?: unknown }) {
    super(`invalid ${what}: ${problem}`, options);
    this.name = "DocumentError";
  }
}

/**
 * Decodes a manifest or an index. `contentType` is what the registry said; the document's own word comes first.
 *
 * @throws {DocumentError}
 */
export function decodeManifest(bytes: Uint8Array, contentType: string | undefined): Manifest | Index {
  const json = parseJson("image manifest", bytes, maxManifestBytes);
  const stated = isRecord(json) && typeof json["mediaType"] === "string" ? json["mediaType"] : contentType;
  if (isRecord(json) && Array.isArray(json["manifests"])) return indexOf(json, stated ?? mediaTypes.ociIndex);
  const manifest = check("image manifest", manifestSchema, json);
  return {
    kind: "manifest",
    mediaType: stated ?? mediaTypes.ociManifest,
    config: descriptor(manifest.config, mediaTypes.ociConfig),
    layers: (manifest.layers ?? []).map((layer) => descriptor(layer, mediaTypes.ociLayerGzip)),
  };
}

/** @throws {DocumentError} */
export function decodeConfig(bytes: Uint8Array): ConfigDocument {
  const json = parseJson("image configuration", bytes, maxConfigBytes);
  const document = check("image configuration", configSchema, json);
  const config = document.config ?? {};
  return {
    architecture: document.architecture ?? "",
    variant: document.variant ?? "",
    os: document.os ?? "",
    created: document.created ?? "",
    author: document.author ?? "",
    comment: document.comment ?? "",
    diffIds: document.rootfs?.diff_ids ?? [],
    config: {
      env: config.Env ?? [],
      entrypoint: config.Entrypoint ?? undefined,
      command: config.Cmd ?? undefined,
      workingDirectory: config.WorkingDir ?? "",
      user: config.User ?? "",
      exposedPorts: Object.keys(config.ExposedPorts ?? {}),
      volumes: Object.keys(config.Volumes ?? {}),
      labels: config.Labels ?? {},
      stopSignal: config.StopSignal ?? "",
    },
    raw: json as Record<string, unknown>,
  };
}

/** A manifest of our own for what came without one. Deterministic: the same image always gets the same digest. */
export function encodeManifest(config: Descriptor, layers: readonly Descriptor[]): Uint8Array {
  const plain = (d: Descriptor) => ({ mediaType: d.mediaType, digest: d.digest, size: d.sizeBytes });
  const document = {
    schemaVersion: 2,
    mediaType: mediaTypes.ociManifest,
    config: plain(config),
    layers: layers.map(plain),
  };
  return new TextEncoder().encode(JSON.stringify(document));
}

/** Names of the snapshots: chain(1) = diff(1), chain(n) = sha256("chain(n-1) diff(n)") (OCI image-spec config, ChainID). */
export function chainIds(diffIds: readonly string[]): readonly string[] {
  const chain: string[] = [];
  for (const diffId of diffIds) {
    const parent = chain.at(-1);
    chain.push(parent === undefined ? diffId : digestOf(`${parent} ${diffId}`));
  }
  return chain;
}

export function digestOf(content: Uint8Array | string): string {
  return `sha256:${createHash("sha256").update(content).digest("hex")}`;
}

/** First 12 hex digits of a digest, as `docker` shows layers and images. */
export function shortDigest(digestText: string): string {
  return digestText.slice(digestText.indexOf(":") + 1).slice(0, 12);
}

function indexOf(json: unknown, mediaType: string): Index {
  const index = check("image index", indexSchema, json);
  const manifests = (index.manifests ?? []).map((entry) => ({
    ...descriptor(entry, mediaTypes.ociManifest),
    os: entry.platform?.os ?? "",
    architecture: entry.platform?.architecture ?? "",
    variant: entry.platform?.variant ?? "",
  }));
  return { kind: "index", mediaType, manifests };
}

function descriptor(wire: z.infer<typeof descriptorSchema>, defaultType: string): Descriptor {
  return {
    mediaType: wire.mediaType ?? defaultType,
    digest: wire.digest,
    sizeBytes: wire.size,
    annotations: wire.annotations ?? {},
  };
}

export function parseJson(what: string, bytes: Uint8Array, maxBytes: number): unknown {
  if (bytes.length > maxBytes) throw new DocumentError(what, `${bytes.length} bytes, at most ${maxBytes} are taken`);
  try {
    return JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes)) as unknown;
  } catch (error) {
    throw new DocumentError(what, messageOf(error), { cause: error });
  }
}

function check<T extends z.ZodType>(what: string, schema: T, json: unknown): z.infer<T> {
  const result = schema.safeParse(json);
  if (result.success) return result.data;
  const issue = result.error.issues[0];
  throw new DocumentError(what, `${issue?.path.join(".") || "document"}: ${issue?.message ?? "malformed"}`);
}

function isRecord(json: unknown): json is Record<string, unknown> {
  return typeof json === "object" && json !== null && !Array.isArray(json);
}
