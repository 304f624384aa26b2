import assert from "node:assert/strict";
import { test } from "node:test";
import dnsPacket, { type DecodedPacket, type RecordType } from "dns-packet";
import fc from "fast-check";
import { DecodeError } from "../../base/errors.ts";
import { type IpAddress, ipFromBytes, parseIp } from "../../base/ip.ts";
import {
  addressOfReverseName,
  decodeQuery,
  encodeAddresses,
  encodeEmpty,
  encodePointer,
  encodeRefusal,
  FrameDecoder,
  frame,
  headerSize,
  idOf,
  isAnswerTo,
  rcode,
  truncateTo,
  unanswerable,
  withId,
} from "./mod.ts";

const ttlSeconds = 600;

function packet(name: string, type: RecordType = "A") {
  return dnsPacket.encode({
    type: "query",
    id: 0x1234,
    flags: dnsPacket.RECURSION_DESIRED,
    questions: [{ name, type }],
  });
}

const label = fc.stringMatching(/^[a-z0-9A-Z_-]{1,20}$/);
const hostName = fc.array(label, { minLength: 1, maxLength: 5 }).map((labels) => labels.join("."));
const ipv4 = fc.ipV4().map(parseIp);
const ipv6 = fc
  .uint8Array({ minLength: 16, maxLength: 16 })
  .filter((bytes) => bytes[0] !== 0)
  .map(ipFromBytes);

test("an A answer, byte for byte", () => {
  const query = Buffer.from("1234010000010000000000000264620000010001", "hex");
  const answer = encodeAddresses(decodeQuery(query), { family: 4, addresses: [parseIp("10.0.1.5")], ttlSeconds }, 512);
  assert.equal(
    Buffer.from(answer).toString("hex"),
    "12348180000100010000000002646200000100 01c00c00010001000002580004 0a000105".replaceAll(" ", ""),
  );
});

