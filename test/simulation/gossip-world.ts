import assert from "node:assert/strict";
import { DecodeError } from "../../src/base/errors.ts";
import { parseIp } from "../../src/base/ip.ts";
import { type Random, seededRandom } from "../../src/base/random.ts";
import type { GossipKey, TableEvent } from "../../src/gossip/gossip.ts";
import { type Keyring, keyringOf } from "../../src/gossip/keyring.ts";
import * as machine from "../../src/gossip/machine.ts";
import { entriesOf, isJoined, peersOf } from "../../src/gossip/networkdb/model.ts";
import type { StreamMessage } from "../../src/gossip/swim/codec.ts";
import { membersOf } from "../../src/gossip/swim/machine.ts";
import { type Endpoint, formatEndpoint } from "../../src/gossip/swim/model.ts";
import { decodePacket, encodePackets } from "../../src/gossip/swim/packet.ts";
import { encodeStream, StreamDecoder } from "../../src/gossip/swim/stream.ts";

export const table = "overlay_peer_table";

export interface WorldOptions {
  readonly seed: number;
  /** Share of datagrams lost, 0 to 100. */
  readonly lossPercent?: number;
  readonly keys?: readonly GossipKey[];
}

/** One daemon's gossip at an address. What its watchers were told is kept as a map, as a user of it would. */
export interface Host {
  readonly node: machine.GossipNode;
  readonly endpoint: Endpoint;
  readonly name: string;
  keyring: Keyring;
  isRunning: boolean;
  tickAt: number;
  readonly seen: Map<string, TableEvent>;
  readonly synced: Map<string, number>;
  /** Told of every change and end of a first exchange, as the watchers of a real daemon are. */
  listener: ((output: Extract<machine.NodeOutput, { kind: "change" | "synced" }>) => void) | undefined;
}

interface Due {
  readonly at: number;
  readonly order: number;
  readonly run: () => void;
}

/** Many nodes, one virtual clock and a network that loses, delays and cuts, all drawn from one seed. */
export class World {
  readonly hosts: Host[] = [];
  readonly random: Random;
  readonly lossPercent: number;
  now = 0;
  packets = 0;
  readonly #keys: readonly GossipKey[];
  #due: Due[] = [];
  #order = 0;
  #isCut: (a: string, b: string) => boolean = () => false;

  constructor(options: WorldOptions) {
    this.random = seededRandom(options.seed);
    this.lossPercent = options.lossPercent ?? 0;
    this.#keys = options.keys ?? [1, 2, 3].map((n) => key(n));
  }

