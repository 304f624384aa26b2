import { EngineError } from "../base/errors.ts";

/** Docker API version. Only the minor number counts: the major one has always been 1. */
export type ApiVersion = number;

export const currentVersion: ApiVersion = 50;
export const minimumVersion: ApiVersion = 24;

export function formatVersion(version: ApiVersion): string {
  return `1.${version}`;
}

/**
 * Splits `/v1.43/info` into version and rest; a path without a version is served at the current one.
 * @throws {EngineError} `invalid`, in Docker's words, for a version that is not served.
 */
export function splitVersion(path: string): { readonly version: ApiVersion; readonly rest: string } {
  const match = /^\/v(\d{1,4})\.(\d{1,4})(\/.*)$/.exec(path);
  if (match === null) return { version: currentVersion, rest: path };
  const [major, minor] = [Number(match[1]), Number(match[2])];
  const asked = `${major}.${minor}`;
  if (major > 1 || (major === 1 && minor > currentVersion)) {
    // compat: read by clients that negotiate by error text.
    throw new EngineError(
      "invalid",
      `client version ${asked} is too new. Maximum supported API version is ${formatVersion(currentVersion)}`,
    );
  }
  if (major < 1 || minor < minimumVersion) {
    throw new EngineError(
      "invalid",
      `client version ${asked} is too old. Minimum supported API version is ${formatVersion(minimumVersion)}, please upgrade your client to a newer version`,
    );
  }
  return { version: minor, rest: match[3] as string };
}
