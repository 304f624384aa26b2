import { Code, ConnectError } from "@connectrpc/connect";
import { anySignal } from "../../base/async.ts";
import type { Clock } from "../../base/clock.ts";
import { EngineError, messageOf } from "../../base/errors.ts";
import type { Cidr, IpAddress } from "../../base/ip.ts";
import type { Log } from "../../base/log.ts";
import type { Network, NetworkSpec, SwarmNetworks } from "../../network/mod.ts";
import type { Control } from "../manager/control.ts";
import { rpcText, translatingRpc } from "../rpc-errors.ts";
import { decodeNetwork, encodeNetworkSpec } from "../state/network-codec.ts";
import type { ActiveNode } from "./active-node.ts";
import { refusal } from "./texts.ts";

const attachTimeoutMs = 20_000;
const detachTimeoutMs = 5000;
const detachRetryMs = 2000;
const attachRetryMs = 200;
/** The connection or the manager went away; nothing was decided. */
const awayCodes: ReadonlySet<Code> = new Set([Code.Unavailable, Code.Aborted, Code.Canceled]);

export interface SwarmNetworksOptions {
  readonly role: () => SwarmNetworks["role"];
  readonly node: () => ActiveNode | undefined;
  readonly control: () => Control | undefined;
  readonly clock: Clock;
  readonly log: Log;
}

/** The cluster's networks, as this host's network room asks for them. */
export class ClusterNetworks implements SwarmNetworks {
  readonly #options: SwarmNetworksOptions;
  readonly #detaching = new Set<string>();

  constructor(options: SwarmNetworksOptions) {
    this.#options = options;
  }

  get role(): SwarmNetworks["role"] {
    return this.#options.role();
  }

  get dataPath(): SwarmNetworks["dataPath"] {
    const node = this.#options.node();
    return node && { address: node.dataPathAddress, portHostOrder: node.dataPathPort };
  }

  list(): readonly Network[] {
    return this.#options.control()?.networks().map(decodeNetwork) ?? [];
  }

  async create(spec: NetworkSpec, signal: AbortSignal): Promise<Network> {
    signal.throwIfAborted();
    const control = this.#control("create");
    return decodeNetwork(await translatingRpc(() => control.createNetwork(encodeNetworkSpec(spec))));
  }

  async remove(networkId: string, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    const control = this.#control("remove");
    await translatingRpc(() => control.removeNetwork(networkId));
  }

  async attach(
    request: { readonly target: string; readonly addresses: readonly IpAddress[]; readonly containerId: string },
    signal: AbortSignal,
  ): Promise<{ readonly attachmentId: string; readonly networkId: string; readonly addresses: readonly Cidr[] }> {
    const node = this.#options.node();
    if (node === undefined) throw refusal("noSwarm");
    const { target } = request;
    const timeout = this.#options.clock.timeout(attachTimeoutMs);
    const until = anySignal(signal, timeout, node.signal);
    let attachmentId: string | undefined;
    let kept: string | undefined;
    const calls = { unheard: 0 };
    try {
      attachmentId = await node.worker.claim(request, until);
      attachmentId ??= await this.#askUntilHeard({ node, request, calls }, until);
      const running = await node.worker.running(attachmentId, until);
      kept = attachmentId;
      return running;
    } catch (error) {
      if (attachmentId !== undefined) this.#detachLater(node, attachmentId);
      if (timeout.aborted) {
        // compat: what `docker run` prints when the manager does not answer.
        const text =
          "attaching to network failed, make sure your network options are correct and check manager logs: context deadline exceeded";
        throw new EngineError("internal", text, { cause: error });
      }
      if (signal.aborted) throw signal.reason;
      const reason = error instanceof ConnectError ? rpcText(error) : messageOf(error);
      throw new EngineError("internal", `Could not attach to network ${target}: ${reason}`, { cause: error }); // compat:
    } finally {
      if (calls.unheard > 0) {
        node.worker.giveUpUnheard({ wanted: request, kept, giveUp: (id) => this.#detachLater(node, id) });
      }
    }
  }

  /** Waits for the manager for a moment only: what could not be told yet is told later. */
  async detach(attachmentId: string): Promise<void> {
    const node = this.#options.node();
    if (node === undefined) return;
    try {
      await node.agent.detachNetwork(
        attachmentId,
        anySignal(node.signal, this.#options.clock.timeout(detachTimeoutMs)),
      );
    } catch {
      this.#detachLater(node, attachmentId);
    }
  }

  /**
   * After a restart, once all living containers are back: gives up every attachment of an earlier life that is not named.
   * Returns at once; the manager may be away for long.
   */
  async keepOnly(attachmentIds: ReadonlySet<string>): Promise<void> {
    const node = this.#options.node();
    if (node === undefined) return;
    const giveUp = async () => {
      for (const id of await node.worker.unclaimed(attachmentIds, node.signal)) this.#detachLater(node, id);
    };
    void giveUp().catch(() => {}); // only ever ended by the node's own end
  }

  /** A manager that is just being restarted is asked again; what it refuses is final. Counts the calls that may have been granted. */
  async #askUntilHeard(
    asking: {
      readonly node: ActiveNode;
      readonly request: {
        readonly target: string;
        readonly addresses: readonly IpAddress[];
        readonly containerId: string;
      };
      readonly calls: { unheard: number };
    },
    signal: AbortSignal,
  ): Promise<string> {
    const { node, request, calls } = asking;
    for (;;) {
      try {
        return await node.agent.attachNetwork(request, signal);
      } catch (error) {
        if (signal.aborted || (error instanceof ConnectError && awayCodes.has(error.code))) calls.unheard += 1;
        if (signal.aborted || !(error instanceof ConnectError) || !awayCodes.has(error.code)) throw error;
        await this.#options.clock.sleep(attachRetryMs, signal);
      }
    }
  }

  #detachLater(node: ActiveNode, attachmentId: string): void {
    if (this.#detaching.has(attachmentId)) return;
    this.#detaching.add(attachmentId);
    const { clock, log } = this.#options;
    const attempt = async (): Promise<void> => {
      while (!node.signal.aborted) {
        try {
          return await node.agent.detachNetwork(attachmentId, anySignal(node.signal, clock.timeout(detachTimeoutMs)));
        } catch (error) {
          log.debug("cannot detach yet", { attachment: attachmentId, error });
          await clock.sleep(detachRetryMs, node.signal).catch(() => {});
        }
      }
    };
    // Catches everything itself, ends with the node.
    void attempt().finally(() => this.#detaching.delete(attachmentId));
  }

  #control(act: "create" | "remove"): Control {
    const control = this.#options.control();
    if (control !== undefined) return control;
    if (this.role === "none") throw refusal("noSwarm");
    if (act === "remove") throw refusal("notManager");
    const text =
      "Cannot create a multi-host network from a worker node. Please create the network from a manager node."; // compat:
    throw new EngineError("forbidden", text);
  }
}
