import assert from "node:assert/strict";
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, test } from "node:test";
import fc from "fast-check";
import { deferred } from "../../base/async.ts";
import { systemClock } from "../../base/clock.ts";
import type { LogOptions } from "../engine.ts";
import { JsonFileLog } from "./json-file.ts";
import { type LogLimits, logWarnings, parseLogLimits } from "./limits.ts";
import { type LogSource, readLog } from "./reader.ts";

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
let rotations = 0;
const source = () => ({
  path,
  maximumFiles: 3,
  rotations: () => rotations,
  version: () => 0,
  changed: async () => {},
  isFinished: () => true,
});

function openLog(limits: LogLimits = { maximumBytes: undefined, maximumFiles: 1 }): JsonFileLog {
  rotations = 0;
  return new JsonFileLog({ path, clock: systemClock, limits, onWrite: () => {}, onRotate: () => (rotations += 1) });
}

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
          using log = openLog();
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
    using log = openLog();
    const bytes = Buffer.from(line);
    for (let at = 0; at < bytes.length; at += 5001) log.write("stdout", bytes.subarray(at, at + 5001));
  }
  assert.ok(readFileSync(path, "utf8").split("\n").length > 3);
  assert.equal((await read()).stdout, line);
});

test("the last lines are found from the end, by stream", async () => {
  const count = 30_000;
  {
    using log = openLog();
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
    using log = openLog();
    log.write("stdout", Buffer.from("now\n"));
  }
  const past = new Date(Date.now() - 60_000);
  const future = new Date(Date.now() + 60_000);
  assert.equal((await read({ since: past, until: future })).lines, 1);
  assert.equal((await read({ since: future })).lines, 0);
  assert.equal((await read({ until: past })).lines, 0);
});

test("files are put aside at their size, and read in order with what is kept", async () => {
  const limits = { maximumBytes: 2000, maximumFiles: 3 };
  const numbers = (text: string) => text.trim().split("\n").map(Number);
  {
    using log = openLog(limits);
    for (let i = 0; i < 300; i++) log.write(i % 10 === 9 ? "stderr" : "stdout", Buffer.from(`${i}\n`));
  }
  assert.deepEqual(readdirSync(directory).sort(), ["x-json.log", "x-json.log.1", "x-json.log.2"]);
  for (const name of readdirSync(directory)) assert.ok(statSync(join(directory, name)).size < 2100);
  const kept = numbers((await read({ stderr: false })).stdout);
  assert.equal(kept.at(-1), 298);
  assert.deepEqual(
    kept,
    kept.toSorted((a, b) => a - b),
  );
  assert.ok(kept.length > 40 && kept.length < 90);
  assert.equal((await read({ tail: 50 })).lines, 50);
  assert.deepEqual(numbers((await read({ tail: 5, stdout: false })).stderr), [259, 269, 279, 289, 299]);
});

test("who follows reads on over rotations, and ends where it was told", async () => {
  using log = openLog({ maximumBytes: 500, maximumFiles: 3 });
  log.write("stdout", Buffer.from("0\n"));
  let version = 0;
  let waiting = deferred<void>();
  const following: LogSource = {
    ...source(),
    version: () => version,
    changed: () => waiting.promise,
    isFinished: () => version === 50,
  };
  const end = { rotations, offset: statSync(path).size };
  const seen: string[] = [];
  const reading = (async () => {
    for await (const { data } of readLog(following, { ...all, follow: true }, new AbortController().signal)) {
      seen.push(new TextDecoder().decode(data).trim());
    }
  })();
  for (let i = 1; i <= 50; i++) {
    log.write("stdout", Buffer.from(`${i}\n`));
    version = i;
    waiting.resolve();
    waiting = deferred();
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
  waiting.resolve();
  await reading;
  assert.ok(rotations > 3);
  assert.deepEqual(
    seen,
    Array.from({ length: 51 }, (_, i) => String(i)),
  );
  const bounded: string[] = [];
  // Its file is long gone by now: nothing is shown rather than something newer.
  for await (const { data } of readLog({ ...source(), end }, all, new AbortController().signal))
    bounded.push(String(data));
  assert.deepEqual(bounded, []);
});

test("log options in Docker's units and words", () => {
  assert.deepEqual(parseLogLimits("json-file", {}), { maximumBytes: undefined, maximumFiles: 1 });
  assert.deepEqual(parseLogLimits("json-file", { "max-size": "10k", "max-file": "3" }), {
    maximumBytes: 10_000,
    maximumFiles: 3,
  });
  assert.deepEqual(parseLogLimits("json-file", { "max-size": "1.5MB" }), { maximumBytes: 1_500_000, maximumFiles: 1 });
  assert.deepEqual(parseLogLimits("local", {}), { maximumBytes: 20_000_000, maximumFiles: 5 });
  assert.throws(() => parseLogLimits("json-file", { size: "1" }), /unknown log opt 'size' for json-file log driver/);
  assert.throws(() => parseLogLimits("local", { tag: "x" }), /unknown log opt 'tag' for log driver local/);
  assert.throws(() => parseLogLimits("json-file", { "max-size": "much" }), /invalid size: 'much'/);
  assert.throws(() => parseLogLimits("json-file", { "max-file": "0" }), /max-file cannot be less than 1/);
  assert.deepEqual(logWarnings({ "max-size": "1k", tag: "x" }), ["--log-opt tag has no effect in this version"]);
});
