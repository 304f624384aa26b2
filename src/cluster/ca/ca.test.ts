import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { X509Certificate } from "node:crypto";
import { mkdtemp, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { promisify } from "node:util";
import { systemClock } from "../../base/clock.ts";
import { seededRandom, systemRandom } from "../../base/random.ts";
import { aesSeal } from "../../store/mod.ts";
import { createAuthority, defaultNodeValidityMs, signNodeCertificate } from "./authority.ts";
import { CertificateStore } from "./certificate-store.ts";
import { issuerOf, verifyChain, verifyRoots } from "./chain.ts";
import type { Authority, Role } from "./model.ts";
import { renewalDelayMs } from "./renewal.ts";
import { createCertificateRequest } from "./request.ts";

const run = promisify(execFile);
const sources = { clock: systemClock, random: systemRandom };
let authority: Authority;
let directory: string;

async function issue(role: Role, validityMs = defaultNodeValidityMs) {
  const { csrPem, keyPem } = await createCertificateRequest();
  const identity = { nodeId: "n".repeat(25), role, clusterId: "c".repeat(25) };
  return { keyPem, chainPem: await signNodeCertificate(authority, { csrPem, identity, validityMs }, sources) };
}

before(async () => {
  authority = await createAuthority(sources);
  directory = await mkdtemp(join(tmpdir(), "weft-ca-"));
});
after(() => rm(directory, { recursive: true, force: true }));

describe("the cluster's certificate authority", () => {
  it("has a root that openssl accepts, for 20 years, without a path length", async () => {
    const root = join(directory, "root.pem");
    await writeFile(root, authority.certificatePem);
    await run("openssl", ["verify", "-x509_strict", "-CAfile", root, root]);
    const { stdout } = await run("openssl", ["x509", "-in", root, "-noout", "-text"]);
    assert.match(stdout, /Subject: CN = swarm-ca\n/);
    assert.match(stdout, /Basic Constraints: critical\s+CA:TRUE\n/);
    assert.match(stdout, /Key Usage: critical\s+Certificate Sign, CRL Sign\n/);
    verifyRoots(authority.certificatePem, new Date());
    const leaf = new X509Certificate(authority.certificatePem);
    assert.equal((leaf.validToDate.getTime() - leaf.validFromDate.getTime()) / 1000, 630_720_000);
  });

  it("signs manager certificates that openssl accepts for both purposes and all three names", async () => {
    const { chainPem } = await issue("manager");
    const root = join(directory, "root.pem");
    const leaf = join(directory, "leaf.pem");
    await writeFile(root, authority.certificatePem);
    await writeFile(leaf, chainPem);
    for (const purpose of ["sslclient", "sslserver"]) {
      for (const name of ["swarm-manager", "swarm-ca", "n".repeat(25)]) {
        await run("openssl", [
          "verify",
          "-x509_strict",
          "-purpose",
          purpose,
          "-verify_hostname",
          name,
          "-CAfile",
          root,
          leaf,
        ]);
      }
    }
    const { stdout } = await run("openssl", ["x509", "-in", leaf, "-noout", "-text"]);
    assert.match(stdout, /Subject: O = c{25}, OU = swarm-manager, CN = n{25}\n/);
    assert.match(stdout, /Key Usage: critical\s+Digital Signature, Key Encipherment\n/);
  });

  it("gives workers no name of a manager", async () => {
    const { chainPem } = await issue("worker");
    assert.equal(new X509Certificate(chainPem).subjectAltName, `DNS:swarm-worker, DNS:${"n".repeat(25)}`);
  });

  it("backdates by an hour", async () => {
    const leaf = new X509Certificate((await issue("worker")).chainPem);
    assert.ok(Math.abs(Date.now() - 3_600_000 - leaf.validFromDate.getTime()) < 10_000);
    assert.ok(Math.abs(Date.now() + defaultNodeValidityMs - leaf.validToDate.getTime()) < 10_000);
  });

  it("signs requests made by openssl, and refuses broken ones", async () => {
    const key = join(directory, "o.key");
    const csr = join(directory, "o.csr");
    await run("openssl", [
      "req",
      "-new",
      "-newkey",
      "ec",
      "-pkeyopt",
      "ec_paramgen_curve:P-256",
      "-nodes",
      "-keyout",
      key,
      "-out",
      csr,
      "-subj",
      "/",
    ]);
    const csrPem = new Uint8Array(await readFile(csr));
    const identity = { nodeId: "x", role: "worker", clusterId: "y" } as const;
    const chain = await signNodeCertificate(authority, { csrPem, identity, validityMs: 3_600_000 }, sources);
    assert.deepEqual(verifyChain(chain, authority.certificatePem, new Date()), identity);

    const text = new TextDecoder().decode(csrPem);
    const at = text.length - 60;
    const forged = text.slice(0, at) + (text[at] === "A" ? "B" : "A") + text.slice(at + 1);
    for (const bad of ["", "no pem", forged]) {
      const request = { csrPem: new TextEncoder().encode(bad), identity, validityMs: 3_600_000 };
      await assert.rejects(signNodeCertificate(authority, request, sources), /certificate request/);
    }
  });

  it("makes requests that openssl accepts, with the attributes field that Go's parser wants", async () => {
    const { csrPem } = await createCertificateRequest();
    const path = join(directory, "ours.csr");
    await writeFile(path, csrPem);
    await run("openssl", ["req", "-in", path, "-noout", "-verify"]);
    const { stdout } = await run("openssl", ["asn1parse", "-in", path]);
    assert.match(stdout, /cont \[ 0 \]/);
  });
});

describe("verifyChain()", () => {
  it("refuses another cluster's root, expired certificates and those not valid yet", async () => {
    const { chainPem } = await issue("worker", 3_600_000);
    const other = await createAuthority(sources);
    const day = 24 * 3_600_000;
    assert.throws(() => verifyChain(chainPem, other.certificatePem, new Date()), /not signed by its issuer/);
    assert.throws(() => verifyChain(chainPem, authority.certificatePem, new Date(Date.now() + day)), /is valid from/);
    assert.throws(() => verifyChain(chainPem, authority.certificatePem, new Date(Date.now() - day)), /is valid from/);
    assert.throws(() => verifyChain(new Uint8Array(), authority.certificatePem, new Date()), /found 0/);
  });

  it("gives tls_info its issuer", async () => {
    const { chainPem } = await issue("worker");
    const { subject, publicKey } = issuerOf(chainPem, authority.certificatePem);
    assert.ok(Buffer.from(subject).includes("swarm-ca"));
    const root = new X509Certificate(authority.certificatePem);
    assert.deepEqual(Buffer.from(publicKey), root.publicKey.export({ type: "spki", format: "der" }));
  });
});

describe("renewalDelayMs()", () => {
  it("lies between half and four fifths of the certificate's life, and is 0 once it has expired", async () => {
    const { chainPem } = await issue("worker", 9 * 3_600_000);
    const leaf = new X509Certificate(chainPem);
    for (let seed = 0; seed < 50; seed++) {
      const at = Date.now() + renewalDelayMs(chainPem, new Date(), seededRandom(seed));
      const share = (at - leaf.validFromDate.getTime()) / (leaf.validToDate.getTime() - leaf.validFromDate.getTime());
      assert.ok(share > 0.49 && share < 0.81, String(share));
    }
    assert.equal(renewalDelayMs(chainPem, new Date(Date.now() + 10 * 3_600_000), seededRandom(1)), 0);
  });
});

describe("CertificateStore", () => {
  it("keeps the key sealed, the files under the engine's names, and survives a crash between key and chain", async () => {
    const store = new CertificateStore({
      directory: join(directory, "certificates"),
      seal: aesSeal(new Uint8Array(32)),
    });
    assert.equal(await store.load(), undefined);
    const first = { ...(await issue("worker")), rootPem: authority.certificatePem };
    await store.save(first);
    assert.equal((await store.load())?.keyPem.reveal(), first.keyPem.reveal());
    assert.equal((await stat(join(directory, "certificates/swarm-node.key"))).mode & 0o777, 0o600);
    assert.equal((await stat(join(directory, "certificates/swarm-node.crt"))).mode & 0o777, 0o644);
    assert.ok(!(await readFile(join(directory, "certificates/swarm-node.key"))).includes("PRIVATE KEY"));

    const second = { ...(await issue("worker")), rootPem: authority.certificatePem };
    await store.save(second);
    // As if killed before the chain was written: the new key waits, the old pair is in force.
    const path = (name: string) => join(directory, "certificates", name);
    await writeFile(path("swarm-node.key.next"), await readFile(path("swarm-node.key")));
    assert.equal((await store.load())?.keyPem.reveal(), second.keyPem.reveal());
    // And as if killed after it: the chain belongs to the waiting key.
    await rm(path("swarm-node.key"));
    assert.equal((await store.load())?.keyPem.reveal(), second.keyPem.reveal());
  });
});
