// The thread that owns the database file: an fsync of 300 ms here stops nobody else.
import { DatabaseSync } from "node:sqlite";
import { parentPort, workerData } from "node:worker_threads";
import type { WorkerReply, WriteBatch } from "./sqlite.ts";
import type { Entry } from "./store.ts";

const port = parentPort;
if (port === null) throw new Error("sqlite-worker.ts runs as a worker thread only");
const { path } = workerData as { path: string };
const say = (reply: WorkerReply) => port.postMessage(reply);

try {
  const db = new DatabaseSync(path);
  db.exec(`PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA busy_timeout = 2000;
    CREATE TABLE IF NOT EXISTS entries (key TEXT PRIMARY KEY, value BLOB NOT NULL, revision INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, number INTEGER NOT NULL) WITHOUT ROWID;`);
  // Deleted keys and tokens are overwritten in the file, not merely unlinked from it.
  db.exec("PRAGMA secure_delete = ON");
  const put = db.prepare("INSERT OR REPLACE INTO entries (key, value, revision) VALUES (?, ?, ?)");
  const drop = db.prepare("DELETE FROM entries WHERE key = ?");
  const setRevision = db.prepare("INSERT OR REPLACE INTO meta (name, number) VALUES ('revision', ?)");

  const write = (batch: WriteBatch) => {
    db.exec("BEGIN IMMEDIATE");
    try {
      for (const change of batch.changes) {
        if (change.value === undefined) drop.run(change.key);
        else put.run(change.key, change.value, change.revision);
      }
      setRevision.run(batch.revision);
      db.exec("COMMIT");
    } catch (error) {
      db.exec("ROLLBACK");
      throw error;
    }
  };

  port.on("message", (message: WriteBatch | "close") => {
    if (message === "close") {
      db.close();
      port.close();
      return;
    }
    try {
      write(message);
      say({ kind: "written", batch: message.batch });
    } catch (error) {
      say({ kind: "failed", batch: message.batch, message: String(error) });
    }
  });

  const rows = db.prepare("SELECT key, value, revision FROM entries").all() as unknown as Entry[];
  const meta = db.prepare("SELECT number FROM meta WHERE name = 'revision'").get() as { number: number } | undefined;
  say({ kind: "ready", entries: rows, revision: meta?.number ?? 0 });
} catch (error) {
  say({ kind: "failed-to-open", message: String(error) });
}
