import { chmod, chown, lstat, readFile, unlink } from "node:fs/promises";
import { connect, type Server } from "node:net";
import type { TlsOptions } from "node:tls";
import { EngineError } from "../base/errors.ts";
import { formatHostPort } from "../base/ip.ts";

/** One `-H`. */
export type Listener =
  | { readonly kind: "unix"; readonly path: string; readonly group: string }
  | { readonly kind: "tcp"; readonly host: string; readonly port: number; readonly tls: TlsFiles | undefined };

export interface TlsFiles {
  readonly certificateFile: string;
  readonly keyFile: string;
  /** undefined: clients need no certificate. */
  readonly clientCaFile: string | undefined;
}

type Front = (tls: TlsOptions | undefined) => Server;

/** Listens; resolves when connections are taken. A unix socket that nobody listens on is replaced, a live one refused. */
export async function listen(
  listener: Listener,
  front: Front,
): Promise<{ readonly address: string; readonly close: () => Promise<void> }> {
  if (listener.kind === "unix") return listenUnix(listener, front);
  const server = front(listener.tls === undefined ? undefined : await readTls(listener.tls));
  await listening(server, { host: listener.host, port: listener.port });
  const bound = server.address();
  const port = typeof bound === "object" && bound !== null ? bound.port : listener.port;
  return { address: `tcp://${formatHostPort(listener.host, port)}`, close: () => closed(server) };
}

async function listenUnix(listener: Extract<Listener, { kind: "unix" }>, front: Front) {
  await clearStaleSocket(listener.path);
  const server = front(undefined);
  // The socket must never be open to others, not even for a moment: it is made 0600 and opened to the group afterwards.
  const mask = process.umask(0o177);
  try {
    await listening(server, { path: listener.path });
  } finally {
    process.umask(mask);
  }
  const groupId = await findGroup(listener.group);
  if (groupId !== undefined) await chown(listener.path, 0, groupId).catch(() => {});
  await chmod(listener.path, 0o660);
  return { address: `unix://${listener.path}`, close: () => closed(server) };
}

async function clearStaleSocket(path: string): Promise<void> {
  const found = await lstat(path).catch(() => undefined);
  if (found === undefined) return;
  if (!found.isSocket()) throw new EngineError("conflict", `cannot listen on ${path}: it exists and is no socket`);
  if (await answers(path)) {
    throw new EngineError("conflict", `cannot listen on ${path}: another daemon is listening there`);
  }
  await unlink(path);
}

function answers(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const probe = connect(path);
    probe.once("connect", () => {
      probe.destroy();
      resolve(true);
    });
    probe.once("error", () => resolve(false));
  });
}

/** Number of a group in /etc/group, by name or number; undefined when there is none. */
async function findGroup(name: string): Promise<number | undefined> {
  if (name === "") return undefined;
  if (/^\d+$/.test(name)) return Number(name);
  const lines = (await readFile("/etc/group", "utf8").catch(() => "")).split("\n");
  const fields = lines.map((line) => line.split(":")).find((line) => line[0] === name);
  return fields === undefined ? undefined : Number(fields[2]);
}

async function readTls(files: TlsFiles): Promise<TlsOptions> {
  const [cert, key, ca] = await Promise.all([
    readFile(files.certificateFile),
    readFile(files.keyFile),
    files.clientCaFile === undefined ? undefined : readFile(files.clientCaFile),
  ]);
  const verify = ca === undefined ? {} : { ca, requestCert: true, rejectUnauthorized: true };
  return { cert, key, minVersion: "TLSv1.2", ...verify };
}

function listening(server: Server, where: { path: string } | { host: string; port: number }): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen(where, () => {
      server.off("error", reject);
      resolve();
    });
  });
}

function closed(server: Server): Promise<void> {
  return new Promise((resolve) => {
    server.close(() => resolve());
    // Open connections are the API server's to end; new ones are refused from here on.
    resolve();
  });
}
