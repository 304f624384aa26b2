import assert from "node:assert/strict";
import { test } from "node:test";
import { parseIp, parseMac } from "../../base/ip.ts";
import { announcement } from "./codec.ts";

const mac = parseMac("02:42:0a:00:01:05");

test("an IPv4 address is announced by a gratuitous ARP request", () => {
  assert.equal(
    Buffer.from(announcement(parseIp("10.0.1.5"), mac)).toString("hex"),
    "ffffffffffff02420a0001050806" + "0001080006040001" + "02420a0001050a000105" + "0000000000000a000105",
  );
});

test("an IPv6 address is announced by a neighbour advertisement with a right checksum", () => {
  const frame = announcement(parseIp("fd00::5"), mac);
  assert.equal(frame.length, 86);
  // The sum over pseudo-header and message, checksum included, is all ones (RFC 1071).
  let sum = 32 + 58;
  for (let i = 22; i < frame.length; i += 2) sum += ((frame[i] as number) << 8) | (frame[i + 1] as number);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  assert.equal(sum, 0xffff);
});
