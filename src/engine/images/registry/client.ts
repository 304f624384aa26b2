import type { Clock } from "../../../base/clock.ts";
import { messageOf } from "../../../base/errors.ts";
import type { RegistryAuth } from "../../engine.ts";
import { digestOf, maxManifestBytes, mediaTypes } from "../codec.ts";
import type { Reference } from "../reference.ts";
import { Authorizer } from "./authorizer.ts";
import { type Endpoint, endpointsFor, readRegistryTls } from "./endpoint.ts";
import { decodeRegistryError, RegistryError, TransportError } from "./errors.ts";
import { type HttpAnswer, HttpTransport, readAll } from "./transport.ts";

export interface RegistryOptions {
  /** Hosts (`host[:port]`) and CIDRs besides loopback that may be spoken to without verified TLS. */
  readonly insecureRegistries: readonly string[];
  /** `/etc/docker/certs.d` on a host. */
  readonly certsDir: string;
  readonly proxyEnv: NodeJS.ProcessEnv;
  readonly userAgent: string;
  readonly clock: Clock;
}

export interface FetchedManifest {
  readonly bytes: Uint8Array;
  readonly contentType: string | undefined;
  readonly digest: string;
}

/** One repository of one registry, with the credentials of one request (distribution spec 1.1). */
export interface Repository extends Disposable {
  /** Digest of a tag's manifest without fetching it; undefined when the registry does not say. */
  headManifest(tagOrDigest: string, signal: AbortSignal): Promise<string | undefined>;
  fetchManifest(tagOrDigest: string, signal: AbortSignal): Promise<FetchedManifest>;
  /** Bytes from `offset`; `start` is where they really start: 0 when the registry ignores ranges. */
  fetchBlob(digest: string, offset: number, signal: AbortSignal): Promise<{ start: number; body: HttpAnswer["body"] }>;
}

const acceptedManifests = [
  mediaTypes.ociIndex,
  mediaTypes.ociManifest,
  mediaTypes.dockerList,
  mediaTypes.dockerManifest,
  mediaTypes.dockerSchema1Signed,
  "application/json",
].join(", ");
const maxErrorBytes = 64 << 10;

/**
 * Finds the endpoint that answers and learns what it asks for.
 *
 * @throws {TransportError} when none answers: the last one's failure.
 */
export async function openRepository(
  reference: Reference,
  auth: RegistryAuth | undefined,
  options: RegistryOptions,
  signal: AbortSignal,
): Promise<Repository> {
  const tls = readRegistryTls(options.certsDir, reference.domain);
  let failure: unknown;
  for (const endpoint of endpointsFor(reference.domain, options.insecureRegistries)) {
    const transport = new HttpTransport({ ...options, tls, verifyTls: endpoint.verifyTls });
    try {
      const authorizer = new Authorizer({ transport, auth, scope: `repository:${reference.path}:pull` });
      await ping(transport, endpoint, authorizer, signal);
      return new OpenRepository({ transport, authorizer, url: `${endpoint.baseUrl}/v2/${reference.path}` });
    } catch (error) {
      transport[Symbol.dispose]();
      if (!(error instanceof TransportError)) throw error;
      failure = error;
    }
  }
  throw failure;
}

async function ping(
  transport: HttpTransport,
  endpoint: Endpoint,
  authorizer: Authorizer,
  signal: AbortSignal,
): Promise<void> {
  const answer = await transport.ask({ method: "GET", url: `${endpoint.baseUrl}/v2/` }, signal);
  const body = await readAll(answer, maxErrorBytes);
  if (answer.status === 401) {
    authorizer.learn(answer.headers["www-authenticate"]);
    return;
  }
  if (answer.status !== 200 && answer.status !== 404) throw decodeRegistryError(answer.status, body.toString("utf8"));
}

class OpenRepository implements Repository {
  readonly #transport: HttpTransport;
  readonly #authorizer: Authorizer;
  readonly #url: string;

  constructor(options: { transport: HttpTransport; authorizer: Authorizer; url: string }) {
    this.#transport = options.transport;
    this.#authorizer = options.authorizer;
    this.#url = options.url;
  }

  [Symbol.dispose](): void {
    this.#transport[Symbol.dispose]();
  }

  async headManifest(tagOrDigest: string, signal: AbortSignal): Promise<string | undefined> {
    const answer = await this.#ask("HEAD", `/manifests/${tagOrDigest}`, { accept: acceptedManifests }, signal);
    answer.body.resume();
    const digest = answer.headers["docker-content-digest"];
    return answer.status === 200 && typeof digest === "string" ? digest : undefined;
  }

  async fetchManifest(tagOrDigest: string, signal: AbortSignal): Promise<FetchedManifest> {
    const answer = await this.#ask("GET", `/manifests/${tagOrDigest}`, { accept: acceptedManifests }, signal);
    if (answer.status !== 200) throw await refusal(answer);
    const bytes = await readAll(answer, maxManifestBytes);
    const digest = digestOf(bytes);
    if (tagOrDigest.startsWith("sha256:") && digest !== tagOrDigest) {
      // compat: dockerd's words
      throw new RegistryError(200, [], `manifest verification failed for digest ${tagOrDigest}`);
    }
    const contentType = answer.headers["content-type"];
    return { bytes, digest, contentType: typeof contentType === "string" ? contentType.split(";")[0] : undefined };
  }

  async fetchBlob(
    digest: string,
    offset: number,
    signal: AbortSignal,
  ): Promise<{ start: number; body: HttpAnswer["body"] }> {
    const range = offset === 0 ? {} : { range: `bytes=${offset}-` };
    const answer = await this.#ask("GET", `/blobs/${digest}`, { accept: "*/*", ...range }, signal);
    if (answer.status === 200) return { start: 0, body: answer.body };
    const contentRange = answer.headers["content-range"];
    const start = typeof contentRange === "string" ? /^bytes (\d+)-/.exec(contentRange)?.[1] : undefined;
    if (answer.status === 206 && Number(start) === offset) return { start: offset, body: answer.body };
    throw await refusal(answer);
  }

  async #ask(
    method: "GET" | "HEAD",
    path: string,
    headers: Readonly<Record<string, string>>,
    signal: AbortSignal,
  ): Promise<HttpAnswer> {
    const url = this.#url + path;
    for (let attempt = 0; ; attempt++) {
      const authorization = await this.#authorizer.header({ method, url }, signal);
      const answer = await this.#transport.ask(
        { method, url, headers: authorization === undefined ? headers : { ...headers, authorization } },
        signal,
      );
      // A token may have run out in a long pull, or the registry asks only here, not on ping: once more with a new one.
      if (answer.status !== 401 || attempt > 0) return answer;
      const challenge = answer.headers["www-authenticate"];
      if (challenge === undefined || !this.#authorizer.learn(challenge)) return answer;
      answer.body.resume();
    }
  }
}

async function refusal(answer: HttpAnswer): Promise<RegistryError> {
  try {
    return decodeRegistryError(answer.status, (await readAll(answer, maxErrorBytes)).toString("utf8"));
  } catch (error) {
    return new RegistryError(answer.status, [], messageOf(error));
  }
}
