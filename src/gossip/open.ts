import { lookup } from "node:dns/promises";
import { Hub } from "../base/async.ts";
import type { Clock } from "../base/clock.ts";
import { DecodeError, EngineError, messageOf } from "../base/errors.ts";
import { isUnspecified, parseIp, tryParseIp } from "../base/ip.ts";
import type { Log } from "../base/log.ts";
import type { Random } from "../base/random.ts";
import type { Gossip, GossipKey, GossipMember, GossipOptions, TableEvent } from "./gossip.ts";
import { type Keyring, keyringOf } from "./keyring.ts";
import * as machine from "./machine.ts";
import { entriesOf, isJoined, peersOf } from "./networkdb/model.ts";
import type { StreamMessage } from "./swim/codec.ts";
import { membersOf } from "./swim/machine.ts";
import { type DelegateVersions, type Endpoint, formatEndpoint } from "./swim/model.ts";
import { decodePacket, encodePackets } from "./swim/packet.ts";
import { encodeStream, StreamDecoder } from "./swim/stream.ts";
import { openTransport, type Transport } from "./transport.ts";

export interface GossipDeps {
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
}

export interface OpenGossipOptions extends GossipOptions {
  /** 0,0,0 unless told: Docker's. serf wants 2,5,5. */
  readonly delegateVersions?: DelegateVersions;
}

const dockerDelegateVersions: DelegateVersions = [0, 0, 0];
const defaultPort = 7946;
/** The goodbye goes straight to few members, and by gossip to many. */
const goodbyeMs = { few: 250, many: 1_000 } as const;
const fewMembers = 16;

/**
 * Starts to listen; alone until `join`. Sockets are bound in the network namespace of the calling thread. Aborting
 * `signal` closes without a goodbye.
 *
 * @throws {EngineError} `invalid` for unusable keys or addresses, `unavailable` when the port is taken.
 */
export async function openGossip(deps: GossipDeps, options: OpenGossipOptions, signal: AbortSignal): Promise<Gossip> {
  if (isUnspecified(options.advertiseAddress)) {
    throw new EngineError("invalid", `Cannot advertise ${options.advertiseAddress} to other nodes`);
  }
  const node = machine.createNode(
    {
      name: Buffer.from(deps.random.bytes(6)).toString("hex"),
      advertise: { address: options.advertiseAddress, portHostOrder: options.portHostOrder },
      delegateVersions: options.delegateVersions ?? dockerDelegateVersions,
      isEncrypted: true,
      random: deps.random,
    },
    deps.clock.now(),
  );
  const engine = new GossipEngine(deps, node, keyringOf(options.keys));
  const transport = await openTransport(
    { clock: deps.clock, log: deps.log, handlers: engine.handlers },
    options,
    signal,
  );
  engine.start(transport, signal);
  signal.throwIfAborted();
  return engine;
}

/** The attempts that one call of `join` began. */
interface JoinRound {
  pending: number;
  readonly done: () => void;
}

/** Runs the machine: feeds it packets and time, does what it says, tells the watchers. Decides nothing. */
class GossipEngine implements Gossip {
  readonly nodeName: string;
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #log: Log;
  readonly #node: machine.GossipNode;
  readonly #changes = new Hub<TableEvent>();
  readonly #syncs = new Map<string, (() => void)[]>();
  #keyring: Keyring;
  #transport: Transport | undefined;
  #timer: Disposable | undefined;
  #isTickQueued = false;
  readonly #closing = new AbortController();
  #joinRound: JoinRound | undefined;
  #isClosed = false;

  constructor(deps: GossipDeps, node: machine.GossipNode, keyring: Keyring) {
    this.nodeName = node.config.name;
    this.#clock = deps.clock;
    this.#random = deps.random;
    this.#log = deps.log;
    this.#node = node;
    this.#keyring = keyring;
  }

