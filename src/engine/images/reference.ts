import { EngineError } from "../../base/errors.ts";

/**
 * A name of an image, normalised: `domain/path[:tag][@digest]`. The grammar and the defaults are those of
 * github.com/distribution/reference, whose texts the docker CLI shows.
 */
export interface Reference {
  /** Host of the registry, port included: `docker.io`, `localhost:5000`. */
  readonly domain: string;
  /** Repository on that registry: `library/alpine`. */
  readonly path: string;
  readonly tag: string | undefined;
  /** `sha256:<64 hex digits>`. */
  readonly digest: string | undefined;
}

const defaultDomain = "docker.io";
const legacyDefaultDomain = "index.docker.io";
const officialPrefix = "library/";
export const defaultTag = "latest";
const maxNameLength = 255;

const domainLabel = "(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])";
const domainPattern = new RegExp(`^(?:${domainLabel}(?:\\.${domainLabel})*|\\[(?:[a-fA-F0-9:]+)\\])(?::[0-9]+)?$`);
const pathPattern = /^[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*(?:\/[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*)*$/;
const tagPattern = /^[\w][\w.-]{0,127}$/;
const digestPattern = /^sha256:[a-f0-9]{64}$/;
const anyDigestPattern = /^[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}$/;
const hexIdPattern = /^[a-f0-9]{64}$/;

/**
 * Parses what a person typed; the tag stays undefined when none was given.
 *
 * @throws {EngineError} `invalid`, in the reference engine's words.
 */
export function parseReference(text: string): Reference {
  // compat: a bare image id is not a name
  if (hexIdPattern.test(text)) {
    throw invalid(`invalid repository name (${text}), cannot specify 64-byte hexadecimal strings`);
  }
  const { domain, remainder } = splitDomain(text);
  const { path, tag, digest } = splitRemainder(remainder);
  if (path.toLowerCase() !== path) {
    throw invalid(`invalid reference format: repository name (${path}) must be lowercase`);
  }
  if (!domainPattern.test(domain) || !pathPattern.test(path)) throw invalid("invalid reference format");
  if (tag !== undefined && !tagPattern.test(tag)) throw invalid("invalid reference format");
  if (digest !== undefined && !digestPattern.test(digest)) throw badDigest(digest);
  if (domain.length + 1 + path.length > maxNameLength) {
    throw invalid("repository name must not be more than 255 characters");
  }
  return { domain, path, tag, digest };
}

/** `latest` where neither a tag nor a digest is given. */
export function withDefaultTag(reference: Reference): Reference {
  if (reference.tag !== undefined || reference.digest !== undefined) return reference;
  return { ...reference, tag: defaultTag };
}

/** `docker.io/library/alpine`. */
export function repositoryName(reference: Reference): string {
  return `${reference.domain}/${reference.path}`;
}

/** Whole and canonical: the key under which an image is recorded. A digest wins over a tag, as it does in the engine. */
export function canonicalString(reference: Reference): string {
  return repositoryName(reference) + suffix(reference);
}

/** As people write it: without `docker.io/` and `library/`. */
export function familiarString(reference: Reference): string {
  return familiarName(reference) + suffix(reference);
}

export function familiarName(reference: Reference): string {
  if (reference.domain !== defaultDomain) return repositoryName(reference);
  const { path } = reference;
  const rest = path.slice(officialPrefix.length);
  // `library/a/b` keeps its prefix: without it, `a` would be taken for a user's name.
  return path.startsWith(officialPrefix) && !rest.includes("/") ? rest : path;
}

/** The same, from a canonical string that was made by `canonicalString`. */
export function familiarOf(canonical: string): string {
  return familiarString(parseReference(canonical));
}

/** `sha256:<64 hex digits>`, the only kind of digest that images are identified by here. */
export function isDigest(text: string): boolean {
  return digestPattern.test(text);
}

function suffix(reference: Reference): string {
  if (reference.digest !== undefined) return `@${reference.digest}`;
  return reference.tag === undefined ? "" : `:${reference.tag}`;
}

// A first component is a host when it looks like one: a dot, a port, `localhost`, or an upper-case letter (never in a path).
function splitDomain(text: string): { domain: string; remainder: string } {
  const slash = text.indexOf("/");
  const first = text.slice(0, slash);
  const isHost = slash !== -1 && (/[.:]/.test(first) || first === "localhost" || first.toLowerCase() !== first);
  let domain = isHost ? first : defaultDomain;
  let remainder = isHost ? text.slice(slash + 1) : text;
  if (domain === legacyDefaultDomain) domain = defaultDomain;
  if (domain === defaultDomain && !remainder.includes("/")) remainder = officialPrefix + remainder;
  return { domain, remainder };
}

function splitRemainder(remainder: string): { path: string; tag: string | undefined; digest: string | undefined } {
  const at = remainder.indexOf("@");
  const digest = at === -1 ? undefined : remainder.slice(at + 1);
  const named = at === -1 ? remainder : remainder.slice(0, at);
  const colon = named.lastIndexOf(":");
  // A colon before a slash cannot begin a tag, and no port is left once the domain is off.
  if (colon <= named.lastIndexOf("/")) return { path: named, tag: undefined, digest };
  return { path: named.slice(0, colon), tag: named.slice(colon + 1), digest };
}

function badDigest(digest: string): EngineError {
  if (!anyDigestPattern.test(digest)) return invalid("invalid reference format");
  if (digest.startsWith("sha256:")) return invalid("invalid checksum digest length");
  return invalid("unsupported digest algorithm");
}

function invalid(message: string): EngineError {
  return new EngineError("invalid", message);
}
