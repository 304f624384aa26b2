import { type IpAddress, tryParseIp } from "../../base/ip.ts";
import type { PortPublish } from "../../network/mod.ts";
import { invalid } from "../errors.ts";

type Protocol = PortPublish["protocol"];

/** `80`, `80/tcp`, `80-82/udp`. @throws {EngineError} in Docker's words. */
export function parsePort(spec: string): {
  readonly protocol: Protocol;
  readonly first: number;
  readonly last: number;
} {
  const [range = "", protocol = "tcp"] = spec.split("/", 2);
  const lower = protocol.toLowerCase();
  if (lower !== "tcp" && lower !== "udp" && lower !== "sctp") throw invalid(`invalid proto: ${protocol}`);
  const { first, last } = parseRange(range);
  if (first === 0) throw invalid(`invalid port specification: ${JSON.stringify(range)}`);
  return { protocol: lower, first, last };
}

/** Normal form of exposed ports, ranges spread out: `80/tcp`. */
export function parseExposed(specs: readonly string[]): readonly string[] {
  return specs.flatMap((spec) => {
    const { protocol, first, last } = parsePort(spec);
    return Array.from({ length: last - first + 1 }, (_, i) => `${first + i}/${protocol}`);
  });
}

/** `HostConfig.PortBindings`. A port with an empty list of bindings publishes nothing, as in Docker. */
export function parseBindings(
  bindings: Readonly<Record<string, readonly { readonly HostIp: string; readonly HostPort: string }[]>>,
): readonly PortPublish[] {
  return Object.entries(bindings).flatMap(([spec, list]) => {
    const { protocol, first, last } = parsePort(spec);
    return list.flatMap((binding) => {
      const host = binding.HostPort === "" ? { first: 0, last: 0 } : parseRange(binding.HostPort);
      const hostAddress = parseHostAddress(binding.HostIp);
      return Array.from({ length: last - first + 1 }, (_, i): PortPublish => {
        // `80-82` to `8080-8082` goes port by port; one port to a range takes any free one of it.
        const isParallel = last > first && host.last - host.first === last - first;
        return {
          protocol,
          containerPort: first + i,
          hostAddress,
          hostPortFirst: isParallel ? host.first + i : host.first,
          hostPortLast: isParallel ? host.first + i : host.last,
        };
      });
    });
  });
}

function parseHostAddress(text: string): IpAddress | undefined {
  if (text === "") return undefined;
  const address = tryParseIp(text);
  if (address === undefined) throw invalid(`invalid IP address: ${text}`);
  return address;
}

function parseRange(text: string): { readonly first: number; readonly last: number } {
  const match = /^(\d{1,5})(?:-(\d{1,5}))?$/.exec(text);
  const first = Number(match?.[1]);
  const last = Number(match?.[2] ?? match?.[1]);
  if (match === null || first > 65535 || last > 65535 || last < first) {
    throw invalid(`invalid port specification: ${JSON.stringify(text)}`);
  }
  return { first, last };
}
