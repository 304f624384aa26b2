import type { Clock } from "../../base/clock.ts";
import { EngineError, messageOf } from "../../base/errors.ts";
import type { Random } from "../../base/random.ts";
import { type Authority, caServerName, type Identity, type Role, unitOf } from "./model.ts";
import { certificatePem, exportKey, importSigningKey, keyAlgorithm, newKeyPair, x509 } from "./x509.ts";

const hourMs = 3_600_000;
const rootValidityMs = 630_720_000_000;
/** A joining node whose clock is behind ours must still find its certificate valid (trap T24). */
const backdateMs = hourMs;
export const defaultNodeValidityMs = 90 * 24 * hourMs;
export const minimumNodeValidityMs = hourMs;

export interface Sources {
  readonly clock: Clock;
  readonly random: Random;
}

/** A new self-signed root as swarmkit makes them (reference: swarm-control-plane 3.1). */
export async function createAuthority(sources: Sources): Promise<Authority> {
  const keys = await newKeyPair();
  const now = sources.clock.wall().getTime();
  const certificate = await x509.X509CertificateGenerator.createSelfSigned({
    name: new x509.Name([{ CN: [caServerName] }]),
    keys,
    serialNumber: newSerial(sources.random),
    notBefore: new Date(now - backdateMs),
    notAfter: new Date(now - backdateMs + rootValidityMs),
    signingAlgorithm: keyAlgorithm,
    extensions: [
      new x509.BasicConstraintsExtension(true, undefined, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign, true),
      await x509.SubjectKeyIdentifierExtension.create(keys.publicKey),
    ],
  });
  return { certificatePem: certificatePem(certificate), keyPem: await exportKey(keys) };
}

/**
 * Signs a node certificate for the public key in `csrPem`; nothing else of the request counts (3.2).
 *
 * @returns The chain, PEM.
 * @throws {EngineError} `invalid` when the request does not parse or is not signed by its own key.
 */
export async function signNodeCertificate(
  authority: Authority,
  request: { readonly csrPem: Uint8Array; readonly identity: Identity; readonly validityMs: number },
  sources: Sources,
): Promise<Uint8Array> {
  const publicKey = await verifiedPublicKey(request.csrPem);
  const issuer = new x509.X509Certificate(new TextDecoder().decode(authority.certificatePem));
  const { nodeId, role, clusterId } = request.identity;
  const now = sources.clock.wall().getTime();
  const certificate = await x509.X509CertificateGenerator.create({
    subject: new x509.Name([{ O: [clusterId] }, { OU: [unitOf[role]] }, { CN: [nodeId] }]),
    issuer: issuer.subjectName,
    publicKey,
    signingKey: await importSigningKey(authority.keyPem),
    serialNumber: newSerial(sources.random),
    notBefore: new Date(now - backdateMs),
    notAfter: new Date(now + request.validityMs),
    signingAlgorithm: keyAlgorithm,
    extensions: [
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature | x509.KeyUsageFlags.keyEncipherment, true),
      new x509.ExtendedKeyUsageExtension([x509.ExtendedKeyUsage.serverAuth, x509.ExtendedKeyUsage.clientAuth]),
      new x509.BasicConstraintsExtension(false, undefined, true),
      await x509.SubjectKeyIdentifierExtension.create(publicKey),
      await x509.AuthorityKeyIdentifierExtension.create(issuer.publicKey),
      new x509.SubjectAlternativeNameExtension(
        sanNames(role, nodeId).map((value) => ({ type: "dns" as const, value })),
      ),
    ],
  });
  return certificatePem(certificate);
}

/** Clients verify these names and never an address (trap T1). */
function sanNames(role: Role, nodeId: string): readonly string[] {
  return role === "manager" ? [unitOf[role], nodeId, caServerName] : [unitOf[role], nodeId];
}

async function verifiedPublicKey(csrPem: Uint8Array): Promise<x509.PublicKey> {
  try {
    const csr = new x509.Pkcs10CertificateRequest(new TextDecoder().decode(csrPem));
    if (await csr.verify()) return csr.publicKey;
  } catch (cause) {
    throw new EngineError("invalid", `cannot read the certificate request: ${messageOf(cause)}`, { cause });
  }
  throw new EngineError("invalid", "cannot accept the certificate request: its signature is not by its own key");
}

/** 20 bytes, positive and without a leading zero byte. */
function newSerial(random: Random): string {
  const bytes = random.bytes(20);
  bytes[0] = ((bytes[0] as number) & 0x3f) | 0x40;
  return Buffer.from(bytes).toString("hex");
}
