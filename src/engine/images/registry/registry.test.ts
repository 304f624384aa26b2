import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { parseReference } from "../reference.ts";
import { parseChallenges } from "./challenge.ts";
import { endpointsFor } from "./endpoint.ts";
import { decodeRegistryError, pullError } from "./errors.ts";

describe("parseChallenges()", () => {
  it("reads what registries send", () => {
    assert.deepEqual(
      parseChallenges('Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="a:b:pull,push"'),
      [
        {
          scheme: "bearer",
          parameters: {
            realm: "https://auth.docker.io/token",
            service: "registry.docker.io",
            scope: "a:b:pull,push",
          },
        },
      ],
    );
    assert.deepEqual(parseChallenges('Basic realm="a \\"b\\"", Bearer realm = x'), [
      { scheme: "basic", parameters: { realm: 'a "b"' } },
      { scheme: "bearer", parameters: { realm: "x" } },
    ]);
    assert.deepEqual(parseChallenges("Negotiate, Basic"), [
      { scheme: "negotiate", parameters: {} },
      { scheme: "basic", parameters: {} },
    ]);
  });

  it("is total", () => {
    const header = fc.oneof(fc.string(), fc.stringMatching(/^[a-z =",\\]*$/));
    fc.assert(fc.property(header, (text) => assert.ok(Array.isArray(parseChallenges(text)))));
  });
});

describe("endpointsFor()", () => {
  const urls = (domain: string, insecure: string[] = []) =>
    endpointsFor(domain, insecure).map(({ baseUrl }) => baseUrl);

  it("speaks in the clear to loopback and to what the operator named, to nobody else", () => {
    assert.deepEqual(urls("docker.io"), ["https://registry-1.docker.io"]);
    assert.deepEqual(urls("ghcr.io"), ["https://ghcr.io"]);
    for (const domain of ["localhost:5000", "127.0.0.1:5000", "127.9.9.9", "[::1]:5000"]) {
      assert.deepEqual(urls(domain), [`https://${domain}`, `http://${domain}`], domain);
    }
    assert.equal(urls("127.evil.com").length, 1);
    assert.equal(urls("10.1.2.3:5000", ["10.0.0.0/8"]).length, 2);
    assert.equal(urls("11.1.2.3:5000", ["10.0.0.0/8"]).length, 1);
    assert.equal(urls("reg.lan:5000", ["reg.lan:5000"]).length, 2);
    assert.equal(urls("reg.lan:5001", ["reg.lan:5000"]).length, 1);
  });
});

describe("pullError()", () => {
  const reference = parseReference("127.0.0.1:5000/x:y");
  const messageFor = (status: number, body: string) =>
    (pullError(decodeRegistryError(status, body), reference) as Error).message;

  it("says what dockerd says", () => {
    const coded = (code: string, message: string) => JSON.stringify({ errors: [{ code, message, detail: {} }] });
    assert.equal(
      messageFor(404, coded("MANIFEST_UNKNOWN", "manifest unknown")),
      "manifest for 127.0.0.1:5000/x:y not found: manifest unknown: manifest unknown",
    );
    assert.equal(
      messageFor(403, coded("DENIED", "requested access to the resource is denied")),
      "pull access denied for 127.0.0.1:5000/x, repository does not exist or may require 'docker login': denied: requested access to the resource is denied",
    );
    assert.equal(messageFor(502, "<html>"), "received unexpected HTTP status: 502 Bad Gateway");
  });
});
