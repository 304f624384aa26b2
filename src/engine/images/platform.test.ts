import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { hostPlatform, parsePlatform, platformString, selectPlatform } from "./platform.ts";

const amd64 = hostPlatform("x64");
const arm64 = hostPlatform("arm64");

describe("parsePlatform()", () => {
  it("takes what containerd takes", () => {
    const cases: [string, string][] = [
      ["linux/amd64", "linux/amd64"],
      ["linux/x86_64", "linux/amd64"],
      ["linux/arm64/v8", "linux/arm64"],
      ["arm", "linux/arm/v7"],
      ["linux/arm/v6", "linux/arm/v6"],
      ["windows", "windows/amd64"],
    ];
    for (const [text, expected] of cases) assert.equal(platformString(parsePlatform(text, amd64)), expected);
  });

  it("refuses the unknown", () => {
    assert.throws(() => parsePlatform("foo", amd64), {
      message: '"foo": unknown operating system or architecture: invalid argument',
    });
    for (const text of ["", "a/b/c/d", "linux/", "lin ux"]) {
      assert.throws(() => parsePlatform(text, amd64), { code: "invalid" }, text);
    }
  });
});

describe("selectPlatform()", () => {
  const offer = (...names: string[]) => names.map((name) => [parsePlatform(name, amd64), name] as const);

  it("prefers the same, falls back to what runs, else nothing", () => {
    assert.equal(selectPlatform(offer("linux/386", "linux/amd64", "linux/arm64"), amd64), "linux/amd64");
    assert.equal(selectPlatform(offer("linux/386", "linux/arm64"), amd64), "linux/386");
    assert.equal(selectPlatform(offer("linux/arm/v6", "linux/arm/v7"), arm64), "linux/arm/v7");
    assert.equal(selectPlatform(offer("windows/amd64", "linux/s390x"), amd64), undefined);
  });

  it("does not take a newer variant than the machine's", () => {
    const wanted = parsePlatform("linux/arm/v6", amd64);
    assert.equal(selectPlatform(offer("linux/arm/v7", "linux/arm/v5"), wanted), "linux/arm/v5");
  });
});