  get handlers() {
    return {
      packet: (bytes: Uint8Array, from: Endpoint) => this.#packet(bytes, from),
      decoder: () => new StreamDecoder(this.#keyring),
      encode: (message: StreamMessage) => encodeStream(message, this.#keyring, this.#random),
      request: (message: StreamMessage) => this.#request(message),
    };
  }

  start(transport: Transport, signal: AbortSignal): void {
    this.#transport = transport;
    // Closing sockets and a timer cannot fail in a way that anybody could act upon.
    signal.addEventListener("abort", () => void this[Symbol.asyncDispose](), {
      once: true,
      signal: this.#closing.signal,
    });
    if (signal.aborted) void this[Symbol.asyncDispose]();
    else this.#schedule();
  }

  async join(addresses: readonly string[]): Promise<void> {
    const endpoints = (await Promise.all(addresses.map((address) => this.#resolve(address)))).flat();
    this.#assertOpen();
    const before = this.#joinRound;
    const { promise, resolve } = Promise.withResolvers<void>();
    const round: JoinRound = { pending: 0, done: resolve };
    this.#joinRound = round;
    before?.done();
    this.#run({ kind: "join", endpoints });
    // Counted while the outputs were carried out: nothing to wait for when all are members already.
    if (round.pending === 0) resolve();
    await promise;
  }

  setKeys(keys: readonly GossipKey[]): void {
    this.#keyring = keyringOf(keys);
  }

  async joinNetwork(networkId: string): Promise<void> {
    this.#assertOpen();
    const { promise, resolve } = Promise.withResolvers<void>();
    const waiting = this.#syncs.get(networkId) ?? [];
    this.#syncs.set(networkId, [...waiting, resolve]);
    try {
      this.#run({ kind: "join-network", networkId });
    } catch (error) {
      if (waiting.length > 0) this.#syncs.set(networkId, waiting);
      else this.#syncs.delete(networkId);
      throw error;
    }
    await promise;
  }

  leaveNetwork(networkId: string): void {
    this.#run({ kind: "leave-network", networkId });
  }

  put(table: string, networkId: string, key: string, value: Uint8Array): void {
    this.#assertOpen();
    this.#run({ kind: "put", table, networkId, key, value });
  }

  remove(table: string, networkId: string, key: string): void {
    this.#run({ kind: "remove", table, networkId, key, value: new Uint8Array() });
  }

  entries(table: string, networkId: string): readonly TableEvent[] {
    return entriesOf(this.#node.db, table, networkId);
  }

  watch(table: string, networkId: string, listener: (event: TableEvent) => void): Disposable {
    const known = this.entries(table, networkId).filter(({ owner }) => owner !== this.nodeName);
    const listening = this.#changes.listen((event) => {
      if (event.table === table && event.networkId === networkId) listener(event);
    });
    for (const event of known) listener(event);
    return listening;
  }

  members(): readonly GossipMember[] {
    return membersOf(this.#node.swim).map(({ name, address, state }) => ({ name, address, state }));
  }

  networkPeers(networkId: string): readonly Pick<GossipMember, "name" | "address">[] {
    const peers = peersOf(this.#node.db, networkId).map(({ name, address }) => ({ name, address }));
    if (!isJoined(this.#node.db, networkId)) return peers;
    return [{ name: this.nodeName, address: this.#node.config.advertise.address }, ...peers];
  }

  async leave(): Promise<void> {
    if (this.#isClosed) return;
    this.#run({ kind: "leave" });
    const others = this.members().filter(({ state, name }) => state === "alive" && name !== this.nodeName).length;
    if (others > 0) {
      const waitMs = others <= fewMembers ? goodbyeMs.few : goodbyeMs.many;
      await new Promise<void>((done) => this.#clock.after(waitMs, done));
    }
    await this[Symbol.asyncDispose]();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#closing.abort();
    this.#timer?.[Symbol.dispose]();
    this.#joinRound?.done();
    for (const waiting of this.#syncs.values()) for (const done of waiting) done();
    this.#syncs.clear();
    await this.#transport?.[Symbol.asyncDispose]();
  }

  #packet(bytes: Uint8Array, from: Endpoint): void {
    try {
      const { messages, damaged } = decodePacket(bytes, this.#keyring);
      if (damaged > 0)
        this.#log.debug("parts of a gossip packet were left out", { from: formatEndpoint(from), damaged });
      this.#run({ kind: "packet", from, messages });
    } catch (error) {
      if (!(error instanceof DecodeError)) throw error;
      this.#log.debug("a gossip packet could not be read", { from: formatEndpoint(from), error: error.message });
    }
  }

  #request(message: StreamMessage): StreamMessage | undefined {
    if (this.#isClosed) return undefined;
    return this.#run({ kind: "stream", message });
  }

  /** One step and all that it asks for; returns the reply, where the input is a request. */
  #run(input: machine.NodeInput): StreamMessage | undefined {
    if (this.#isClosed) return undefined;
    let reply: StreamMessage | undefined;
    for (const output of machine.step(this.#node, input, this.#clock.now())) {
      if (output.kind === "stream-reply") reply = output.message;
      else this.#perform(output);
    }
    this.#schedule(input.kind === "tick");
    return reply;
  }

  #perform(output: Exclude<machine.NodeOutput, { kind: "stream-reply" }>): void {
    switch (output.kind) {
      case "packet": {
        const options = { keyring: this.#keyring, random: this.#random, withCrc: output.withCrc };
        for (const packet of encodePackets(output.parts, options)) this.#transport?.send(output.to, packet);
        return;
      }
      case "stream-ping":
        // Logs and swallows its own failures, as do the two below.
        void this.#converse(output.to, output.message, output.timeoutMs).then((answer) => {
          if (answer?.kind === "ack") this.#run({ kind: "stream-ack", sequence: answer.sequence });
        });
        return;
      case "push-pull":
        void this.#pushPull(output);
        return;
      case "user-stream":
        void this.#userStream(output);
        return;
      case "change":
        this.#changes.emit(output.event);
        return;
      case "synced": {
        const waiting = this.#syncs.get(output.networkId) ?? [];
        this.#syncs.delete(output.networkId);
        for (const done of waiting) done();
        return;
      }
      case "note":
        this.#log[output.level](output.message, output.facts);
    }
  }

  async #pushPull({ to, message }: Extract<machine.NodeOutput, { kind: "push-pull" }>): Promise<void> {
    const round = message.isJoin ? this.#joinRound : undefined;
    if (round !== undefined) round.pending += 1;
    const answer = await this.#converse(to, message);
    if (answer?.kind === "push-pull") {
      this.#run({ kind: "push-pull-answer", isJoin: message.isJoin, message: answer });
      round?.done();
    }
    if (round === undefined) return;
    round.pending -= 1;
    if (round.pending === 0) round.done();
  }

  async #userStream({ to, endpoint, payload }: Extract<machine.NodeOutput, { kind: "user-stream" }>): Promise<void> {
    try {
      await this.#transport?.converse(endpoint, { kind: "user", payload }, { awaitAnswer: false });
    } catch (error) {
      this.#log.debug("a gossip message could not be delivered", { to, error: messageOf(error) });
      this.#run({ kind: "stream-failed", to });
    }
  }

  async #converse(to: Endpoint, message: StreamMessage, timeoutMs?: number): Promise<StreamMessage | undefined> {
    try {
      const limit = timeoutMs === undefined ? {} : { timeoutMs };
      const answer = await this.#transport?.converse(to, message, { awaitAnswer: true, ...limit });
      if (answer?.kind !== "error") return answer;
      this.#log.warn("a gossip peer refused us", { to: formatEndpoint(to), error: answer.message });
    } catch (error) {
      this.#log.debug("a gossip peer does not answer", { to: formatEndpoint(to), error: messageOf(error) });
    }
    return undefined;
  }

  /** Own news leaves within this turn of the event loop, so that several changes made together share a packet. */
  #schedule(wasTick = false): void {
    if (this.#isClosed || this.#isTickQueued) return;
    this.#timer?.[Symbol.dispose]();
    this.#timer = undefined;
    const delayMs = machine.nextDeadline(this.#node) - this.#clock.now();
    if (delayMs <= 0 && !wasTick) {
      this.#isTickQueued = true;
      queueMicrotask(() => {
        this.#isTickQueued = false;
        this.#run({ kind: "tick" });
      });
      return;
    }
    this.#timer = this.#clock.after(Math.max(1, delayMs), () => this.#run({ kind: "tick" }));
  }

  async #resolve(address: string): Promise<Endpoint[]> {
    const { host, port } = splitHostPort(address);
    const ip = tryParseIp(host);
    if (ip !== undefined) return [{ address: ip, portHostOrder: port }];
    try {
      const found = await lookup(host, { all: true });
      return found.map((entry) => ({ address: parseIp(entry.address), portHostOrder: port }));
    } catch (error) {
      this.#log.warn("a gossip address does not resolve", { address, error: messageOf(error) });
      return [];
    }
  }

  #assertOpen(): void {
    if (this.#isClosed) throw new EngineError("unavailable", "the gossip of this node is closed");
  }
}

/** `host`, `host:port`, `[v6]:port` or a bare IPv6 address. */
function splitHostPort(address: string): { readonly host: string; readonly port: number } {
  const match = /^(?:\[([^\]]+)\]|([^:]+))(?::(\d{1,5}))?$/.exec(address);
  if (match === null) {
    if (tryParseIp(address) !== undefined) return { host: address, port: defaultPort };
    throw new EngineError("invalid", `Cannot join gossip at "${address}": expected host:port`);
  }
  const port = Number(match[3] ?? defaultPort);
  return { host: (match[1] ?? match[2]) as string, port };
}
