import { closeSync } from "node:fs";
import { EngineError } from "../../base/errors.ts";
import { familyOf, formatHostPort, type IpAddress } from "../../base/ip.ts";
import type { Log } from "../../base/log.ts";
import { isBusy, isNotFound, type Kernel, KernelError } from "../../kernel/mod.ts";
import type { PortBinding, PortPublish } from "../model.ts";
import { conflicts, hostAddresses, hostPorts, keptBindings, type PortRange } from "./plan.ts";
import { type Relay, startRelay } from "./relay.ts";

interface Held {
  readonly binding: PortBinding;
  /** Whose it is: an endpoint id. */
  readonly holder: string;
  /** The socket that keeps others off the port; undefined for SCTP and where a restart found the port taken. */
  descriptor: number | undefined;
  relay: Relay | undefined;
}

export interface ReserveRequest {
  readonly holder: string;
  readonly publish: readonly PortPublish[];
  /** Bindings in force before (a restart, a move to another endpoint): the same ports are taken again. */
  readonly earlier: readonly PortBinding[];
  readonly defaultAddress: IpAddress | undefined;
}

/**
 * Host ports of published containers. Each is held by a socket of ours bound to it, so that neither another program nor
 * another container gets it; the packets themselves are translated by the kernel and never reach that socket.
 */
export class HostPorts implements Disposable {
  readonly #kernel: Kernel;
  readonly #log: Log;
  readonly #hasIpv6: boolean;
  readonly #ephemeral: PortRange;
  readonly #held = new Map<string, Held>();
  /** By protocol and port: a range of a thousand ports must not look at a thousand others for each. */
  readonly #byPort = new Map<string, Set<Held>>();
  #next: number;

  constructor(options: {
    readonly kernel: Kernel;
    readonly log: Log;
    readonly hasIpv6: boolean;
    readonly ephemeral: PortRange;
  }) {
    this.#kernel = options.kernel;
    this.#log = options.log;
    this.#hasIpv6 = options.hasIpv6;
    this.#ephemeral = options.ephemeral;
    this.#next = options.ephemeral.first;
  }

  /** All or nothing. @throws {EngineError} in Docker's words, without the endpoint's name around it. */
  reserve(request: ReserveRequest): readonly PortBinding[] {
    const taken: PortBinding[] = [];
    try {
      for (const publish of request.publish) taken.push(...this.#reserveOne(publish, request));
      return taken;
    } catch (error) {
      this.release(request.holder);
      throw error;
    }
  }

  #reserveOne(publish: PortPublish, request: ReserveRequest): readonly PortBinding[] {
    const addresses = hostAddresses(publish, { address: request.defaultAddress, hasIpv6: this.#hasIpv6 });
    const kept = keptBindings(publish, addresses, request.earlier);
    if (kept !== undefined) return this.#retake(kept, request.holder);
    const range = hostPorts(publish, this.#ephemeral);
    const isOpen = publish.hostPortFirst === 0;
    let refusal: EngineError | undefined;
    for (let i = 0; i <= range.last - range.first; i++) {
      const size = range.last - range.first + 1;
      const hostPort = isOpen ? range.first + ((this.#next - range.first + i) % size) : range.first + i;
      const bindings = addresses.map((hostAddress) => ({
        protocol: publish.protocol,
        containerPort: publish.containerPort,
        hostAddress,
        hostPort,
      }));
      try {
        for (const binding of bindings) this.#take(binding, request.holder);
        if (isOpen) this.#next = hostPort + 1 > range.last ? range.first : hostPort + 1;
        return bindings;
      } catch (error) {
        for (const binding of bindings) this.#drop(binding, request.holder);
        if (!(error instanceof EngineError) || error.code !== "conflict") throw error;
        refusal ??= error;
      }
    }
    if (range.first === range.last && refusal !== undefined) throw refusal;
    throw new EngineError("internal", "all ports are allocated"); // compat
  }

  /** Somebody may have taken a port while we were away: what works in the kernel goes on working all the same. */
  #retake(bindings: readonly PortBinding[], holder: string): readonly PortBinding[] {
    for (const binding of bindings) {
      try {
        this.#take(binding, holder);
      } catch (error) {
        if (!(error instanceof EngineError)) throw error;
        this.#log.warn("a published port is held by another program", { ...binding, error: error.message });
        this.#hold({ binding, holder, descriptor: undefined, relay: undefined });
      }
    }
    return bindings;
  }

  #take(binding: PortBinding, holder: string): void {
    if (this.#held.has(keyOf(binding, holder))) return;
    const where = formatHostPort(binding.hostAddress, binding.hostPort);
    for (const other of this.#byPort.get(portOf(binding)) ?? []) {
      if (conflicts(other.binding, binding)) {
        throw new EngineError("conflict", `Bind for ${where} failed: port is already allocated`); // compat
      }
    }
    let descriptor: number | undefined;
    if (binding.protocol !== "sctp") {
      try {
        descriptor = this.#kernel.openSocket("host", {
          type: binding.protocol,
          address: binding.hostAddress,
          portHostOrder: binding.hostPort,
        });
      } catch (error) {
        if (isBusy(error)) {
          throw new EngineError("conflict", `Bind for ${where} failed: port is already allocated`, { cause: error });
        }
        // compat: the words of the reference engine's own bind
        if (isNotFound(error)) {
          throw new EngineError(
            "internal",
            `failed to bind host port for ${where}/${binding.protocol}: cannot assign requested address`,
            { cause: error },
          );
        }
        if (error instanceof KernelError) {
          throw new EngineError("internal", `failed to bind host port for ${where}: ${error.message}`, {
            cause: error,
          });
        }
        throw error;
      }
    }
    this.#hold({ binding, holder, descriptor, relay: undefined });
  }

  #hold(held: Held): void {
    this.#held.set(keyOf(held.binding, held.holder), held);
    const sharing = this.#byPort.get(portOf(held.binding)) ?? new Set();
    this.#byPort.set(portOf(held.binding), sharing.add(held));
  }

  #letGo(held: Held): void {
    this.#held.delete(keyOf(held.binding, held.holder));
    const sharing = this.#byPort.get(portOf(held.binding));
    sharing?.delete(held);
    if (sharing?.size === 0) this.#byPort.delete(portOf(held.binding));
  }

