import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, test } from "node:test";
import fc from "fast-check";
import { systemClock } from "../../base/clock.ts";
import type { LogOptions } from "../engine.ts";
import { JsonFileLog } from "./json-file.ts";
import { readLog } from "./reader.ts";

let directory = "";
let path = "";
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "we-logs-"));
  path = join(directory, "x-json.log");
});
afterEach(() => rmSync(directory, { recursive: true }));

const all: LogOptions = {
  stdout: true,
  stderr: true,
  follow: false,
  tail: undefined,
  since: undefined,
  until: undefined,
};
const source = () => ({ path, version: () => 0, changed: async () => {}, isFinished: () => true });

async function read(options: Partial<LogOptions> = {}): Promise<{ stdout: string; stderr: string; lines: number }> {
  const out = { stdout: "", stderr: "", lines: 0 };
  for await (const line of readLog(source(), { ...all, ...options }, new AbortController().signal)) {
    out[line.stream] += new TextDecoder().decode(line.data);
    out.lines += 1;
  }
  return out;
}

test("what is written comes back byte for byte, however it was cut", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.tuple(fc.constantFrom("stdout", "stderr"), fc.string({ unit: "grapheme", maxLength: 40 })), {
        maxLength: 20,
      }),
      fc.array(fc.nat({ max: 30 }), { minLength: 1, maxLength: 10 }),
      async (writes, cuts) => {
        rmSync(path, { force: true });
        const expected = { stdout: "", stderr: "" };
        {
          using log = new JsonFileLog({ path, clock: systemClock, onWrite: () => {} });
          for (const [index, [stream, body]] of writes.entries()) {
            const text = index % 3 === 0 ? `${body}\n` : body;
            expected[stream as "stdout"] += text;
            const bytes = Buffer.from(text);
            const cut = Math.min(cuts[index % cuts.length] ?? 0, bytes.length);
            log.write(stream as "stdout", bytes.subarray(0, cut));
            log.write(stream as "stdout", bytes.subarray(cut));
          }
        }
        const { stdout, stderr } = await read();
        assert.deepEqual({ stdout, stderr }, expected);
      },
    ),
    { numRuns: 60 },
  );
});

test("a long line is cut into entries between characters, and read as one", async () => {
  const line = `${"ä€😀x".repeat(8000)}\n`;
  {
    using log = new JsonFileLog({ path, clock: systemClock, onWrite: () => {} });
    const bytes = Buffer.from(line);
    for (let at = 0; at < bytes.length; at += 5001) log.write("stdout", bytes.subarray(at, at + 5001));
  }
  assert.ok(readFileSync(path, "utf8").split("\n").length > 3);
  assert.equal((await read()).stdout, line);
});

test("the last lines are found from the end, by stream", async () => {
  const count = 30_000;
  {
    using log = new JsonFileLog({ path, clock: systemClock, onWrite: () => {} });
    for (let i = 0; i < count; i += 1000) {
      const lines = Array.from({ length: 1000 }, (_, j) => `${i + j}\n`).join("");
      log.write("stdout", Buffer.from(lines));
      log.write("stderr", Buffer.from(`e${i}\n`));
    }
  }
  assert.equal((await read({ tail: 2, stderr: false })).stdout, `${count - 2}\n${count - 1}\n`);
  assert.deepEqual(await read({ tail: 2 }), { stdout: `${count - 1}\n`, stderr: `e${count - 1000}\n`, lines: 2 });
  assert.equal((await read({ tail: 0 })).lines, 0);
  assert.equal((await read({ tail: 10 ** 6 })).lines, count + count / 1000);
  assert.equal((await read({ tail: 5000, stderr: false })).lines, 5000);
});

test("since and until bound by time; torn lines and a missing file do no harm", async () => {
  assert.equal((await read()).lines, 0);
  {
    using log = new JsonFileLog({ path, clock: systemClock, onWrite: () => {} });
    log.write("stdout", Buffer.from("now\n"));
  }
  const past = new Date(Date.now() - 60_000);
  const future = new Date(Date.now() + 60_000);
  assert.equal((await read({ since: past, until: future })).lines, 1);
  assert.equal((await read({ since: future })).lines, 0);
  assert.equal((await read({ until: past })).lines, 0);
});