  start(address: string): Host {
    const endpoint = { address: parseIp(address), portHostOrder: 7946 };
    const name = Buffer.from(this.random.bytes(6)).toString("hex");
    const node = machine.createNode(
      { name, advertise: endpoint, delegateVersions: [0, 0, 0], isEncrypted: true, random: this.random },
      this.now,
    );
    const host: Host = {
      node,
      endpoint,
      name,
      keyring: keyringOf(this.#keys),
      isRunning: true,
      tickAt: Number.POSITIVE_INFINITY,
      seen: new Map(),
      synced: new Map(),
      listener: undefined,
    };
    this.hosts.push(host);
    this.#plan(host);
    return host;
  }

  /** `count` hosts, all joined through the first. */
  startCluster(count: number): Host[] {
    const hosts = Array.from({ length: count }, (_, i) => this.start(`10.0.${i >> 8}.${(i & 255) + 1}`));
    for (const host of hosts.slice(1)) this.join(host, [hosts[0] as Host]);
    return hosts;
  }

  crash(host: Host): void {
    host.isRunning = false;
  }

  /** Packets and streams between hosts for which `isCut` holds are lost, both ways. */
  cut(isCut: (addressA: string, addressB: string) => boolean): void {
    this.#isCut = isCut;
  }

  join(host: Host, through: readonly Host[]): void {
    this.feed(host, { kind: "join", endpoints: through.map(({ endpoint }) => endpoint) });
  }

  joinNetwork(host: Host, networkId: string): void {
    this.feed(host, { kind: "join-network", networkId });
  }

  put(host: Host, networkId: string, entryKey: string, value: string): void {
    this.feed(host, { kind: "put", table, networkId, key: entryKey, value: Buffer.from(value) });
  }

  remove(host: Host, networkId: string, entryKey: string): void {
    this.feed(host, { kind: "remove", table, networkId, key: entryKey, value: new Uint8Array() });
  }

  feed(host: Host, input: machine.NodeInput): StreamMessage | undefined {
    let reply: StreamMessage | undefined;
    for (const output of machine.step(host.node, input, this.now)) {
      if (output.kind === "stream-reply") reply = output.message;
      else this.#perform(host, output);
    }
    this.#plan(host);
    return reply;
  }

  runFor(ms: number): void {
    const end = this.now + ms;
    while (this.runNext(end));
    this.now = end;
  }

  /** Runs the next thing that is due by `end`; false when there is none. */
  runNext(end: number): boolean {
    const next = this.#due[0];
    if (next === undefined || next.at > end) return false;
    this.#pop();
    this.now = Math.max(this.now, next.at);
    next.run();
    return true;
  }

  /** Runs something of the caller's at its time. */
  after(delayMs: number, run: () => void): Disposable {
    let isDisposed = false;
    this.#after(delayMs, () => {
      if (!isDisposed) run();
    });
    return {
      [Symbol.dispose]() {
        isDisposed = true;
      },
    };
  }

  isCut(addressA: string, addressB: string): boolean {
    return this.#isCut(addressA, addressB);
  }

  /** Runs until `holds`; returns how long that took. */
  runUntil(what: string, holds: () => boolean, limitMs: number): number {
    const start = this.now;
    while (!holds()) {
      assert.ok(this.now - start < limitMs, `not within ${limitMs} ms: ${what}`);
      this.runFor(20);
    }
    return this.now - start;
  }

  running(): Host[] {
    return this.hosts.filter(({ isRunning }) => isRunning);
  }

  /** Whether every running host that is in the network holds exactly these entries, in its table and as told to watchers. */
  agrees(networkId: string, expected: Readonly<Record<string, string>>): boolean {
    const wanted = JSON.stringify(Object.entries(expected).sort());
    return this.running().every((host) => {
      if (!isJoined(host.node.db, networkId)) return true;
      const own = entriesOf(host.node.db, table, networkId);
      const told = [...host.seen.values()].filter((e) => e.networkId === networkId);
      const mine = own.filter(({ owner }) => owner === host.name);
      return asText(own) === wanted && asText([...told, ...mine]) === wanted;
    });
  }

  seesAlive(host: Host, count: number): boolean {
    return membersOf(host.node.swim).filter(({ state }) => state === "alive").length === count;
  }

  allAlive(): boolean {
    const running = this.running();
    return running.every((host) => this.seesAlive(host, running.length));
  }

  peers(host: Host, networkId: string): string[] {
    return peersOf(host.node.db, networkId)
      .map(({ name }) => name)
      .sort((a, b) => (a < b ? -1 : 1));
  }

  #perform(host: Host, output: Exclude<machine.NodeOutput, { kind: "stream-reply" }>): void {
    const { random } = this;
    switch (output.kind) {
      case "packet":
        for (const bytes of encodePackets(output.parts, { keyring: host.keyring, random, withCrc: output.withCrc })) {
          assert.ok(bytes.length <= 1440, `a packet of ${bytes.length} bytes`);
          this.#packet(host, output.to, bytes);
        }
        return;
      case "stream-ping":
        this.#converse(host, output.to, output.message, (answer) => {
          if (answer?.kind === "ack") this.feed(host, { kind: "stream-ack", sequence: answer.sequence });
        });
        return;
      case "push-pull": {
        const { isJoin } = output.message;
        this.#converse(host, output.to, output.message, (answer) => {
          if (answer?.kind === "push-pull") this.feed(host, { kind: "push-pull-answer", isJoin, message: answer });
        });
        return;
      }
      case "user-stream":
        this.#converse(host, output.endpoint, { kind: "user", payload: output.payload }, (_, isDelivered) => {
          if (!isDelivered) this.feed(host, { kind: "stream-failed", to: output.to });
        });
        return;
      case "change": {
        const { event } = output;
        const path = `${event.table}/${event.networkId}/${event.key}`;
        if (event.kind === "put") host.seen.set(path, event);
        else assert.ok(host.seen.delete(path), `told of the end of ${path} without its beginning`);
        host.listener?.(output);
        return;
      }
      case "synced":
        host.synced.set(output.networkId, this.now);
        host.listener?.(output);
        return;
      case "note":
        assert.notEqual(output.message, "push/pull refused", JSON.stringify(output.facts));
    }
  }

  #packet(from: Host, to: Endpoint, bytes: Uint8Array): void {
    this.packets += 1;
    if (this.random.below(100) < this.lossPercent) return;
    this.#after(this.#latencyMs(), () => {
      const receiver = this.#reach(from, to);
      if (receiver === undefined) return;
      try {
        const { messages } = decodePacket(bytes, receiver.keyring);
        this.feed(receiver, { kind: "packet", from: from.endpoint, messages });
      } catch (error) {
        // A key that the receiver does not have: lost, as on a real wire.
        if (!(error instanceof DecodeError)) throw error;
      }
    });
  }

  #converse(
    from: Host,
    to: Endpoint,
    message: StreamMessage,
    done: (answer: StreamMessage | undefined, isDelivered: boolean) => void,
  ): void {
    const bytes = encodeStream(message, from.keyring, this.random);
    const finish = (delayMs: number, answer: StreamMessage | undefined, isDelivered: boolean) =>
      this.#after(delayMs, () => {
        if (from.isRunning) done(answer, isDelivered);
      });
    this.#after(2 * this.#latencyMs(), () => {
      const receiver = this.#reach(from, to);
      if (receiver === undefined) {
        finish(10_000, undefined, false);
        return;
      }
      try {
        const request = new StreamDecoder(receiver.keyring).push(bytes);
        assert.ok(request !== undefined);
        const reply = this.feed(receiver, { kind: "stream", message: request });
        const answer =
          reply && new StreamDecoder(from.keyring).push(encodeStream(reply, receiver.keyring, this.random));
        finish(this.#latencyMs(), answer, true);
      } catch (error) {
        if (!(error instanceof DecodeError)) throw error;
        finish(this.#latencyMs(), undefined, false);
      }
    });
  }

  #reach(from: Host, to: Endpoint): Host | undefined {
    if (!from.isRunning || this.#isCut(from.endpoint.address, to.address)) return undefined;
    return this.hosts.find((host) => host.isRunning && formatEndpoint(host.endpoint) === formatEndpoint(to));
  }

  #latencyMs(): number {
    return 0.2 + this.random.below(1000) / 500;
  }

  #plan(host: Host): void {
    const at = Math.max(this.now, machine.nextDeadline(host.node));
    if (host.tickAt <= at && host.tickAt > this.now) return;
    host.tickAt = at;
    this.#after(at - this.now, () => {
      // A plan made later with an earlier time has replaced this one.
      if (!host.isRunning || host.tickAt !== at) return;
      host.tickAt = Number.POSITIVE_INFINITY;
      this.feed(host, { kind: "tick" });
    });
  }

  #after(delayMs: number, run: () => void): void {
    const due = { at: this.now + delayMs, order: this.#order++, run };
    const heap = this.#due;
    let i = heap.push(due) - 1;
    while (i > 0) {
      const parent = (i - 1) >> 1;
      if (!isBefore(heap[i] as Due, heap[parent] as Due)) break;
      [heap[i], heap[parent]] = [heap[parent] as Due, heap[i] as Due];
      i = parent;
    }
  }

  #pop(): void {
    const heap = this.#due;
    const last = heap.pop() as Due;
    if (heap.length === 0) return;
    heap[0] = last;
    for (let i = 0; ; ) {
      const [left, right] = [2 * i + 1, 2 * i + 2];
      let least = i;
      if (left < heap.length && isBefore(heap[left] as Due, heap[least] as Due)) least = left;
      if (right < heap.length && isBefore(heap[right] as Due, heap[least] as Due)) least = right;
      if (least === i) return;
      [heap[i], heap[least]] = [heap[least] as Due, heap[i] as Due];
      i = least;
    }
  }
}

/** Runs one scenario with several seeds; a failure names its seed. `SEED` in the environment picks one. */
export function withSeeds(seeds: readonly number[], scenario: (seed: number) => void): void {
  const chosen = process.env["SEED"];
  for (const seed of chosen === undefined ? seeds : [Number(chosen)]) {
    try {
      scenario(seed);
    } catch (error) {
      throw new Error(`failed with SEED=${seed}: ${(error as Error).message}`, { cause: error });
    }
  }
}

export function key(n: number): GossipKey {
  return { key: new Uint8Array(16).fill(n), lamportTime: BigInt(n) };
}

function isBefore(a: Due, b: Due): boolean {
  return a.at < b.at || (a.at === b.at && a.order < b.order);
}

function asText(events: readonly TableEvent[]): string {
  return JSON.stringify(events.map((e) => [e.key, Buffer.from(e.value).toString()]).sort());
}
