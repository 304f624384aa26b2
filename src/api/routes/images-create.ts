import { AsyncQueue } from "../../base/async.ts";
import { EngineError, messageOf } from "../../base/errors.ts";
import type { Progress, RegistryAuth } from "../../engine/mod.ts";
import type { Call, Reply, Route } from "../call.ts";
import { invalid } from "../errors.ts";
import type { Rooms } from "../rooms.ts";

export const imageCreateRoutes: readonly Route[] = [
  { method: "POST", path: "/images/create", handle: create },
  { method: "POST", path: "/images/load", handle: load },
];

/** `docker pull` and `docker import`. A pull ends when the client goes, as Docker's does. */
function create(call: Call, rooms: Rooms): Promise<Reply> {
  const { query } = call;
  const name = query.text("fromImage");
  if (name !== "") {
    const tag = query.text("tag");
    const reference = tag === "" ? name : tag.includes(":") ? `${name}@${tag}` : `${name}:${tag}`;
    const auth = parseRegistryAuth(call.headers["x-registry-auth"]);
    const platform = query.text("platform");
    return withProgress((progress) =>
      rooms.images.pull(
        reference,
        { progress, ...(auth === undefined ? {} : { auth }), ...(platform === "" ? {} : { platform }) },
        call.gone,
      ),
    );
  }
  const source = query.text("fromSrc");
  if (source === "") throw invalid("either fromImage or fromSrc must be given");
  if (source !== "-")
    throw new EngineError("unsupported", "importing from a URL is not supported by this version; pipe the archive in");
  const [repository, tag] = [query.text("repo"), query.text("tag")];
  return withProgress(async (progress) => {
    const id = await rooms.images.import(
      call.body,
      {
        ...(repository === "" ? {} : { reference: tag === "" ? repository : `${repository}:${tag}` }),
        message: query.text("message"),
        changes: query.all("changes"),
      },
      call.gone,
    );
    progress({ status: id });
  });
}

function load(call: Call, rooms: Rooms): Promise<Reply> {
  const isQuiet = call.query.flag("quiet");
  return withProgress((progress) =>
    rooms.images.load(
      call.body,
      (step) => (isQuiet && step.stream === undefined ? undefined : progress(step)),
      call.gone,
    ),
  );
}

/**
 * Answers with a line of JSON a step. As long as nothing was said a failure is an ordinary error answer; afterwards it is
 * the last line, and the CLI turns that into its exit status.
 */
async function withProgress(work: (progress: (step: Progress) => void) => Promise<void>): Promise<Reply> {
  const steps = new AsyncQueue<Progress | Error>();
  const { promise: first, resolve: begun } = Promise.withResolvers<void>();
  const done = work((step) => {
    steps.push(step);
    begun();
  });
  await Promise.race([first, done]);
  const finished = done
    .catch((error: unknown) => steps.push(error instanceof Error ? error : new Error(messageOf(error))))
    .finally(() => steps.close());
  return {
    kind: "stream",
    contentType: "application/json",
    run: async (out) => {
      for await (const step of steps)
        out.write(`${JSON.stringify(step instanceof Error ? failureLine(step) : line(step))}\r\n`);
      await finished;
    },
  };
}

function line(step: Progress): Readonly<Record<string, unknown>> {
  if (step.stream !== undefined) return { stream: step.stream };
  const detail =
    step.currentBytes === undefined && step.totalBytes === undefined
      ? {}
      : { current: step.currentBytes ?? 0, total: step.totalBytes ?? 0 };
  return {
    ...(step.status === undefined ? {} : { status: step.status }),
    ...(step.id === undefined ? {} : { progressDetail: detail, id: step.id }),
    ...(step.aux === undefined ? {} : { aux: step.aux }),
  };
}

function failureLine(error: Error): Readonly<Record<string, unknown>> {
  return { errorDetail: { message: error.message }, error: error.message };
}

/** `X-Registry-Auth`: base64url JSON. compat: what does not decode counts as none. */
export function parseRegistryAuth(header: string | readonly string[] | undefined): RegistryAuth | undefined {
  if (typeof header !== "string" || header === "") return undefined;
  let value: unknown;
  try {
    value = JSON.parse(Buffer.from(header, "base64url").toString("utf8"));
  } catch {
    return undefined;
  }
  if (typeof value !== "object" || value === null) return undefined;
  const field = (name: string) => {
    const found = (value as Readonly<Record<string, unknown>>)[name];
    return typeof found === "string" ? found : "";
  };
  const [username, password, identityToken] = [field("username"), field("password"), field("identitytoken")];
  if (username === "" && password === "" && identityToken === "") return undefined;
  return { username, password, identityToken, serverAddress: field("serveraddress") };
}
