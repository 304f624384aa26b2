import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { gzipSync, zstdCompressSync } from "node:zlib";
import fc from "fast-check";
import { pack } from "tar-stream";
import { checkTar, decompress, detectCompression, peek, readArchive } from "./archive.ts";

const never = new AbortController().signal;

async function* pieces(bytes: Uint8Array, size: number): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
}

async function whole(source: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of source) chunks.push(chunk);
  return Buffer.concat(chunks);
}

async function tarOf(entries: readonly { name: string; data?: string; linkname?: string }[]): Promise<Buffer> {
  const tar = pack();
  for (const { name, data, linkname } of entries) {
    if (linkname === undefined) tar.entry({ name }, data ?? "");
    else tar.entry({ name, type: "symlink", linkname });
  }
  tar.finalize();
  return await whole(tar as unknown as AsyncIterable<Buffer>);
}

describe("decompress()", () => {
  it("gives back any bytes, however they were packed and cut", async () => {
    const packers = [(data: Uint8Array) => data, gzipSync, zstdCompressSync];
    await fc.assert(
      fc.asyncProperty(fc.uint8Array({ maxLength: 2000 }), fc.integer({ min: 1, max: 700 }), async (data, size) => {
        fc.pre(detectCompression(data) === "none");
        for (const packer of packers) {
          assert.deepEqual(await whole(decompress(pieces(packer(data), size), never)), Buffer.from(data));
        }
      }),
      { numRuns: 30 },
    );
  });
});

describe("peek()", () => {
  it("shows the first bytes without taking them", async () => {
    const { head, body } = await peek(pieces(Buffer.from("abcdefghij"), 2));
    assert.equal(Buffer.from(head).toString(), "abcdef");
    assert.equal((await whole(body)).toString(), "abcdefghij");
  });
});

describe("readArchive()", () => {
  it("cleans paths and resolves links within the archive", async () => {
    const tar = await tarOf([
      { name: "./a//b", data: "1" },
      { name: "/c", data: "2" },
      { name: "d/e", linkname: "../a/b" },
    ]);
    const seen: [string, string, string][] = [];
    for await (const entry of readArchive(pieces(tar, 100), never)) {
      seen.push([entry.path, entry.target, (await whole(entry.body)).toString()]);
    }
    assert.deepEqual(seen, [
      ["a/b", "", "1"],
      ["c", "", "2"],
      ["d/e", "a/b", ""],
    ]);
  });

  it("refuses paths and links that lead out", async () => {
    for (const entry of [{ name: "../x" }, { name: "a/../../x" }, { name: "a", linkname: "../x" }]) {
      const tar = await tarOf([entry]);
      const read = async () => {
        for await (const { body } of readArchive(pieces(tar, 512), never)) await whole(body);
      };
      await assert.rejects(read, { code: "invalid", message: /leads out of it/ }, entry.name);
    }
  });

  it("throws nothing but refusals, whatever the bytes", async () => {
    const good = await tarOf([{ name: "a", data: "x".repeat(1000) }, { name: "b" }]);
    const spoil = fc.record({ at: fc.nat(good.length - 1), byte: fc.nat(255), cut: fc.nat(good.length) });
    await fc.assert(
      fc.asyncProperty(spoil, async ({ at, byte, cut }) => {
        const bad = Buffer.from(good);
        bad[at] = byte;
        try {
          for await (const { body } of readArchive(pieces(bad.subarray(0, cut), 333), never)) await whole(body);
        } catch (error) {
          assert.ok(error instanceof Error && error.name === "EngineError", String(error));
        }
      }),
    );
  });
});

describe("checkTar()", () => {
  it("passes a tar on unchanged and refuses one that is cut off", async () => {
    const tar = await tarOf([{ name: "a", data: "x".repeat(5000) }]);
    assert.deepEqual(await whole(checkTar(pieces(tar, 700), never)), tar);
    await assert.rejects(whole(checkTar(pieces(tar.subarray(0, 3000), 700), never)), { message: "unexpected EOF" });
    await assert.rejects(whole(checkTar(pieces(Buffer.from("no tar\n"), 700), never)), { code: "invalid" });
  });
});
