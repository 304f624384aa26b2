import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import {
  canonicalString,
  familiarName,
  familiarString,
  parseReference,
  repositoryName,
  withDefaultTag,
} from "./reference.ts";

const zeros = `sha256:${"0".repeat(64)}`;

describe("parseReference()", () => {
  it("fills in what people leave out", () => {
    const cases: [string, string, string][] = [
      ["alpine", "docker.io/library/alpine:latest", "alpine:latest"],
      ["alpine:3.20", "docker.io/library/alpine:3.20", "alpine:3.20"],
      ["user/app", "docker.io/user/app:latest", "user/app:latest"],
      ["docker.io/alpine", "docker.io/library/alpine:latest", "alpine:latest"],
      ["index.docker.io/library/alpine", "docker.io/library/alpine:latest", "alpine:latest"],
      ["docker.io/library/a/b", "docker.io/library/a/b:latest", "library/a/b:latest"],
      ["localhost/x", "localhost/x:latest", "localhost/x:latest"],
      ["localhost:5000/x:1", "localhost:5000/x:1", "localhost:5000/x:1"],
      ["127.0.0.1:5000/a/b", "127.0.0.1:5000/a/b:latest", "127.0.0.1:5000/a/b:latest"],
      ["[::1]:5000/a", "[::1]:5000/a:latest", "[::1]:5000/a:latest"],
      ["Registry/x", "Registry/x:latest", "Registry/x:latest"],
      [`x@${zeros}`, `docker.io/library/x@${zeros}`, `x@${zeros}`],
      [`x:1@${zeros}`, `docker.io/library/x@${zeros}`, `x@${zeros}`],
      ["x:5000", "docker.io/library/x:5000", "x:5000"],
      ["a__b/c-d.e", "docker.io/a__b/c-d.e:latest", "a__b/c-d.e:latest"],
    ];
    for (const [text, canonical, familiar] of cases) {
      const reference = withDefaultTag(parseReference(text));
      assert.equal(canonicalString(reference), canonical, text);
      assert.equal(familiarString(reference), familiar, text);
    }
  });

  it("refuses in the reference engine's words", () => {
    const cases: [string, string][] = [
      ["", "invalid reference format"],
      ["a b", "invalid reference format"],
      ["a:", "invalid reference format"],
      ["a:b:c", "invalid reference format"],
      ["-a", "invalid reference format"],
      ["a//b", "invalid reference format"],
      ["a/", "invalid reference format"],
      ["/a", "invalid reference format"],
      ["a..b", "invalid reference format"],
      ["a___b", "invalid reference format"],
      ["x@y", "invalid reference format"],
      ["x@sha256:12", "invalid reference format"],
      [`x@sha256:${"0".repeat(40)}`, "invalid checksum digest length"],
      [`x@md5:${"0".repeat(32)}`, "unsupported digest algorithm"],
      [`a:${"x".repeat(129)}`, "invalid reference format"],
      ["a".repeat(250), "repository name must not be more than 255 characters"],
      ["0".repeat(64), `invalid repository name (${"0".repeat(64)}), cannot specify 64-byte hexadecimal strings`],
      ["Upper", "invalid reference format: repository name (library/Upper) must be lowercase"],
      ["host.io/Up/x", "invalid reference format: repository name (Up/x) must be lowercase"],
    ];
    for (const [text, message] of cases) {
      assert.throws(() => parseReference(text), { code: "invalid", message }, JSON.stringify(text));
    }
  });

  const component = fc.stringMatching(/^[a-z0-9]{1,8}([._-][a-z0-9]{1,8}){0,2}$/);
  const tag = fc.stringMatching(/^[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}$/);
  const domain = fc.oneof(
    fc.constantFrom("docker.io", "localhost", "localhost:5000", "10.0.0.1:80", "ghcr.io"),
    fc.stringMatching(/^[a-z]{1,8}\.[a-z]{2,3}(:[1-9][0-9]{0,4})?$/),
  );
  const names = fc.record({ domain, path: fc.array(component, { minLength: 1, maxLength: 4 }), tag });

  it("gives back what it wrote, familiar or canonical", () => {
    fc.assert(
      fc.property(names, (name) => {
        const reference = parseReference(`${name.domain}/${name.path.join("/")}:${name.tag}`);
        assert.deepEqual(parseReference(canonicalString(reference)), reference);
        // The engine's own ambiguity: a user of Docker Hub whose name looks like a host cannot be written short.
        const looksLikeHost = name.path.length > 1 && (name.path[0]?.includes(".") || name.path[0] === "localhost");
        if (name.domain !== "docker.io" || !looksLikeHost) {
          assert.deepEqual(parseReference(familiarString(reference)), reference);
        }
        assert.ok(repositoryName(reference).endsWith(familiarName(reference)));
      }),
    );
  });

  it("refuses or accepts any text, never throws anything else", () => {
    fc.assert(
      fc.property(fc.oneof(fc.string(), fc.stringMatching(/^[a-zA-Z0-9.:/@_-]*$/)), (text) => {
        try {
          const reference = parseReference(text);
          assert.deepEqual(parseReference(canonicalString(reference)).path, reference.path);
        } catch (error) {
          assert.ok(error instanceof Error && error.name === "EngineError", String(error));
        }
      }),
      { numRuns: 2000 },
    );
  });
});
