import { X509Certificate } from "node:crypto";
import { EngineError } from "../../base/errors.ts";
import { type Identity, roleOfUnit } from "./model.ts";
import { x509 } from "./x509.ts";

const pemBlock = /-----BEGIN CERTIFICATE-----[\s\S]+?-----END CERTIFICATE-----/g;
// Trap T25: anything else in a chain is refused by engines, so we neither make nor accept it.
const signatureAlgorithms = /^(ecdsa-with-SHA|sha)(256|384|512)(WithRSAEncryption)?$/;
const maxCertificates = 16;

/** Every certificate of a PEM bundle. @throws {EngineError} `invalid` when there is none or one does not parse. */
export function parseBundle(pem: Uint8Array): readonly X509Certificate[] {
  const blocks = new TextDecoder().decode(pem).match(pemBlock) ?? [];
  if (blocks.length === 0 || blocks.length > maxCertificates) {
    throw new EngineError(
      "invalid",
      `cannot read certificates: found ${blocks.length}, expected 1 to ${maxCertificates}`,
    );
  }
  try {
    return blocks.map((block) => new X509Certificate(block));
  } catch (cause) {
    throw new EngineError("invalid", "cannot read certificates: one of them does not parse", { cause });
  }
}

/**
 * Checks that each certificate is signed by the next, all are valid now, and the last chains to the trust bundle.
 *
 * @returns Who the leaf belongs to.
 * @throws {EngineError} `invalid`, saying which check failed.
 */
export function verifyChain(chainPem: Uint8Array, rootPem: Uint8Array, now: Date): Identity {
  const chain = parseBundle(chainPem);
  const roots = parseBundle(rootPem);
  for (const [i, certificate] of chain.entries()) {
    checkDates(certificate, now);
    const issuers = i + 1 < chain.length ? [chain[i + 1] as X509Certificate] : roots;
    if (!issuers.some((issuer) => isIssuedBy(certificate, issuer))) {
      throw new EngineError("invalid", `certificate ${certificate.serialNumber} is not signed by its issuer`);
    }
  }
  for (const root of roots) checkDates(root, now);
  return identityOf(chain[0] as X509Certificate);
}

/** @throws {EngineError} `invalid` when a root of the bundle is not self-signed or not valid now. */
export function verifyRoots(rootPem: Uint8Array, now: Date): void {
  for (const root of parseBundle(rootPem)) {
    checkDates(root, now);
    if (!isIssuedBy(root, root)) throw new EngineError("invalid", "the root certificate is not signed by itself");
  }
}

/** @throws {EngineError} `invalid` when the subject is not a swarm node's. */
export function identityOf(certificate: X509Certificate): Identity {
  const fields = new Map(certificate.subject.split("\n").map((line) => line.split("=", 2) as [string, string]));
  const role = roleOfUnit(fields.get("OU"));
  const nodeId = fields.get("CN");
  const clusterId = fields.get("O");
  if (role === undefined || nodeId === undefined || clusterId === undefined) {
    throw new EngineError("invalid", `the certificate of ${JSON.stringify(certificate.subject)} is not a swarm node's`);
  }
  return { nodeId, role, clusterId };
}

/** What a node reports as `tls_info`; a root rotation ends only when every node has (trap U6). */
export function issuerOf(chainPem: Uint8Array, rootPem: Uint8Array): { subject: Uint8Array; publicKey: Uint8Array } {
  const leaf = parseBundle(chainPem)[0] as X509Certificate;
  const issuer = [...parseBundle(chainPem).slice(1), ...parseBundle(rootPem)].find((one) => isIssuedBy(leaf, one));
  return {
    subject: new Uint8Array(new x509.X509Certificate(new Uint8Array(leaf.raw)).issuerName.toArrayBuffer()),
    publicKey: new Uint8Array(issuer?.publicKey.export({ type: "spki", format: "der" }) ?? []),
  };
}

function isIssuedBy(certificate: X509Certificate, issuer: X509Certificate): boolean {
  return (
    signatureAlgorithms.test(certificate.signatureAlgorithm ?? "") &&
    certificate.checkIssued(issuer) &&
    certificate.verify(issuer.publicKey)
  );
}

function checkDates(certificate: X509Certificate, now: Date): void {
  if (now < certificate.validFromDate || now > certificate.validToDate) {
    throw new EngineError(
      "invalid",
      `certificate ${certificate.serialNumber} is valid from ${certificate.validFrom} to ${certificate.validTo}, and it is ${now.toISOString()}`,
    );
  }
}
