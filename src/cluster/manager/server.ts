import { createSecureServer, type Http2SecureServer, Http2ServerRequest, type Http2Session } from "node:http2";
import type { TLSSocket } from "node:tls";
import { type ConnectRouter, createContextValues } from "@connectrpc/connect";
import { connectNodeAdapter } from "@connectrpc/connect-node";
import { EngineError, messageOf } from "../../base/errors.ts";
import { formatHostPort } from "../../base/ip.ts";
import type { Cluster } from "../../wire/gen/swarm_objects_pb.ts";
import { identityOf } from "../ca/chain.ts";
import type { NodeCredentials } from "../ca/model.ts";
import { authorizing, type Caller, callerKey } from "./authorization.ts";

/** A manager accepts this much per message (reference: swarm-control-plane 5). */
const maxMessageBytes = 4 * 1024 * 1024;

export interface ServerOptions {
  readonly address: string;
  readonly portHostOrder: number;
  readonly credentials: NodeCredentials;
  readonly cluster: () => Cluster;
  readonly routes: (router: ConnectRouter) => void;
}

/**
 * gRPC over mutual TLS. A client certificate is asked for and verified if given, never required: those who come to join
 * have none (T3).
 */
export class ManagerServer implements AsyncDisposable {
  readonly #server: Http2SecureServer;
  readonly #sessions = new Set<Http2Session>();

  private constructor(server: Http2SecureServer) {
    this.#server = server;
    server.on("session", (session) => {
      this.#sessions.add(session);
      session.on("close", () => this.#sessions.delete(session));
      // A peer that goes away in mid-frame is its own affair; the calls on it end by themselves.
      session.on("error", () => {});
    });
  }

  /** @throws {EngineError} `unavailable` when the address cannot be bound. */
  static async open(options: ServerOptions, signal: AbortSignal): Promise<ManagerServer> {
    signal.throwIfAborted();
    const callers = new WeakMap<TLSSocket, Caller>();
    const handler = connectNodeAdapter({
      routes: options.routes,
      grpc: true,
      grpcWeb: false,
      connect: false,
      readMaxBytes: maxMessageBytes,
      interceptors: [authorizing(options.cluster)],
      contextValues: (request) => {
        const values = createContextValues();
        const socket = request instanceof Http2ServerRequest ? request.stream.session?.socket : undefined;
        if (socket !== undefined) values.set(callerKey, callerOn(socket as TLSSocket, callers));
        return values;
      },
    });
    const server = createSecureServer(
      {
        ...secretsOf(options.credentials),
        requestCert: true,
        rejectUnauthorized: false,
        minVersion: "TLSv1.2",
        ALPNProtocols: ["h2"],
        allowHTTP1: false,
      },
      handler,
    );
    // Refused handshakes (scanners, nodes of another cluster) are no fault of ours.
    server.on("tlsClientError", () => {});
    server.on("sessionError", () => {});
    await new Promise<void>((resolve, reject) => {
      server.once("error", (cause) => {
        const where = formatHostPort(options.address, options.portHostOrder);
        reject(new EngineError("unavailable", `cannot listen on ${where}: ${messageOf(cause)}`, { cause }));
      });
      server.listen(options.portHostOrder, options.address, resolve);
    });
    return new ManagerServer(server);
  }

  /** New connections see the new certificate; existing ones go on. */
  setCredentials(credentials: NodeCredentials): void {
    this.#server.setSecureContext({ ...secretsOf(credentials), minVersion: "TLSv1.2" });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const closed = new Promise<void>((resolve) => {
      this.#server.close(() => resolve());
    });
    for (const session of this.#sessions) session.destroy();
    await closed;
  }
}

function secretsOf(credentials: NodeCredentials) {
  return {
    key: credentials.keyPem.reveal(),
    cert: Buffer.from(credentials.chainPem),
    ca: Buffer.from(credentials.rootPem),
  };
}

/** The verified peer of a connection, read once per socket. */
function callerOn(socket: TLSSocket, callers: WeakMap<TLSSocket, Caller>): Caller {
  const known = callers.get(socket);
  if (known !== undefined) return known;
  const address = (socket.remoteAddress ?? "").replace(/^::ffff:/, "");
  const certificate = socket.authorized ? socket.getPeerX509Certificate() : undefined;
  const caller = { address, identity: certificate === undefined ? undefined : tryIdentityOf(certificate) };
  callers.set(socket, caller);
  return caller;
}

function tryIdentityOf(certificate: Parameters<typeof identityOf>[0]) {
  try {
    return identityOf(certificate);
  } catch {
    // Of our authority but no node: it has no rights, like nobody's.
    return undefined;
  }
}
