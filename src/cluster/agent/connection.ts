import type { SecureClientSessionOptions } from "node:http2";
import type { Interceptor, Transport } from "@connectrpc/connect";
import { createGrpcTransport, Http2SessionManager } from "@connectrpc/connect-node";
import type { NodeCredentials } from "../ca/model.ts";
import { agentHeader } from "../manager/services.ts";

/** A way to one manager; closing it ends every call on it. */
export interface ManagerConnection {
  readonly transport: Transport;
  close(): void;
}

export type Trust =
  /** Nothing is verified: only for fetching the root certificate, which the token's digest then vouches for. */
  | { readonly kind: "none" }
  /** The certificate must be for `serverName` (U1), whatever address is dialled. Without credentials of our own: joining. */
  | {
      readonly kind: "root";
      readonly rootPem: Uint8Array;
      readonly serverName: string;
      readonly own?: Pick<NodeCredentials, "chainPem" | "keyPem">;
    };

/** gRPC over TLS to `host:port`; connects with the first call. HTTP proxies are not used (reference: swarm-control-plane 5). */
export function dialManager(address: string, trust: Trust): ManagerConnection {
  const url = `https://${address}`;
  const sessions = new Http2SessionManager(url, { pingIntervalMs: 20_000 }, tlsOptions(trust));
  return {
    transport: createGrpcTransport({ baseUrl: url, sessionManager: sessions, interceptors: [namingOurselves] }),
    close: () => sessions.abort(),
  };
}

function tlsOptions(trust: Trust): SecureClientSessionOptions {
  const common = { ALPNProtocols: ["h2"], minVersion: "TLSv1.2" } as const;
  if (trust.kind === "none") return { ...common, rejectUnauthorized: false, checkServerIdentity: () => undefined };
  return {
    ...common,
    servername: trust.serverName,
    ca: Buffer.from(trust.rootPem),
    ...(trust.own === undefined ? {} : { key: trust.own.keyPem.reveal(), cert: Buffer.from(trust.own.chainPem) }),
  };
}

export const namingOurselves: Interceptor = (next) => (request) => {
  request.header.set(agentHeader, "1");
  return next(request);
};
