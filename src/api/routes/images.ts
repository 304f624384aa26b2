import type { ImageSummary } from "../../engine/mod.ts";
import { type Call, empty, json, type Reply, type Route } from "../call.ts";
import { Filters } from "../filters.ts";
import type { Rooms } from "../rooms.ts";
import { imageInspect, imageSummary } from "../shapes/image.ts";
import { unixSeconds } from "../shapes/time.ts";
import { pruneBoundary } from "./containers-lifecycle.ts";

export const imageRoutes: readonly Route[] = [
  { method: "GET", path: "/images/json", handle: list },
  { method: "POST", path: "/images/prune", handle: prune },
  { method: "GET", path: "/images/{name...}/json", handle: inspect },
  { method: "GET", path: "/images/{name...}/history", handle: history },
  { method: "POST", path: "/images/{name...}/tag", handle: tag },
  { method: "DELETE", path: "/images/{name...}", handle: remove },
];

async function list(call: Call, rooms: Rooms): Promise<Reply> {
  const filters = Filters.parse(call.query.text("filters"), [
    "before",
    "dangling",
    "label",
    "label!",
    "reference",
    "since",
    "until",
  ]);
  const images = await rooms.images.list();
  const [before, since] = await Promise.all([
    boundary(filters.get("before"), rooms),
    boundary(filters.get("since"), rooms),
  ]);
  const dangling = filters.truth("dangling");
  const wanted = images.filter((image) => {
    const created = Date.parse(image.createdAt);
    return (
      filters.labels(image.labels) &&
      (dangling === undefined || dangling === (image.repoTags.length === 0)) &&
      filters.any("reference", (pattern) => image.repoTags.some((name) => referenceMatches(pattern, name))) &&
      (before === undefined || created < before) &&
      (since === undefined || created > since)
    );
  });
  const newestFirst = [...wanted].sort((a, b) => Date.parse(b.createdAt) - Date.parse(a.createdAt));
  return json(newestFirst.map((image) => imageSummary(image, -1)));
}

async function inspect(call: Call, rooms: Rooms): Promise<Reply> {
  return json(imageInspect(await rooms.images.find(call.params["name"] ?? ""), rooms.host.snapshotter));
}

/** Layers are not kept apart by instruction: one line for the image as a whole, one for each history entry it carries. */
async function history(call: Call, rooms: Rooms): Promise<Reply> {
  const image = await rooms.images.find(call.params["name"] ?? "");
  const entries = image.rawConfig["history"];
  const steps = Array.isArray(entries) ? (entries as readonly Readonly<Record<string, unknown>>[]) : [];
  const textOf = (value: unknown) => (typeof value === "string" ? value : "");
  const newestFirst = (
    steps.length === 0 ? [{ comment: image.comment, created: image.createdAt }] : [...steps]
  ).reverse();
  return json(
    newestFirst.map((step: Readonly<Record<string, unknown>>, i) => ({
      Comment: textOf(step["comment"]),
      Created: unixSeconds(textOf(step["created"]) || image.createdAt),
      CreatedBy: textOf(step["created_by"]),
      Id: i === 0 ? image.id : "<missing>",
      Size: i === 0 ? image.sizeBytes : 0,
      Tags: i === 0 ? image.repoTags : null,
    })),
  );
}

async function tag(call: Call, rooms: Rooms): Promise<Reply> {
  const [repository, name] = [call.query.text("repo"), call.query.text("tag")];
  await rooms.images.tag(call.params["name"] ?? "", name === "" ? repository : `${repository}:${name}`);
  return empty(201);
}

async function remove(call: Call, rooms: Rooms): Promise<Reply> {
  const removed = await rooms.images.remove(call.params["name"] ?? "", {
    force: call.query.flag("force"),
    noPrune: call.query.flag("noprune"),
    usedBy: (imageId) => rooms.containers.list().filter((record) => record.imageId === imageId),
  });
  return json(removed.map((one) => ("untagged" in one ? { Untagged: one.untagged } : { Deleted: one.deleted })));
}

async function prune(call: Call, rooms: Rooms): Promise<Reply> {
  const filters = Filters.parse(call.query.text("filters"), ["dangling", "label", "label!", "until"]);
  const onlyDangling = filters.truth("dangling") ?? true;
  const until = pruneBoundary(filters, rooms.clock.wall()).getTime();
  const used = new Set(rooms.containers.list().map((record) => record.imageId));
  const unused = (await rooms.images.list()).filter(
    (image) =>
      !used.has(image.id) &&
      (!onlyDangling || image.repoTags.length === 0) &&
      filters.labels(image.labels) &&
      Date.parse(image.createdAt) <= until,
  );
  const deleted: Readonly<Record<string, string>>[] = [];
  let reclaimed = 0;
  for (const image of unused) {
    deleted.push(...(await removeWhole(image, rooms)));
    reclaimed += image.sizeBytes;
  }
  return json({ ImagesDeleted: deleted.length === 0 ? null : deleted, SpaceReclaimed: reclaimed });
}

async function removeWhole(image: ImageSummary, rooms: Rooms): Promise<readonly Readonly<Record<string, string>>[]> {
  const usedBy = (imageId: string) => rooms.containers.list().filter((record) => record.imageId === imageId);
  const removed = await rooms.images.remove(image.id, { force: true, noPrune: false, usedBy });
  return removed.map((one) => ("untagged" in one ? { Untagged: one.untagged } : { Deleted: one.deleted }));
}

async function boundary(terms: readonly string[], rooms: Rooms): Promise<number | undefined> {
  const [term] = terms;
  return term === undefined ? undefined : Date.parse((await rooms.images.find(term)).createdAt);
}

/** `name`, `name:tag`, with `*` and `?` that don't cross a slash. */
export function referenceMatches(pattern: string, name: string): boolean {
  const source = pattern
    .replace(/[.+^${}()|\\]/g, "\\$&")
    .replaceAll("*", "[^/]*")
    .replaceAll("?", "[^/]");
  let regex: RegExp;
  try {
    regex = new RegExp(`^${source}$`);
  } catch {
    return false;
  }
  const colon = name.lastIndexOf(":");
  const repository = colon > name.lastIndexOf("/") ? name.slice(0, colon) : name;
  return regex.test(name) || regex.test(repository);
}
