import { EngineError } from "../../base/errors.ts";
import { shortId } from "../../base/ids.ts";
import type { ContainerRecord } from "../model.ts";
import { shortDigest } from "./codec.ts";
import { familiarString, parseReference, type Reference, repositoryName, withDefaultTag } from "./reference.ts";

export interface RemovalRequest {
  readonly imageId: string;
  /** Canonical names of all tags and digests of the image. */
  readonly references: readonly string[];
  /** What the user typed. */
  readonly term: string;
  readonly force: boolean;
  readonly containers: readonly ContainerRecord[];
}

export interface RemovalPlan {
  /** Canonical names to forget, in the order in which they are reported. */
  readonly untag: readonly string[];
  /** The image goes as well. */
  readonly deleteImage: boolean;
}

/**
 * What `docker rmi` does: take off a name, and the image with its last one. Pure.
 *
 * compat: dockerd's order of checks and its texts; scripts depend on both.
 *
 * @throws {EngineError} `conflict` when containers or other names stand in the way.
 */
export function planRemoval(request: RemovalRequest): RemovalPlan {
  const all = request.references.map(parseReference);
  if (isIdPrefix(request.imageId, request.term)) return byId(request, all);

  const named = withDefaultTag(parseReference(request.term));
  const user = request.containers[0];
  if (!request.force && user !== undefined && isOneName(all)) {
    throw conflict(
      `conflict: unable to remove repository reference ${JSON.stringify(familiarString(parseReference(request.term)))} ` +
        `(must force) - container ${shortId(user.id)} is using its referenced image ${shortDigest(request.imageId)}`,
    );
  }
  const target = all.find((reference) => isSame(reference, named)) ?? named;
  let left = all.filter((reference) => reference !== target);
  const untag = [target];
  const sameRepository = (reference: Reference) => repositoryName(reference) === repositoryName(target);
  // The digests of a repository go with its last tag.
  if (target.digest === undefined && !left.some((r) => r.digest === undefined && sameRepository(r))) {
    untag.push(...left.filter(sameRepository));
    left = left.filter((reference) => !sameRepository(reference));
  }
  const names = untag.map(canonical);
  if (left.length > 0) return { untag: names, deleteImage: false };
  // A name was taken off as asked: an image that is still used stays, without a name and without a complaint.
  return { untag: names, deleteImage: obstacle(request, [], request.force) === undefined };
}

function byId(request: RemovalRequest, all: readonly Reference[]): RemovalPlan {
  const remaining = isOneName(all) ? [] : all;
  const found = obstacle(request, remaining, request.force);
  if (found !== undefined) throw found;
  return { untag: all.map(canonical), deleteImage: true };
}

function obstacle(request: RemovalRequest, names: readonly Reference[], force: boolean): EngineError | undefined {
  const id = shortDigest(request.imageId);
  const running = request.containers.find(({ state }) => state.kind === "running");
  if (running !== undefined) {
    return conflict(
      `conflict: unable to delete ${id} (cannot be forced) - ` +
        `image is being used by running container ${shortId(running.id)}`,
    );
  }
  if (force) return undefined;
  if (names.length > 0) {
    return conflict(`conflict: unable to delete ${id} (must be forced) - image is referenced in multiple repositories`);
  }
  const stopped = request.containers[0];
  if (stopped === undefined) return undefined;
  return conflict(
    `conflict: unable to delete ${id} (must be forced) - image is being used by stopped container ${shortId(stopped.id)}`,
  );
}

/** One tag at most, and everything within one repository. */
function isOneName(references: readonly Reference[]): boolean {
  const tags = references.filter(({ digest }) => digest === undefined).length;
  return references.length > 0 && tags <= 1 && new Set(references.map(repositoryName)).size === 1;
}

export function isIdPrefix(imageId: string, term: string): boolean {
  return imageId.startsWith(term) || imageId.slice(imageId.indexOf(":") + 1).startsWith(term);
}

function isSame(a: Reference, b: Reference): boolean {
  return canonical(a) === canonical(b);
}

function canonical(reference: Reference): string {
  const suffix = reference.digest === undefined ? `:${reference.tag}` : `@${reference.digest}`;
  return repositoryName(reference) + suffix;
}

function conflict(message: string): EngineError {
  return new EngineError("conflict", message);
}
