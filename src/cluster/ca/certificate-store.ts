import { createPrivateKey } from "node:crypto";
import { mkdir, open, readFile, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { crashPoint } from "../../base/crash-point.ts";
import { Secret } from "../../base/secret.ts";
import type { Seal } from "../../store/mod.ts";
import { parseBundle } from "./chain.ts";
import type { NodeCredentials } from "./model.ts";

const names = { root: "swarm-root-ca.crt", chain: "swarm-node.crt", key: "swarm-node.key" } as const;

/**
 * The node's certificates on disk, under the engine's own names (reference: swarm-control-plane 3.2). The key is sealed.
 * Each file is replaced whole; the chain is written last, so a crash leaves the old pair usable: the key of the pair
 * that is about to come waits beside it under a name of its own.
 */
export class CertificateStore {
  readonly #directory: string;
  readonly #seal: Seal;

  constructor(options: { readonly directory: string; readonly seal: Seal }) {
    this.#directory = options.directory;
    this.#seal = options.seal;
  }

  /** undefined when this node has none. */
  async load(): Promise<NodeCredentials | undefined> {
    try {
      const [rootPem, chainPem] = await Promise.all([this.#read(names.root), this.#read(names.chain)]);
      const keyPem = await this.#readKey(chainPem);
      return keyPem === undefined ? undefined : { rootPem, chainPem, keyPem };
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
      throw error;
    }
  }

  async save(credentials: NodeCredentials): Promise<void> {
    await mkdir(this.#directory, { recursive: true, mode: 0o700 });
    const sealed = this.#seal.seal(new TextEncoder().encode(credentials.keyPem.reveal()), names.key);
    await this.#replace(names.root, credentials.rootPem, 0o644);
    await this.#replace(`${names.key}.next`, sealed, 0o600);
    crashPoint("certificate.key");
    await this.#replace(names.chain, credentials.chainPem, 0o644);
    crashPoint("certificate.chain");
    await rename(join(this.#directory, `${names.key}.next`), join(this.#directory, names.key));
  }

  async saveRoot(rootPem: Uint8Array): Promise<void> {
    await this.#replace(names.root, rootPem, 0o644);
  }

  async remove(): Promise<void> {
    await rm(this.#directory, { recursive: true, force: true });
  }

  async #readKey(chainPem: Uint8Array): Promise<Secret<string> | undefined> {
    for (const name of [names.key, `${names.key}.next`]) {
      const sealed = await this.#read(name).catch(() => undefined);
      if (sealed === undefined) continue;
      const keyPem = new Secret(new TextDecoder().decode(this.#seal.open(sealed, names.key)));
      if (isKeyOf(keyPem, chainPem)) return keyPem;
    }
    return undefined;
  }

  async #read(name: string): Promise<Uint8Array> {
    return new Uint8Array(await readFile(join(this.#directory, name)));
  }

  async #replace(name: string, bytes: Uint8Array, mode: number): Promise<void> {
    const path = join(this.#directory, name);
    const file = await open(`${path}.tmp`, "w", mode);
    try {
      await file.writeFile(bytes);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(`${path}.tmp`, path);
  }
}

function isKeyOf(keyPem: Secret<string>, chainPem: Uint8Array): boolean {
  const leaf = parseBundle(chainPem)[0];
  return leaf?.checkPrivateKey(createPrivateKey(keyPem.reveal())) ?? false;
}
