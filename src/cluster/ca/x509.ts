// The X.509 library reads decorator metadata, so the polyfill must come first.
import "reflect-metadata";
import { webcrypto } from "node:crypto";
import * as x509 from "@peculiar/x509";
import { Secret } from "../../base/secret.ts";

x509.cryptoProvider.set(webcrypto as Crypto);

export { x509 };

export const keyAlgorithm = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" } as const;

export function newKeyPair(): Promise<CryptoKeyPair> {
  return webcrypto.subtle.generateKey(keyAlgorithm, true, ["sign", "verify"]) as Promise<CryptoKeyPair>;
}

export async function exportKey(pair: CryptoKeyPair): Promise<Secret<string>> {
  const der = await webcrypto.subtle.exportKey("pkcs8", pair.privateKey);
  return new Secret(`${x509.PemConverter.encode(der, "PRIVATE KEY")}\n`);
}

/** @throws when the PEM is no P-256 key. */
export function importSigningKey(pem: Secret<string>): Promise<CryptoKey> {
  const der = x509.PemConverter.decodeFirst(pem.reveal());
  return webcrypto.subtle.importKey("pkcs8", der, keyAlgorithm, false, ["sign"]) as Promise<CryptoKey>;
}

/** One certificate as PEM bytes with the final newline that Go's encoder writes. */
export function certificatePem(certificate: x509.X509Certificate): Uint8Array {
  return new TextEncoder().encode(`${certificate.toString("pem")}\n`);
}
