import { z } from "zod";
import { type IpAddress, type MacAddress, tryParseIp, tryParseMac } from "../../base/ip.ts";
import type { EndpointRequest } from "../../network/mod.ts";
import { invalid } from "../errors.ts";
import { integer, text, textMap, texts } from "./go-json.ts";

export const endpointBody = z
  .object({
    IPAMConfig: z.object({ IPv4Address: text, IPv6Address: text, LinkLocalIPs: texts }).nullish(),
    Links: texts,
    Aliases: texts,
    MacAddress: text,
    DriverOpts: textMap,
    GwPriority: integer,
  })
  .nullish();

export type EndpointBody = z.output<typeof endpointBody>;

/** @throws {EngineError} `invalid`: `invalid endpoint settings:` and one line a fault. */
export function parseEndpoint(network: string, body: EndpointBody): EndpointRequest {
  const faults: string[] = [];
  const address = (value: string, family: 4 | 6): IpAddress | undefined => {
    if (value === "") return undefined;
    const ip = tryParseIp(value);
    if (ip === undefined || ip.includes(":") !== (family === 6)) {
      faults.push(`invalid IPv${family} address: ${value}`);
      return undefined;
    }
    return ip;
  };
  const ipv4 = address(body?.IPAMConfig?.IPv4Address ?? "", 4);
  const ipv6 = address(body?.IPAMConfig?.IPv6Address ?? "", 6);
  for (const ip of body?.IPAMConfig?.LinkLocalIPs ?? []) {
    if (tryParseIp(ip) === undefined) faults.push(`invalid link-local IP address: ${ip}`);
  }
  if (faults.length > 0) throw invalid(`invalid endpoint settings:\n${lines(faults)}`);
  return {
    network,
    ipv4,
    ipv6,
    mac: parseMac(body?.MacAddress ?? ""),
    aliases: body?.Aliases ?? [],
    links: body?.Links ?? [],
    driverOptions: body?.DriverOpts ?? {},
    gatewayPriority: body?.GwPriority ?? 0,
  };
}

/** Go's joined errors as Docker prints them: one as it is, several as a list. */
export function lines(faults: readonly string[]): string {
  return faults.length === 1 ? (faults[0] as string) : faults.map((fault) => `* ${fault}`).join("\n");
}

function parseMac(value: string): MacAddress | undefined {
  if (value === "") return undefined;
  const mac = tryParseMac(value);
  if (mac === undefined) throw invalid(`invalid MAC address ${value}`);
  return mac;
}
