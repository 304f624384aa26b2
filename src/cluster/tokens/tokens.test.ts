import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { describe, it } from "node:test";
import fc from "fast-check";
import { hasCode } from "../../base/errors.ts";
import { seededRandom } from "../../base/random.ts";
import { Secret } from "../../base/secret.ts";
import { isRoot, isSameToken, newJoinToken, rootDigestOf } from "./tokens.ts";

const pem = new TextEncoder().encode("-----BEGIN CERTIFICATE-----\nabc\n-----END CERTIFICATE-----\n");

describe("join tokens", () => {
  it("carry the digest of the root's exact bytes", () => {
    const token = newJoinToken(pem, seededRandom(1));
    assert.match(token.reveal(), /^SWMTKN-1-[0-9a-z]{50}-[0-9a-z]{25}$/);
    assert.equal(rootDigestOf(token), createHash("sha256").update(pem).digest("hex"));
    assert.ok(isRoot(pem, rootDigestOf(token)));
    assert.ok(!isRoot(new TextEncoder().encode("other\n"), rootDigestOf(token)));
  });

  it("pad small digests and secrets", () => {
    const small = { bytes: (n: number) => new Uint8Array(n), below: () => 0 };
    assert.match(newJoinToken(pem, small).reveal(), /-0{25}$/);
    assert.equal(rootDigestOf(new Secret(`SWMTKN-1-${"0".repeat(49)}z-${"0".repeat(25)}`)), "23".padStart(64, "0"));
  });

  it("of version 2 are read", () => {
    const text = newJoinToken(pem, seededRandom(1)).reveal().replace("SWMTKN-1", "SWMTKN-2-1");
    assert.ok(isRoot(pem, rootDigestOf(new Secret(text))));
  });

  it("round-trip for any root, and are equal only to themselves", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), fc.nat(), (root, seed) => {
        const token = newJoinToken(root, seededRandom(seed));
        assert.ok(isRoot(root, rootDigestOf(token)));
        assert.ok(isSameToken(token.reveal(), token.reveal()));
        assert.ok(!isSameToken(token.reveal(), newJoinToken(root, seededRandom(seed + 1)).reveal()));
      }),
      { numRuns: 100 },
    );
  });

  it("with any byte changed are refused in Docker's words or name another root, and never throw anything else", () => {
    const good = newJoinToken(pem, seededRandom(2)).reveal();
    fc.assert(
      fc.property(fc.nat(good.length), fc.string({ unit: "binary", maxLength: 3 }), fc.nat(3), (at, insert, cut) => {
        const text = good.slice(0, at) + insert + good.slice(at + cut);
        try {
          assert.match(rootDigestOf(new Secret(text)), /^[0-9a-f]{64}$/);
        } catch (error) {
          assert.ok(hasCode(error, "invalid"), String(error));
          assert.equal(error.message, "invalid join token");
        }
      }),
      { numRuns: 500 },
    );
    for (const bad of [
      "",
      "nonsense",
      "SWMTKN-1",
      `SWMTKN-1-${"z".repeat(50)}-${"0".repeat(25)}`,
      `${good}-x`,
      ` ${good}`,
    ]) {
      assert.throws(() => rootDigestOf(new Secret(bad)), /^EngineError: invalid join token$/);
    }
  });
});
