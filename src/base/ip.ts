import { isIPv4, isIPv6 } from "node:net";

declare const ipBrand: unique symbol;
declare const macBrand: unique symbol;

/** An IP address in canonical text (RFC 5952 for IPv6, never IPv4-mapped). Made only by parsing. */
export type IpAddress = string & { readonly [ipBrand]: true };
/** A MAC address, six lower-case hex pairs with colons. Made only by parsing. */
export type MacAddress = string & { readonly [macBrand]: true };
export type IpFamily = 4 | 6;

/** An address with its prefix length; the address may have host bits (an interface address) or none (a subnet). */
export interface Cidr {
  readonly address: IpAddress;
  readonly prefix: number;
}

/** @throws {SyntaxError} when `text` is no IP address. */
export function parseIp(text: string): IpAddress {
  const ip = tryParseIp(text);
  if (ip === undefined) throw new SyntaxError(`invalid IP address ${JSON.stringify(text)}`);
  return ip;
}

export function tryParseIp(text: string): IpAddress | undefined {
  if (isIPv4(text)) return text as IpAddress;
  if (!isIPv6(text) || text.includes("%")) return undefined;
  const bytes = ipv6Bytes(text);
  return ipFromBytes(bytes);
}

/** @throws {SyntaxError} when `text` is not `address/prefix`. */
export function parseCidr(text: string): Cidr {
  const cidr = tryParseCidr(text);
  if (cidr === undefined) throw new SyntaxError(`invalid CIDR address: ${text}`);
  return cidr;
}

export function tryParseCidr(text: string): Cidr | undefined {
  const match = /^([^/]+)\/(\d{1,3})$/.exec(text);
  if (match === null) return undefined;
  const address = tryParseIp(match[1] as string);
  const prefix = Number(match[2]);
  if (address === undefined || prefix > bitsOf(familyOf(address))) return undefined;
  return { address, prefix };
}

export function formatCidr(cidr: Cidr): string {
  return `${cidr.address}/${cidr.prefix}`;
}

export function familyOf(ip: IpAddress): IpFamily {
  return ip.includes(":") ? 6 : 4;
}

/** 32 or 128. */
export function bitsOf(family: IpFamily): number {
  return family === 4 ? 32 : 128;
}

/** 4 or 16 bytes, network order. */
export function ipToBytes(ip: IpAddress): Uint8Array {
  if (familyOf(ip) === 4) return Uint8Array.from(ip.split(".").map(Number));
  return ipv6Bytes(ip);
}

/** From 4 or 16 bytes, network order; an IPv4-mapped IPv6 address becomes IPv4. @throws {RangeError} on another length. */
export function ipFromBytes(bytes: Uint8Array): IpAddress {
  if (bytes.length === 4) return bytes.join(".") as IpAddress;
  if (bytes.length !== 16) throw new RangeError(`an IP address has 4 or 16 bytes, got ${bytes.length}`);
  if (bytes.subarray(0, 10).every((b) => b === 0) && bytes[10] === 0xff && bytes[11] === 0xff) {
    return bytes.subarray(12).join(".") as IpAddress;
  }
  return formatIpv6(bytes);
}

export function ipToBigInt(ip: IpAddress): bigint {
  let value = 0n;
  for (const byte of ipToBytes(ip)) value = (value << 8n) | BigInt(byte);
  return value;
}

export function ipFromBigInt(value: bigint, family: IpFamily): IpAddress {
  const length = family === 4 ? 4 : 16;
  const bytes = new Uint8Array(length);
  let rest = value;
  for (let i = length - 1; i >= 0; i--) {
    bytes[i] = Number(rest & 0xffn);
    rest >>= 8n;
  }
  return family === 4 ? (bytes.join(".") as IpAddress) : formatIpv6(bytes);
}

/** The subnet that holds `cidr`: host bits cleared. */
export function networkOf(cidr: Cidr): Cidr {
  const family = familyOf(cidr.address);
  const hostBits = BigInt(bitsOf(family) - cidr.prefix);
  return { address: ipFromBigInt((ipToBigInt(cidr.address) >> hostBits) << hostBits, family), prefix: cidr.prefix };
}

/** Number of addresses in the subnet. */
export function sizeOf(cidr: Cidr): bigint {
  return 1n << BigInt(bitsOf(familyOf(cidr.address)) - cidr.prefix);
}

/** The address `offset` places after the subnet's network address. */
export function nthAddress(cidr: Cidr, offset: bigint): IpAddress {
  const net = networkOf(cidr);
  return ipFromBigInt(ipToBigInt(net.address) + offset, familyOf(net.address));
}

