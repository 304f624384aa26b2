import { createSocket, type Socket as DatagramSocket, type RemoteInfo } from "node:dgram";
import { createServer, type Server } from "node:net";
import { anySignal } from "../../base/async.ts";
import type { Clock, Instant } from "../../base/clock.ts";
import { DecodeError } from "../../base/errors.ts";
import { parseIp } from "../../base/ip.ts";
import type { Log } from "../../base/log.ts";
import type { Random } from "../../base/random.ts";
import { type Kernel, nsKey } from "../../kernel/mod.ts";
import {
  decodeQuery,
  encodeEmpty,
  encodeRefusal,
  maxMessageSize,
  plainUdpSize,
  type Query,
  rcode,
  truncateTo,
  unanswerable,
} from "../../wire/dns/mod.ts";
import type { DnsServer, DnsServerOptions, Upstream } from "./dns.ts";
import { askOverTcp, UdpExchange } from "./exchange.ts";
import { Forwarder, type Transport } from "./forwarder.ts";
import { answerLocally, type ResolverOptions } from "./resolver.ts";
import { type AnswerStream, StreamClients } from "./stream-clients.ts";

export interface DnsServerDeps {
  readonly kernel: Pick<Kernel, "openSocket" | "openUnbound">;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
}

/** Where containers find their resolver; port 53 there is led to the ports that the server got. */
export const resolverAddress = parseIp("127.0.0.11");
/** Largest payload of a UDP datagram over IPv4. */
const maxUdpPayload = 65507;
const busyLogIntervalMs = 2000;

/** Opens the resolver's sockets; `signal` only covers the opening, disposing the result ends it. */
export async function openDnsServer(
  deps: DnsServerDeps,
  options: DnsServerOptions,
  signal: AbortSignal,
): Promise<DnsServer> {
  signal.throwIfAborted();
  const server = new Resolver(deps, options);
  try {
    await server.listen();
    signal.throwIfAborted();
  } catch (error) {
    await server[Symbol.asyncDispose]();
    throw error;
  }
  return server;
}

class Resolver implements DnsServer {
  readonly #deps: DnsServerDeps;
  readonly #options: DnsServerOptions;
  readonly #local: ResolverOptions;
  readonly #exchange: UdpExchange;
  readonly #forwarder: Forwarder;
  readonly #stop = new AbortController();
  readonly #udp: DatagramSocket;
  readonly #clients: StreamClients;
  readonly #tcp: Server;
  #busyLoggedAt: Instant | undefined;

