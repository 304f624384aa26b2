import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { hasCode } from "../base/errors.ts";
import { silentLog } from "../base/log.ts";
import { aesSeal, Collection, MemoryStore, openSqliteStore, type Store, type StoreEvent } from "./mod.ts";

const bytes = (text: string) => new TextEncoder().encode(text);
const text = (value: Uint8Array | undefined) => (value === undefined ? undefined : new TextDecoder().decode(value));
const never = new AbortController().signal;

/** What every engine must do; run against memory and SQLite alike. */
async function contract(store: Store): Promise<void> {
  const seen: StoreEvent[] = [];
  using _watch = store.watch("a/", (events) => seen.push(...events));
  const first = await store.commit([{ kind: "put", key: "a/1", value: bytes("one"), ifRevision: 0 }]);
  assert.equal((await store.get("a/1"))?.revision, first);
  await assert.rejects(store.commit([{ kind: "put", key: "a/1", value: bytes("x"), ifRevision: 0 }]), (e) =>
    hasCode(e, "conflict"),
  );

  // All or nothing: the second change does not hold, so the first is not written either.
  const half = store.commit([
    { kind: "put", key: "a/2", value: bytes("two") },
    { kind: "delete", key: "a/1", ifRevision: first + 40 },
  ]);
  await assert.rejects(half, (e) => hasCode(e, "conflict"));
  assert.equal(await store.get("a/2"), undefined);

  // Two compare-and-swaps from one revision: exactly one wins, also when both are under way at once.
  const race = await Promise.allSettled(
    ["x", "y"].map((v) => store.commit([{ kind: "put", key: "a/1", value: bytes(v), ifRevision: first }])),
  );
  assert.deepEqual(
    race.map((r) => r.status),
    ["fulfilled", "rejected"],
  );
  await store.commit([
    { kind: "put", key: "b/1", value: bytes("other") },
    { kind: "put", key: "a/0", value: bytes("zero") },
  ]);
  assert.deepEqual(
    (await store.list("a/")).map((e) => [e.key, text(e.value)]),
    [
      ["a/0", "zero"],
      ["a/1", "x"],
    ],
  );
  await store.commit([{ kind: "delete", key: "a/1" }]);
  assert.equal(await store.get("a/1"), undefined);
  assert.deepEqual(
    seen.map((e) => (e.kind === "put" ? `+${e.entry.key}` : `-${e.key}`)),
    ["+a/1", "+a/1", "+a/0", "-a/1"],
  );
}

async function inDirectory(run: (path: string) => Promise<void>): Promise<void> {
  const directory = await mkdtemp(join(tmpdir(), "weft-store-"));
  try {
    await run(join(directory, "store.db"));
  } finally {
    await rm(directory, { recursive: true });
  }
}

test("the memory store keeps the contract", () => contract(new MemoryStore()));

test("the SQLite store keeps the contract and its revisions across a restart", () =>
  inDirectory(async (path) => {
    let revision: number;
    {
      await using store = await openSqliteStore({ path, log: silentLog }, never);
      await contract(store);
      revision = await store.commit([{ kind: "put", key: "k", value: bytes("v") }]);
    }
    await using again = await openSqliteStore({ path, log: silentLog }, never);
    assert.equal(text((await again.get("k"))?.value), "v");
    assert.ok((await again.commit([{ kind: "delete", key: "k" }])) > revision);
  }));

test("commits made together are all there and in order", () =>
  inDirectory(async (path) => {
    await using store = await openSqliteStore({ path, log: silentLog }, never);
    const revisions = await Promise.all(
      Array.from({ length: 300 }, (_, i) => store.commit([{ kind: "put", key: `n/${i % 7}`, value: bytes(`${i}`) }])),
    );
    assert.deepEqual(
      revisions,
      [...revisions].sort((a, b) => a - b),
    );
    assert.deepEqual(
      (await store.list("n/")).map((e) => text(e.value)),
      ["294", "295", "296", "297", "298", "299", "293"],
    );
  }));

test("what was acknowledged is there after kill -9", () =>
  inDirectory(async (path) => {
    const script = `
      import { openSqliteStore } from ${JSON.stringify(new URL("./mod.ts", import.meta.url).href)};
      import { silentLog } from ${JSON.stringify(new URL("../base/log.ts", import.meta.url).href)};
      const store = await openSqliteStore({ path: ${JSON.stringify(path)}, log: silentLog }, new AbortController().signal);
      for (let i = 0; ; i++) {
        await store.commit([{ kind: "put", key: "k/" + String(i).padStart(6, "0"), value: new Uint8Array([i & 255]) }]);
        process.stdout.write(i + "\\n");
      }`;
    await writeFile(`${path}.mjs`, script);
    const child = spawn(process.execPath, [`${path}.mjs`], { stdio: ["ignore", "pipe", "inherit"] });
    let output = "";
    for await (const chunk of child.stdout) {
      output += String(chunk);
      if (output.split("\n").length > 60) child.kill("SIGKILL");
    }
    const acknowledged = output.trim().split("\n").length;
    assert.ok(acknowledged > 50);
    await using store = await openSqliteStore({ path, log: silentLog }, never);
    const kept = (await store.list("k/")).length;
    assert.ok(kept >= acknowledged, `${acknowledged} acknowledged, ${kept} kept`);
  }));

test("a file that is no database is refused by name", () =>
  inDirectory(async (path) => {
    await assert.rejects(
      openSqliteStore({ path: `${path}/no/such/dir`, log: silentLog }, never),
      /cannot open the store .*no\/such\/dir/,
    );
  }));

test("secret records are sealed on disk and bound to their key", () =>
  inDirectory(async (path) => {
    const seal = aesSeal(new Uint8Array(32).fill(7));
    const codec = { version: 1, upgrade: (json: unknown) => json as { readonly token: string }, secret: true };
    {
      await using store = await openSqliteStore({ path, log: silentLog }, never);
      const secrets = new Collection({ store, prefix: "secret", codec, seal });
      await secrets.put("one", { token: "planted-secret-value" });
      await secrets.put("one", { token: "planted-secret-value-2" });
      assert.equal((await secrets.get("one"))?.value.token, "planted-secret-value-2");
      const entry = await store.get("secret/one");
      assert.throws(() => seal.open(entry?.value ?? new Uint8Array(), "secret/two"));
      assert.throws(() => aesSeal(new Uint8Array(32)).open(entry?.value ?? new Uint8Array(), "secret/one"));
    }
    for (const file of [path, `${path}-wal`]) {
      const raw = await readFile(file).catch(() => Buffer.alloc(0));
      assert.ok(!raw.includes("planted-secret-value"), `${file} holds the secret`);
    }
  }));