/** All ones in the host part; the broadcast address in IPv4. */
export function lastAddress(cidr: Cidr): IpAddress {
  return nthAddress(cidr, sizeOf(cidr) - 1n);
}

export function contains(cidr: Cidr, ip: IpAddress): boolean {
  if (familyOf(cidr.address) !== familyOf(ip)) return false;
  const hostBits = BigInt(bitsOf(familyOf(ip)) - cidr.prefix);
  return ipToBigInt(cidr.address) >> hostBits === ipToBigInt(ip) >> hostBits;
}

export function containsCidr(outer: Cidr, inner: Cidr): boolean {
  return outer.prefix <= inner.prefix && contains(outer, inner.address);
}

export function overlaps(a: Cidr, b: Cidr): boolean {
  return contains(a, networkOf(b).address) || contains(b, networkOf(a).address);
}

export function isLoopback(ip: IpAddress): boolean {
  return familyOf(ip) === 4 ? ip.startsWith("127.") : ip === "::1";
}

export function isLinkLocal(ip: IpAddress): boolean {
  return familyOf(ip) === 4 ? ip.startsWith("169.254.") : /^fe[89ab]/.test(ip);
}

export function isUnspecified(ip: IpAddress): boolean {
  return ip === "0.0.0.0" || ip === "::";
}

export function isMulticast(ip: IpAddress): boolean {
  return familyOf(ip) === 4 ? (ipToBytes(ip)[0] as number) >> 4 === 14 : ip.startsWith("ff");
}

/** `host:port`, with brackets around IPv6. */
export function formatHostPort(ip: string, port: number): string {
  return ip.includes(":") ? `[${ip}]:${port}` : `${ip}:${port}`;
}

/** @throws {SyntaxError} when `text` is no six-byte MAC address. */
export function parseMac(text: string): MacAddress {
  const mac = tryParseMac(text);
  if (mac === undefined) throw new SyntaxError(`invalid MAC address ${JSON.stringify(text)}`);
  return mac;
}

export function tryParseMac(text: string): MacAddress | undefined {
  return /^([0-9a-f]{2}[:-]){5}[0-9a-f]{2}$/i.test(text)
    ? (text.toLowerCase().replaceAll("-", ":") as MacAddress)
    : undefined;
}

/** 6 bytes. */
export function macToBytes(mac: MacAddress): Uint8Array {
  return Uint8Array.from(mac.split(":"), (pair) => Number.parseInt(pair, 16));
}

/** From 6 bytes. */
export function macFromBytes(bytes: Uint8Array): MacAddress {
  return Array.from(bytes.subarray(0, 6), (b) => b.toString(16).padStart(2, "0")).join(":") as MacAddress;
}

/** `02:42` and the four bytes of the address, as Docker gives overlay endpoints (reference: network-data-plane 2.5). */
export function macFromIpv4(ip: IpAddress): MacAddress {
  return macFromBytes(Uint8Array.from([0x02, 0x42, ...ipToBytes(ip)]));
}

function ipv6Bytes(text: string): Uint8Array {
  let head = text;
  const tail: number[] = [];
  const lastColon = text.lastIndexOf(":");
  if (text.includes(".")) {
    tail.push(
      ...text
        .slice(lastColon + 1)
        .split(".")
        .map(Number),
    );
    head = text.slice(0, lastColon + 1);
    head = head.endsWith("::") ? head : head.slice(0, -1);
  }
  const [left, right] = head.split("::") as [string, string | undefined];
  const words = (part: string) =>
    part === "" ? [] : part.split(":").flatMap((w) => [Number.parseInt(w, 16) >> 8, Number.parseInt(w, 16) & 0xff]);
  const front = words(left);
  const back = [...(right === undefined ? [] : words(right)), ...tail];
  const out = new Uint8Array(16);
  if (right === undefined) out.set([...front, ...tail]);
  else {
    out.set(front);
    out.set(back, 16 - back.length);
  }
  return out;
}

function formatIpv6(bytes: Uint8Array): IpAddress {
  const words = Array.from({ length: 8 }, (_, i) => ((bytes[i * 2] as number) << 8) | (bytes[i * 2 + 1] as number));
  let best = { start: -1, length: 1 };
  for (let i = 0; i < 8; i++) {
    let length = 0;
    while (i + length < 8 && words[i + length] === 0) length++;
    if (length > best.length) best = { start: i, length };
  }
  const hex = (part: readonly number[]) => part.map((w) => w.toString(16)).join(":");
  if (best.start < 0) return hex(words) as IpAddress;
  return `${hex(words.slice(0, best.start))}::${hex(words.slice(best.start + best.length))}` as IpAddress;
}