  constructor(deps: DnsServerDeps, options: DnsServerOptions) {
    this.#deps = deps;
    this.#options = options;
    this.#local = { names: options.names, ndotsConfigured: options.ndotsConfigured, random: deps.random };
    this.#exchange = new UdpExchange(deps);
    this.#forwarder = new Forwarder(deps.clock, (query, upstream, transport, signal) =>
      transport === "udp" ? this.#exchange.ask(query, upstream, signal) : askOverTcp(deps, query, upstream, signal),
    );
    // Replies go to addresses: without this, each would pass through Node's name look-up and a tick.
    this.#udp = createSocket({ type: "udp4", lookup: (host, _options, done) => done(null, host, 4) });
    this.#clients = new StreamClients(deps.clock, (bytes) => this.#answer(bytes, "tcp", maxMessageSize));
    this.#tcp = createServer({ allowHalfOpen: true, noDelay: true }, (socket) => this.#clients.add(socket));
  }

  get udpPort(): number {
    return this.#udp.address().port;
  }

  get tcpPort(): number {
    const address = this.#tcp.address();
    return address !== null && typeof address === "object" ? address.port : 0;
  }

  async listen(): Promise<void> {
    const { kernel, log } = this.#deps;
    const socket = { address: resolverAddress, portHostOrder: 0 };
    this.#udp.on("message", (bytes, client) => this.#onDatagram(bytes, client));
    this.#udp.on("error", (error) => log.warn("name server socket failed", { error }));
    this.#tcp.on("error", (error) => log.warn("name server socket failed", { error }));
    this.#tcp.maxConnections = this.#clients.maxClients;
    this.#udp.bind({ fd: kernel.openSocket(this.#options.namespace, { type: "udp", ...socket }), exclusive: true });
    const fd = kernel.openSocket(this.#options.namespace, { type: "tcp", ...socket });
    await new Promise<void>((resolve, reject) => {
      this.#tcp.once("error", reject);
      this.#tcp.listen({ fd, exclusive: true }, () => {
        this.#tcp.off("error", reject);
        resolve();
      });
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#stop.signal.aborted) return;
    this.#stop.abort();
    this.#exchange[Symbol.dispose]();
    this.#clients[Symbol.dispose]();
    this.#udp.close();
    if (this.#tcp.listening) await new Promise((resolve) => this.#tcp.close(resolve));
  }

  #onDatagram(bytes: Uint8Array, client: RemoteInfo): void {
    const answer = this.#answer(bytes, "udp", maxUdpPayload);
    if (answer instanceof Uint8Array) this.#udp.send(answer, client.port, client.address);
    else if (answer !== undefined) {
      // Never rejects: `#forward` answers for every failure.
      void answer.then((late) => {
        if (!this.#stop.signal.aborted) this.#udp.send(late, client.port, client.address);
      });
    }
  }

  /** Total: whatever the bytes are, it gives an answer at once or later, or none. */
  #answer(bytes: Uint8Array, transport: Transport, capacity: number): ReturnType<AnswerStream> {
    const special = unanswerable(bytes);
    if (special !== undefined) return special.kind === "ignore" ? undefined : encodeRefusal(bytes, special.rcode);
    const query = tryDecode(bytes);
    if (query === undefined) return encodeRefusal(bytes, rcode.formatError);
    const limit = transport === "udp" ? Math.min(query.ednsSize ?? plainUdpSize, capacity) : capacity;
    try {
      return answerLocally(query, limit, this.#local) ?? this.#forward(query, transport, limit);
    } catch (error) {
      this.#deps.log.error("cannot look up a name", { name: query.name, error });
      return encodeEmpty(query, rcode.serverFailure);
    }
  }

  /** A name that becomes ours while an upstream is still being asked is answered at that moment. */
  async #forward(query: Query, transport: Transport, limit: number): Promise<Uint8Array> {
    const local = Promise.withResolvers<Uint8Array>();
    const known = new AbortController();
    using _added = this.#options.names.onAdded(() => {
      const answer = answerLocally(query, limit, this.#local);
      if (answer === undefined) return;
      local.resolve(answer);
      known.abort();
    });
    return await Promise.race([local.promise, this.#askUpstreams(query, transport, limit, known.signal)]);
  }

  async #askUpstreams(query: Query, transport: Transport, limit: number, until: AbortSignal): Promise<Uint8Array> {
    try {
      const upstreams = this.#options.upstreams().filter((upstream) => !this.#isOurs(upstream));
      const signal = anySignal(this.#stop.signal, until);
      const answer = await this.#forwarder.forward(query, upstreams, transport, signal);
      if (answer === "failed") return encodeEmpty(query, rcode.serverFailure);
      if (answer !== "busy") return truncateTo(query, answer, limit);
      this.#logBusy();
      return encodeEmpty(query, rcode.refused);
    } catch (error) {
      this.#deps.log.error("cannot forward a query", { name: query.name, error });
      return encodeEmpty(query, rcode.serverFailure);
    }
  }

  /** 127.0.0.11 in another namespace is another resolver: an engine inside a container has one as its own upstream. */
  #isOurs(upstream: Upstream): boolean {
    return upstream.address === resolverAddress && nsKey(upstream.from) === nsKey(this.#options.namespace);
  }

  #logBusy(): void {
    const now = this.#deps.clock.now();
    if (this.#busyLoggedAt !== undefined && now - this.#busyLoggedAt < busyLogIntervalMs) return;
    this.#busyLoggedAt = now;
    this.#deps.log.warn("too many forwarded queries under way, refusing more");
  }
}

function tryDecode(bytes: Uint8Array): Query | undefined {
  try {
    return decodeQuery(bytes);
  } catch (error) {
    if (error instanceof DecodeError) return undefined;
    throw error;
  }
}