test("decodeQuery() reads what dns-packet writes", () => {
  const edns = fc.option(fc.integer({ min: 1, max: 65535 }), { nil: undefined });
  fc.assert(
    fc.property(
      hostName,
      fc.constantFrom<RecordType>("A", "AAAA", "PTR", "MX", "TXT"),
      edns,
      (name, type, udpPayloadSize) => {
        const bytes = dnsPacket.encode({
          type: "query",
          id: 7,
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
        const query = decodeQuery(bytes);
        assert.equal(query.name, name.toLowerCase());
        assert.equal(query.id, 7);
        assert.equal(query.isInternet, true);
        assert.equal(query.ednsSize, udpPayloadSize === undefined ? undefined : Math.max(512, udpPayloadSize));
        assert.equal(unanswerable(bytes), undefined);
      },
    ),
  );
});

test("dns-packet reads what encodeAddresses() writes", () => {
  fc.assert(
    fc.property(hostName, fc.array(ipv4, { maxLength: 20 }), fc.array(ipv6, { maxLength: 20 }), (name, v4, v6) => {
      for (const [family, addresses] of [
        [4, v4],
        [6, v6],
      ] as const) {
        const query = decodeQuery(packet(name, family === 4 ? "A" : "AAAA"));
        const bytes = encodeAddresses(query, { family, addresses, ttlSeconds }, 65535);
        const decoded = dnsPacket.decode(Buffer.from(bytes)) as DecodedPacket;
        assert.equal(decoded.type, "response");
        assert.equal(decoded.id, 0x1234);
        assert.equal(decoded.flag_ra, true);
        assert.equal(decoded.flag_rd, true);
        assert.equal(decoded.flag_aa, false);
        assert.equal(decoded.flag_tc, false);
        assert.equal(decoded.questions?.[0]?.name, name);
        const got = decoded.answers?.map((a) => {
          assert.ok(a.type === "A" || a.type === "AAAA");
          assert.equal(a.ttl, ttlSeconds);
          assert.equal(a.name, name);
          return parseIp(a.data);
        });
        assert.deepEqual(got, [...addresses]);
        assert.ok(isAnswerTo(query, bytes));
      }
    }),
  );
});

test("dns-packet reads what encodePointer() writes", () => {
  fc.assert(
    fc.property(hostName, (target) => {
      const query = decodeQuery(packet("5.1.0.10.in-addr.arpa", "PTR"));
      const decoded = dnsPacket.decode(Buffer.from(encodePointer(query, { target, ttlSeconds }, 512))) as DecodedPacket;
      const [answer] = decoded.answers ?? [];
      assert.ok(answer?.type === "PTR");
      assert.equal(answer.data, target);
    }),
  );
  const query = decodeQuery(packet("5.1.0.10.in-addr.arpa", "PTR"));
  for (const target of ["", "a..b", "x".repeat(64), Array(60).fill("abcd").join(".")]) {
    const decoded = dnsPacket.decode(Buffer.from(encodePointer(query, { target, ttlSeconds }, 512))) as DecodedPacket;
    assert.equal(decoded.answers?.length, 0);
  }
});

test("answers keep to the limit and say what is missing", () => {
  const addresses = Array.from({ length: 100 }, (_, i) => parseIp(`10.0.0.${i}`));
  const query = decodeQuery(packet("web"));
  const bytes = encodeAddresses(query, { family: 4, addresses, ttlSeconds }, 512);
  const decoded = dnsPacket.decode(Buffer.from(bytes)) as DecodedPacket;
  assert.ok(bytes.length <= 512);
  assert.equal(decoded.flag_tc, true);
  assert.equal(decoded.answers?.length, Math.floor((512 - query.questionEnd) / 16));
  const whole = encodeAddresses(query, { family: 4, addresses, ttlSeconds }, 4096);
  assert.equal((dnsPacket.decode(Buffer.from(whole)) as DecodedPacket).flag_tc, false);
  const cut = dnsPacket.decode(Buffer.from(truncateTo(query, whole, 512))) as DecodedPacket;
  assert.equal(cut.flag_tc, true);
  assert.equal(cut.answers?.length, 0);
  assert.equal(truncateTo(query, whole, 4096), whole);
});

test("names that no host has are not mistaken for others", () => {
  const raw = (...labels: number[][]) =>
    decodeQuery(
      Uint8Array.from([0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, ...labels.flatMap((l) => [l.length, ...l]), 0, 0, 1, 0, 1]),
    );
  assert.equal(raw([0x44, 0x62]).name, "db");
  assert.equal(raw([0x61, 0x2e, 0x62]).name, undefined);
  assert.equal(raw([0x61, 0]).name, undefined);
  assert.equal(raw([0xe4]).name, undefined);
  assert.equal(raw().name, "");
});

test("answers and copies leave the query as it was, a Buffer too", () => {
  const bytes = packet("db");
  const before = Buffer.from(bytes);
  const query = decodeQuery(bytes);
  encodeEmpty(query, rcode.serverFailure);
  encodeRefusal(bytes, rcode.refused);
  encodeAddresses(query, { family: 4, addresses: [], ttlSeconds }, 512);
  encodePointer(query, { target: "a", ttlSeconds }, 512);
  assert.equal(idOf(withId(bytes, 0xbeef)), 0xbeef);
  assert.deepEqual(bytes, before);
});

test("messages that are no standard query", () => {
  const patched = (offset: number, value: number) => {
    const bytes = packet("db");
    bytes[offset] = value;
    return unanswerable(bytes);
  };
  assert.deepEqual(patched(2, 0x81), { kind: "ignore" });
  assert.deepEqual(patched(2, 0x28), { kind: "refuse", rcode: rcode.notImplemented });
  assert.deepEqual(patched(5, 0), { kind: "refuse", rcode: rcode.formatError });
  assert.deepEqual(patched(5, 2), { kind: "refuse", rcode: rcode.formatError });
  assert.deepEqual(unanswerable(new Uint8Array(11)), { kind: "ignore" });
});

test("decodeQuery() of changed, cut and random bytes: a query or a DecodeError, and then never another name than dns-packet's", () => {
  const mutated = fc
    .tuple(hostName, fc.array(fc.tuple(fc.nat(200), fc.integer({ min: 0, max: 255 })), { maxLength: 6 }), fc.nat(200))
    .map(([name, changes, cut]) => {
      const bytes = packet(name);
      for (const [offset, value] of changes) if (offset < bytes.length) bytes[offset] = value;
      return bytes.subarray(0, Math.max(0, bytes.length - (cut > 100 ? cut - 100 : 0)));
    });
  fc.assert(
    fc.property(fc.oneof(mutated, fc.uint8Array({ maxLength: 600 })), (bytes) => {
      try {
        const query = decodeQuery(bytes);
        const addresses = [parseIp("10.0.0.1")];
        const answer = encodeAddresses(query, { family: 4, addresses, ttlSeconds }, 512);
        assert.ok(answer.length >= headerSize);
        assert.ok(encodeEmpty(query, rcode.noError).length === query.questionEnd);
        if (query.name === undefined || unanswerable(bytes) !== undefined) return;
        const decoded = dnsPacket.decode(Buffer.from(encodeEmpty(query, rcode.noError))) as DecodedPacket;
        const expected = decoded.questions?.[0]?.name.toLowerCase();
        assert.equal(query.name === "" ? "." : query.name, expected);
      } catch (error) {
        if (!(error instanceof DecodeError)) throw error;
      }
    }),
    { numRuns: 3000 },
  );
});

test("isAnswerTo() wants the same question, in any case of letters", () => {
  const query = decodeQuery(packet("Web.example"));
  const good = encodeAddresses(decodeQuery(packet("wEB.example")), { family: 4, addresses: [], ttlSeconds }, 512);
  assert.ok(isAnswerTo(query, good));
  assert.ok(!isAnswerTo(query, packet("web.example")));
  assert.ok(!isAnswerTo(query, encodeEmpty(decodeQuery(packet("web.example", "AAAA")), rcode.noError)));
  assert.ok(!isAnswerTo(query, encodeEmpty(decodeQuery(packet("wex.example")), rcode.noError)));
  assert.ok(!isAnswerTo(query, good.subarray(0, 14)));
});

test("addressOfReverseName()", () => {
  assert.equal(addressOfReverseName("5.1.0.10.in-addr.arpa"), "10.0.1.5");
  const six = "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa";
  assert.equal(addressOfReverseName(six), "fd00::1" as IpAddress);
  for (const bad of [
    "1.0.10.in-addr.arpa",
    "256.0.0.10.in-addr.arpa",
    "05.1.0.10.in-addr.arpa",
    "1.ip6.arpa",
    "example.org",
  ]) {
    assert.equal(addressOfReverseName(bad), undefined);
  }
});

test("frames survive any cutting of the stream", () => {
  const messages = fc.array(fc.uint8Array({ maxLength: 300 }), { maxLength: 10 });
  fc.assert(
    fc.property(messages, fc.integer({ min: 1, max: 50 }), (sent, step) => {
      const stream = Buffer.concat(sent.map(frame));
      const decoder = new FrameDecoder();
      const got: Uint8Array[] = [];
      for (let i = 0; i < stream.length; i += step) got.push(...decoder.push(stream.subarray(i, i + step)));
      assert.deepEqual(
        got.map((m) => [...m]),
        sent.map((m) => [...m]),
      );
      assert.equal(decoder.isMidMessage, false);
    }),
  );
});
