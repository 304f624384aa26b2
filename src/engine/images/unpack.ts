import { KeyedMutex } from "../../base/async.ts";
import { crashPoint } from "../../base/crash-point.ts";
import { EngineError } from "../../base/errors.ts";
import { newHexId } from "../../base/ids.ts";
import type { Random } from "../../base/random.ts";
import { type Containerd, isAlreadyExists, isNotFound, rawMessage } from "../containerd/mod.ts";
import { chainIds, type Descriptor } from "./codec.ts";
import type { Leased } from "./lease.ts";

/** Turns layers into snapshots named by chain id. One at a time for each snapshot, whoever asks. */
export class Unpacker {
  readonly snapshotter: string;
  readonly #random: Random;
  readonly #mutex = new KeyedMutex();

  constructor(deps: { random: Random; snapshotter: string }) {
    this.#random = deps.random;
    this.snapshotter = deps.snapshotter;
  }

  /** How many layers, from the base, have their snapshot. They are kept by the lease from now on. */
  async unpackedLayers(leased: Leased, diffIds: readonly string[], signal: AbortSignal): Promise<number> {
    const chain = chainIds(diffIds);
    // The top one keeps its parents, so asking from the top mostly needs one question.
    for (let count = chain.length; count > 0; count--) {
      if (await this.#exists(leased, chain[count - 1] as string, signal)) return count;
    }
    return 0;
  }

  /**
   * Ensures the snapshot of `diffIds.at(-1)` on top of the others, which must be there.
   *
   * @throws {EngineError} `invalid` when the layer does not unpack, or unpacks to something else than its diff id.
   */
  async unpack(leased: Leased, layer: Descriptor, diffIds: readonly string[], signal: AbortSignal): Promise<void> {
    const chain = chainIds(diffIds);
    const name = chain.at(-1) as string;
    await this.#mutex.run(name, async () => {
      signal.throwIfAborted();
      if (await this.#exists(leased, name, signal)) return;
      const diffId = diffIds.at(-1) as string;
      await this.#apply(leased.containerd, { layer, diffId, name, parent: chain.at(-2) ?? "" }, signal);
    });
  }

  async #apply(
    containerd: Containerd,
    step: { layer: Descriptor; diffId: string; name: string; parent: string },
    signal: AbortSignal,
  ): Promise<void> {
    const { snapshotter } = this;
    const key = `extract-${newHexId(this.#random).slice(0, 12)} ${step.name}`;
    const { mounts } = await containerd.snapshots.prepare({ snapshotter, key, parent: step.parent }, { signal });
    crashPoint("snapshot.prepare");
    try {
      const { mediaType, digest, sizeBytes } = step.layer;
      const diff = { mediaType, digest, size: BigInt(sizeBytes) };
      const { applied } = await containerd.diff.apply({ diff, mounts }, { signal });
      crashPoint("diff.apply");
      if (applied?.digest !== step.diffId) {
        // compat: dockerd's words
        throw new EngineError("invalid", "layers from manifest don't match image configuration");
      }
      await containerd.snapshots.commit({ snapshotter, key, name: step.name }, { signal });
      crashPoint("snapshot.commit");
    } catch (error) {
      await removeSnapshot(containerd, snapshotter, key);
      if (isAlreadyExists(error)) return;
      if (signal.aborted) throw signal.reason;
      if (error instanceof EngineError) throw error;
      throw new EngineError("invalid", `failed to register layer: ${rawMessage(error)}`, { cause: error });
    }
  }

  async #exists(leased: Leased, name: string, signal: AbortSignal): Promise<boolean> {
    await leased.keep({ id: name, type: `snapshots/${this.snapshotter}` });
    try {
      await leased.containerd.snapshots.stat({ snapshotter: this.snapshotter, key: name }, { signal });
      return true;
    } catch (error) {
      if (isNotFound(error)) return false;
      throw error;
    }
  }
}

async function removeSnapshot(containerd: Containerd, snapshotter: string, key: string): Promise<void> {
  try {
    await containerd.snapshots.remove({ snapshotter, key });
  } catch (error) {
    if (!isNotFound(error)) throw error;
  }
}

/** Bytes on disk of the snapshots under `chain`, each alone. */
export async function chainBytes(
  containerd: Containerd,
  snapshotter: string,
  chain: readonly string[],
): Promise<number> {
  const sizes = await Promise.all(
    chain.map(async (key) => {
      try {
        return Number((await containerd.snapshots.usage({ snapshotter, key })).size);
      } catch (error) {
        if (isNotFound(error)) return 0;
        throw error;
      }
    }),
  );
  return sizes.reduce((sum, size) => sum + size, 0);
}
