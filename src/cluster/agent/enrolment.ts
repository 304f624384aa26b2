import { Code, ConnectError, createClient, type Transport } from "@connectrpc/connect";
import { anySignal } from "../../base/async.ts";
import type { Clock } from "../../base/clock.ts";
import { EngineError } from "../../base/errors.ts";
import type { Log } from "../../base/log.ts";
import type { Secret } from "../../base/secret.ts";
import { CA, NodeCA } from "../../wire/gen/swarm_ca_pb.ts";
import type { NodeSpec_Availability } from "../../wire/gen/swarm_specs_pb.ts";
import { IssuanceStatus_State } from "../../wire/gen/swarm_types_pb.ts";
import { verifyChain, verifyRoots } from "../ca/chain.ts";
import { caServerName, type Identity, type NodeCredentials } from "../ca/model.ts";
import { createCertificateRequest } from "../ca/request.ts";
import { isRoot, rootDigestOf } from "../tokens/tokens.ts";
import { dialManager, type ManagerConnection } from "./connection.ts";

// Reference: swarm-control-plane 4.
const callTimeoutMs = 5000;
const attempts = 5;
const retryMs = 2000;
const firstPollPauseMs = 1000;
const maxPollPauseMs = 30_000;
/** The manager understood and said no: asking again changes nothing. */
const finalCodes: ReadonlySet<Code> = new Set([
  Code.InvalidArgument,
  Code.FailedPrecondition,
  Code.PermissionDenied,
  Code.NotFound,
]);

export interface Enrolled {
  readonly identity: Identity;
  readonly credentials: NodeCredentials;
}

interface Surroundings {
  readonly clock: Clock;
  readonly log: Log;
}

/** Steps 1 to 5 of a join: root by the token's digest, key and request, certificate. */
export async function enrol(
  request: {
    readonly remoteAddresses: readonly string[];
    readonly token: Secret<string>;
    readonly availability: NodeSpec_Availability;
  },
  surroundings: Surroundings,
  signal: AbortSignal,
): Promise<Enrolled> {
  const digest = rootDigestOf(request.token);
  let failure: unknown;
  for (let attempt = 0; attempt < attempts; attempt++) {
    if (attempt > 0) await surroundings.clock.sleep(retryMs, signal);
    const address = request.remoteAddresses[attempt % request.remoteAddresses.length] as string;
    try {
      const rootPem = await fetchRoot(address, digest, surroundings.clock, signal);
      using connection = closing(dialManager(address, { kind: "root", rootPem, serverName: caServerName }));
      return await obtainCertificate(
        { transport: connection.transport, rootPem, token: request.token.reveal(), availability: request.availability },
        surroundings,
        signal,
      );
    } catch (error) {
      if (signal.aborted || isFinalRefusal(error)) throw error;
      surroundings.log.warn("cannot join yet", { manager: address, attempt: attempt + 1, error });
      failure = error;
    }
  }
  throw failure;
}

export function isFinalRefusal(error: unknown): boolean {
  return error instanceof EngineError || (error instanceof ConnectError && finalCodes.has(error.code));
}

/** A new certificate for a node that has a valid one: `transport` presents it. */
export function renewCertificate(
  options: { readonly transport: Transport; readonly rootPem: Uint8Array },
  surroundings: Surroundings,
  signal: AbortSignal,
): Promise<Enrolled> {
  return obtainCertificate({ ...options, token: "", availability: 0 }, surroundings, signal);
}

async function fetchRoot(address: string, digest: string, clock: Clock, signal: AbortSignal): Promise<Uint8Array> {
  using connection = closing(dialManager(address, { kind: "none" }));
  const client = createClient(CA, connection.transport);
  const until = anySignal(signal, clock.timeout(callTimeoutMs));
  const { certificate } = await client.getRootCACertificate({}, { signal: until });
  if (!isRoot(certificate, digest)) {
    throw new EngineError("invalid", `remote CA does not match fingerprint. Expected: ${digest}`); // compat:
  }
  verifyRoots(certificate, clock.wall());
  return certificate;
}

async function obtainCertificate(
  options: {
    readonly transport: Transport;
    readonly rootPem: Uint8Array;
    readonly token: string;
    readonly availability: NodeSpec_Availability;
  },
  { clock }: Surroundings,
  signal: AbortSignal,
): Promise<Enrolled> {
  const { rootPem, token, availability } = options;
  const { keyPem, csrPem } = await createCertificateRequest();
  const client = createClient(NodeCA, options.transport);
  const until = anySignal(signal, clock.timeout(callTimeoutMs));
  const { nodeId } = await client.issueNodeCertificate({ csr: csrPem, token, availability }, { signal: until });
  for (let pauseMs = firstPollPauseMs; ; pauseMs = Math.min(maxPollPauseMs, pauseMs * 2)) {
    const chainPem = await pollCertificate(client, { nodeId, csrPem }, anySignal(signal, clock.timeout(callTimeoutMs)));
    if (chainPem !== undefined) {
      const identity = verifyChain(chainPem, rootPem, clock.wall());
      return { identity, credentials: { keyPem, chainPem, rootPem } };
    }
    await clock.sleep(pauseMs, signal);
  }
}

/** undefined: not there yet. */
async function pollCertificate(
  client: ReturnType<typeof createClient<typeof NodeCA>>,
  wanted: { readonly nodeId: string; readonly csrPem: Uint8Array },
  signal: AbortSignal,
): Promise<Uint8Array | undefined> {
  const { status, certificate } = await client.nodeCertificateStatus({ nodeId: wanted.nodeId }, { signal });
  if (status?.state === IssuanceStatus_State.FAILED) {
    throw new EngineError("invalid", `the manager refused to issue a certificate: ${status.err}`);
  }
  // The answer may still be about an earlier request of this node (T6).
  const isOurs = certificate !== undefined && Buffer.from(certificate.csr).equals(wanted.csrPem);
  const isThere = status?.state === IssuanceStatus_State.ISSUED && certificate !== undefined;
  return isOurs && isThere ? certificate.certificate : undefined;
}

function closing(connection: ManagerConnection): ManagerConnection & Disposable {
  return { ...connection, [Symbol.dispose]: () => connection.close() };
}
