import type { Secret } from "../../base/secret.ts";
import { exportKey, keyAlgorithm, newKeyPair, x509 } from "./x509.ts";

/** A fresh node key and the request for its certificate, with an empty subject (reference: swarm-control-plane 3.2). */
export async function createCertificateRequest(): Promise<{
  readonly keyPem: Secret<string>;
  readonly csrPem: Uint8Array;
}> {
  const keys = await newKeyPair();
  const csr = await x509.Pkcs10CertificateRequestGenerator.create({
    keys,
    signingAlgorithm: keyAlgorithm,
    // Go's parser wants the attributes field to be there (RFC 2986 says so too); the library leaves an empty one out.
    extensions: [new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true)],
  });
  return { keyPem: await exportKey(keys), csrPem: new TextEncoder().encode(`${csr.toString("pem")}\n`) };
}
