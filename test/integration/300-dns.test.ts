import assert from "node:assert/strict";
import { createSocket } from "node:dgram";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer, Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import dnsPacket, { type Answer, type DecodedPacket, type RecordType } from "dns-packet";
import { systemClock } from "../../src/base/clock.ts";
import { parseIp } from "../../src/base/ip.ts";
import { silentLog } from "../../src/base/log.ts";
import { seededRandom, systemRandom } from "../../src/base/random.ts";
import { type Kernel, type Netns, openKernel } from "../../src/kernel/mod.ts";
import { type DnsServer, openDnsServer, openNameTable, type Upstream } from "../../src/network/dns/mod.ts";
import { FrameDecoder, frame } from "../../src/wire/dns/mod.ts";

const signal = new AbortController().signal;
const resolver = "127.0.0.11";
const isRoot = process.getuid?.() === 0;

/** A name server of our own on the test process's loopback, or in a namespace. */
interface Fake {
  readonly upstream: Upstream;
  readonly asked: string[];
  readonly transports: string[];
}
type Reply = (question: { name: string; type: RecordType }, query: Buffer) => Buffer | readonly Buffer[] | undefined;

describe("a resolver inside a namespace", { skip: isRoot ? false : "needs root" }, () => {
  const cleanup = new AsyncDisposableStack();
  const table = openNameTable();
  let kernel: Kernel;
  let namespace: Netns;
  let server: DnsServer;
  let upstreams: readonly Upstream[] = [];

  before(async () => {
    const directory = mkdtempSync(join(tmpdir(), "weft-dns-"));
    cleanup.defer(() => rmSync(directory, { recursive: true, force: true }));
    const opened = await openKernel({ log: silentLog }, signal);
    cleanup.use(opened);
    kernel = opened;
    const path = join(directory, "sandbox");
    namespace = { path };
    cleanup.defer(() => kernel.reconcile("sandbox/dns-test", [], signal));
    await kernel.reconcile(
      "sandbox/dns-test",
      [
        { kind: "netns", path },
        { kind: "link", ns: namespace, link: { type: "loopback" } },
      ],
      signal,
    );
    table.set("n1", "e1", { names: ["Web", "app"], addresses: [parseIp("10.0.0.2")] });
    table.set("n1", "e2", { names: ["web2", "app"], addresses: [parseIp("10.0.0.3"), parseIp("fd00::3")] });
    for (let i = 0; i < 100; i++) table.set("n1", `m${i}`, { names: ["many"], addresses: [parseIp(`10.0.1.${i}`)] });
    server = await openDnsServer(
      { kernel, clock: systemClock, random: systemRandom, log: silentLog },
      {
        namespace,
        names: table.view(() => [{ id: "n1", name: "front", links: new Map() }]),
        upstreams: () => upstreams,
        ndotsConfigured: false,
      },
      signal,
    );
    cleanup.use(server);
  });
  after(() => cleanup.disposeAsync());

  function packet(name: string, type: RecordType, udpPayloadSize?: number): Buffer {
    return dnsPacket.encode({
      type: "query",
      id: Math.floor(Math.random() * 65536),
      flags: dnsPacket.RECURSION_DESIRED,
      questions: [{ name, type }],
      additionals:
        udpPayloadSize === undefined
          ? []
          : [
              {
                type: "OPT",
                name: ".",
                udpPayloadSize,
                extendedRcode: 0,
                ednsVersion: 0,
                flags: 0,
                flag_do: false,
                options: [],
              },
            ],
    });
  }

  /** One datagram out of the sandbox, one back. */
  function overUdp(bytes: Uint8Array, timeoutMs = 6000): Promise<Buffer | undefined> {
    const socket = createSocket("udp4");
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => finish(undefined), timeoutMs);
      const finish = (answer: Buffer | undefined) => {
        clearTimeout(timer);
        socket.close();
        resolve(answer);
      };
      socket.on("message", (answer) => finish(answer));
      socket.on("error", reject);
      socket.bind({ fd: kernel.openUnbound(namespace, "udp4") });
      socket.send(bytes, server.udpPort, resolver);
    });
  }

  function connect(): Socket {
    const socket = new Socket({ fd: kernel.openUnbound(namespace, "tcp4"), allowHalfOpen: true });
    return socket.connect(server.tcpPort, resolver);
  }

  /** All messages that come until the server has hung up or `count` are there. */
  function read(socket: Socket, count: number): Promise<Buffer[]> {
    const decoder = new FrameDecoder();
    const got: Buffer[] = [];
    return new Promise((resolve, reject) => {
      socket.on("data", (chunk: Buffer) => {
        got.push(...decoder.push(chunk).map((m) => Buffer.from(m)));
        if (got.length >= count) resolve(got);
      });
      socket.on("end", () => resolve(got));
      socket.on("error", reject);
    });
  }

  async function ask(
    name: string,
    type: RecordType = "A",
    transport: "udp" | "tcp" = "udp",
  ): Promise<DecodedPacket & { rcode: string }> {
    const query = packet(name, type);
    let answer: Buffer | undefined;
    // As every client does: a datagram may be lost while the socket's buffer is full.
    if (transport === "udp") answer = (await overUdp(query, 2000)) ?? (await overUdp(query));
    else {
      const socket = connect();
      socket.write(frame(query));
      [answer] = await read(socket, 1);
      socket.destroy();
    }
    assert.ok(answer !== undefined, `no answer for ${name}`);
    assert.equal(answer.readUInt16BE(0), query.readUInt16BE(0));
    return dnsPacket.decode(answer) as DecodedPacket & { rcode: string };
  }

  const data = (answers: Answer[] | undefined) =>
    (answers ?? []).map((a) => ("data" in a ? String(a.data) : "")).sort();

  async function openFake(address: string, reply: Reply, from: Netns = "host"): Promise<Fake> {
    const asked: string[] = [];
    const transports: string[] = [];
    const answer = (query: Buffer, transport: string) => {
      const [question] = (dnsPacket.decode(query) as DecodedPacket).questions ?? [];
      assert.ok(question !== undefined);
      asked.push(question.name);
      transports.push(transport);
      return [reply(question as { name: string; type: RecordType }, query) ?? []].flat();
    };
    const udp = createSocket("udp4");
    const ip = parseIp(address);
    udp.on("message", (query, client) => {
      for (const bytes of answer(query, "udp")) udp.send(bytes, client.port, client.address);
    });
    udp.bind({ fd: kernel.openSocket(from, { type: "udp", address: ip, portHostOrder: 0 }) });
    const portHostOrder = udp.address().port;
    const tcp = createServer((socket) => {
      const decoder = new FrameDecoder();
      socket.on("data", (chunk: Buffer) => {
        for (const m of decoder.push(chunk))
          for (const bytes of answer(Buffer.from(m), "tcp")) socket.write(frame(bytes));
      });
      socket.on("error", () => {});
    });
    const fd = kernel.openSocket(from, { type: "tcp", address: ip, portHostOrder });
    await new Promise<void>((resolve) => tcp.listen({ fd }, resolve));
    cleanup.defer(() => {
      udp.close();
      tcp.close();
    });
    return { upstream: { address: ip, portHostOrder, from }, asked, transports };
  }

  function respond(query: Buffer, ip: string, rcode = 0): Buffer {
    const decoded = dnsPacket.decode(query) as DecodedPacket;
    const [question] = decoded.questions ?? [];
    return dnsPacket.encode({
      type: "response",
      id: query.readUInt16BE(0),
      flags: dnsPacket.RECURSION_AVAILABLE | rcode,
      questions: decoded.questions ?? [],
      answers: rcode === 0 ? [{ type: "A", name: question?.name ?? "", data: ip, ttl: 5 }] : [],
    });
  }

  test("answers names, addresses and MX of its own, over UDP and TCP", async () => {
    upstreams = [];
    for (const transport of ["udp", "tcp"] as const) {
      assert.deepEqual(data((await ask("wEB", "A", transport)).answers), ["10.0.0.2"]);
      assert.deepEqual(data((await ask("app.front", "A", transport)).answers), ["10.0.0.2", "10.0.0.3"]);
      assert.deepEqual(data((await ask("app", "AAAA", transport)).answers), ["fd00::3"]);
      assert.deepEqual(data((await ask("2.0.0.10.in-addr.arpa", "PTR", transport)).answers), ["Web.front"]);
      const empty = await ask("web", "AAAA", transport);
      assert.deepEqual([empty.rcode, empty.answers?.length], ["NOERROR", 0]);
      const mx = await ask("web", "MX", transport);
      assert.deepEqual([mx.rcode, mx.answers?.length], ["NOERROR", 0]);
      assert.equal((await ask("nowhere.example", "A", transport)).rcode, "SERVFAIL");
    }
  });

  test("shuffles", async () => {
    const firsts = new Set<string>();
    for (let i = 0; i < 40; i++) {
      const [first] = (await ask("app")).answers ?? [];
      if (first?.type === "A") firsts.add(first.data);
    }
    assert.equal(firsts.size, 2);
  });

  test("is not there outside its namespace", async () => {
    const socket = new Socket();
    const failure = await new Promise<NodeJS.ErrnoException>((resolve) => {
      socket.on("error", resolve);
      socket.connect(server.tcpPort, resolver);
    });
    assert.equal(failure.code, "ECONNREFUSED");
  });

  test("cuts UDP answers to 512 bytes or what the client offers, TCP never", async () => {
    const plain = await overUdp(packet("many", "A"));
    assert.ok(plain !== undefined && plain.length <= 512);
    assert.equal((dnsPacket.decode(plain) as DecodedPacket).flag_tc, true);
    const large = dnsPacket.decode((await overUdp(packet("many", "A", 4096))) as Buffer) as DecodedPacket;
    assert.deepEqual([large.flag_tc, large.answers?.length], [false, 100]);
    assert.equal((await ask("many", "A", "tcp")).answers?.length, 100);
  });

  test("forwards what it does not know, by the query's own transport", async () => {
    const fake = await openFake("127.0.0.21", (_q, query) => respond(query, "192.0.2.7"));
    upstreams = [fake.upstream];
    for (const transport of ["udp", "tcp"] as const) {
      const answer = await ask("example.org", "A", transport);
      assert.deepEqual(data(answer.answers), ["192.0.2.7"]);
    }
    await ask("web", "TXT");
    assert.deepEqual(fake.transports, ["udp", "tcp", "udp"]);
    assert.deepEqual(fake.asked, ["example.org", "example.org", "web"]);
  });

  test("asks the next upstream after SERVFAIL, REFUSED or silence, and takes NXDOMAIN as final", async () => {
    const bad = await openFake("127.0.0.22", (_q, query) => respond(query, "", 2));
    const no = await openFake("127.0.0.23", (_q, query) => respond(query, "", 5));
    const good = await openFake("127.0.0.24", (_q, query) => respond(query, "192.0.2.8"));
    upstreams = [bad.upstream, no.upstream, good.upstream];
    assert.deepEqual(data((await ask("a.example")).answers), ["192.0.2.8"]);
    assert.deepEqual(data((await ask("a.example", "A", "tcp")).answers), ["192.0.2.8"]);
    const silent = await openFake("127.0.0.25", () => undefined);
    upstreams = [silent.upstream, good.upstream];
    const started = performance.now();
    assert.deepEqual(data((await ask("b.example")).answers), ["192.0.2.8"]);
    assert.ok(performance.now() - started < 2000, "does not wait for a silent one");
    const gone = await openFake("127.0.0.26", (_q, query) => respond(query, "", 3));
    good.asked.length = 0;
    upstreams = [gone.upstream, good.upstream];
    assert.equal((await ask("c.example")).rcode, "NXDOMAIN");
    assert.deepEqual(good.asked, []);
    upstreams = [bad.upstream];
    assert.equal((await ask("d.example")).rcode, "SERVFAIL");
  });

  test("an answer with another id or question is not taken", async () => {
    const fake = await openFake("127.0.0.27", (_q, query) => {
      const wrongId = respond(query, "192.0.2.66");
      wrongId.writeUInt16BE((query.readUInt16BE(0) + 1) & 0xffff, 0);
      const wrongName = respond(query, "192.0.2.66");
      wrongName[13] = 0x7a;
      const noResponse = Buffer.from(query);
      return [wrongId, wrongName, noResponse, Buffer.alloc(0), Buffer.of(1), respond(query, "192.0.2.9")];
    });
    upstreams = [fake.upstream];
    assert.deepEqual(data((await ask("example.net")).answers), ["192.0.2.9"]);
  });

  test("an answer from another address is not taken", async () => {
    const liar = createSocket("udp4");
    await new Promise<void>((resolve) => liar.bind(0, "127.0.0.28", resolve));
    cleanup.defer(() => void liar.close());
    const honest = createSocket("udp4");
    await new Promise<void>((resolve) => honest.bind(0, "127.0.0.29", resolve));
    cleanup.defer(() => void honest.close());
    honest.on("message", (query, client) => {
      liar.send(respond(query, "192.0.2.66"), client.port, client.address, () => {
        setTimeout(() => honest.send(respond(query, "192.0.2.10"), client.port, client.address), 20);
      });
    });
    upstreams = [{ address: parseIp("127.0.0.29"), portHostOrder: honest.address().port, from: "host" }];
    assert.deepEqual(data((await ask("example.net")).answers), ["192.0.2.10"]);
  });

  test("a server given by the user is asked from inside the namespace", async () => {
    const inside = await openFake("127.0.0.30", (_q, query) => respond(query, "192.0.2.11"), namespace);
    upstreams = [inside.upstream];
    assert.deepEqual(data((await ask("inside.example")).answers), ["192.0.2.11"]);
    assert.deepEqual(data((await ask("inside.example", "A", "tcp")).answers), ["192.0.2.11"]);
  });

  test("never asks itself", async () => {
    upstreams = [{ address: parseIp(resolver), portHostOrder: server.udpPort, from: namespace }];
    assert.equal((await ask("loop.example")).rcode, "SERVFAIL");
  });

  test("a thousand pipelined queries in any pieces, then a half-closed connection, are all answered", async () => {
    const fake = await openFake("127.0.0.31", (_q, query) => respond(query, "192.0.2.12"));
    upstreams = [fake.upstream];
    const stream = Buffer.concat(
      Array.from({ length: 1000 }, (_, i) => frame(packet(i % 10 === 0 ? "out.example" : "app", "A"))),
    );
    const socket = connect();
    const answers = read(socket, 1001);
    for (let i = 0; i < stream.length; i += 777) socket.write(stream.subarray(i, i + 777));
    socket.end();
    assert.equal((await answers).length, 1000);
    socket.destroy();
  });

  test("garbage over TCP ends that connection only", async () => {
    for (const bytes of [frame(new Uint8Array(3)), Buffer.alloc(70_000, 0xff)]) {
      const socket = connect();
      socket.on("error", () => {});
      const closed = new Promise((resolve) => socket.on("close", resolve));
      socket.on("end", () => socket.destroy());
      socket.resume();
      socket.write(bytes);
      await closed;
    }
    assert.deepEqual(data((await ask("web", "A", "tcp")).answers), ["10.0.0.2"]);
  });

  test("malformed datagrams get an error or nothing, and the server goes on", async () => {
    upstreams = [];
    const random = seededRandom(7);
    const socket = createSocket("udp4");
    using stack = new DisposableStack();
    stack.defer(() => void socket.close());
    socket.bind({ fd: kernel.openUnbound(namespace, "udp4") });
    socket.on("message", (answer) => {
      const decoded = dnsPacket.decode(answer) as DecodedPacket;
      assert.equal(decoded.type, "response");
      // A changed query may ask for another name; it must not get this one's address under it.
      const [question] = decoded.questions ?? [];
      for (const a of decoded.answers ?? []) assert.equal(a.name.toLowerCase(), question?.name.toLowerCase());
    });
    for (let i = 0; i < 2000; i++) {
      const bytes =
        i % 4 === 0 ? Buffer.from(random.bytes(random.below(600))) : packet("app", "A", i % 3 === 0 ? 1232 : undefined);
      for (let j = random.below(4); j > 0 && bytes.length > 0; j--)
        bytes[random.below(bytes.length)] = random.below(256);
      const end = i % 5 === 0 ? random.below(bytes.length + 1) : bytes.length;
      socket.send(bytes.subarray(0, end), server.udpPort, resolver);
      // No more at a time than the server's buffer holds: the point is what they say, not how many.
      if (i % 50 === 49) await new Promise((resolve) => setTimeout(resolve, 5));
    }
    assert.deepEqual(data((await ask("web")).answers), ["10.0.0.2"]);
    const twoQuestions = packet("web", "A");
    twoQuestions[5] = 2;
    const refused = dnsPacket.decode((await overUdp(twoQuestions)) as Buffer) as DecodedPacket & { rcode: string };
    assert.equal(refused.rcode, "FORMERR");
    assert.equal(await overUdp(Buffer.from(respond(packet("web", "A"), "192.0.2.1")), 100), undefined);
  });

  test("a name that comes or goes is seen by the next query", async () => {
    upstreams = [];
    table.set("n1", "new", { names: ["new"], addresses: [parseIp("10.0.0.77")] });
    assert.deepEqual(data((await ask("new")).answers), ["10.0.0.77"]);
    table.delete("n1", "new");
    assert.equal((await ask("new")).rcode, "SERVFAIL");
  });

  test("a name that comes while a silent upstream is being asked is answered then", async () => {
    const silent = await openFake("127.0.0.27", () => undefined);
    upstreams = [silent.upstream];
    const answer = ask("late");
    while (silent.asked.length === 0) await new Promise((resolve) => setTimeout(resolve, 5));
    table.set("n1", "other", { names: ["other"], addresses: [parseIp("10.0.0.79")] });
    table.set("n1", "late", { names: ["late"], addresses: [parseIp("10.0.0.78")] });
    assert.deepEqual(data((await answer).answers), ["10.0.0.78"]);
    assert.equal(silent.asked.length, 1, "the first question was answered, none was repeated");
    table.deleteNetwork("n1");
  });
});