  #drop(binding: PortBinding, holder: string): void {
    const held = this.#held.get(keyOf(binding, holder));
    if (held === undefined) return;
    this.#letGo(held);
    if (held.relay !== undefined) held.relay[Symbol.dispose]();
    else if (held.descriptor !== undefined) closeSync(held.descriptor);
  }

  /** IPv6 on the host, IPv4 only in the container: no kernel NAT does that, so these TCP ports are relayed. */
  startRelays(holder: string, ipv4: IpAddress | undefined, ipv6: IpAddress | undefined): void {
    if (ipv4 === undefined || ipv6 !== undefined) return;
    for (const held of this.#held.values()) {
      const { binding } = held;
      if (held.holder !== holder || held.relay !== undefined || held.descriptor === undefined) continue;
      if (binding.protocol !== "tcp" || familyOf(binding.hostAddress) !== 6) continue;
      held.relay = startRelay({
        descriptor: held.descriptor,
        to: { host: ipv4, port: binding.containerPort },
        log: this.#log,
      });
    }
  }

  /** Gives back what `holder` has. Idempotent. */
  release(holder: string): void {
    for (const held of [...this.#held.values()]) if (held.holder === holder) this.#drop(held.binding, holder);
  }

  /** Hands the ports of one endpoint to another, sockets and all; relays start anew. */
  move(from: string, to: string): void {
    for (const held of [...this.#held.values()]) {
      if (held.holder !== from) continue;
      this.#letGo(held);
      // Node owns a relayed listening socket: it is closed, and the port bound again.
      if (held.relay !== undefined) {
        held.relay[Symbol.dispose]();
        this.#retake([held.binding], to);
      } else this.#hold({ ...held, holder: to });
    }
  }

  [Symbol.dispose](): void {
    for (const held of [...this.#held.values()]) this.#drop(held.binding, held.holder);
  }
}

function portOf({ protocol, hostPort }: PortBinding): string {
  return `${protocol} ${hostPort}`;
}

function keyOf(binding: PortBinding, holder: string): string {
  return `${holder} ${binding.protocol} ${binding.hostAddress} ${binding.hostPort} ${binding.containerPort}`;
}
