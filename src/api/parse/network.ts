import { z } from "zod";
import { type Cidr, type IpAddress, tryParseCidr, tryParseIp } from "../../base/ip.ts";
import type { IpamPoolSpec, NetworkSpec, Scope } from "../../network/mod.ts";
import { invalid } from "../errors.ts";
import { lines } from "./endpoints.ts";
import { decodeBody, flag, optionalFlag, text, textMap } from "./go-json.ts";

const networkBody = z.object({
  Name: text,
  Driver: text,
  Scope: text,
  EnableIPv4: optionalFlag,
  EnableIPv6: optionalFlag,
  Internal: flag,
  Attachable: flag,
  Ingress: flag,
  ConfigOnly: flag,
  ConfigFrom: z
    .object({ Network: text })
    .nullish()
    .transform((value) => value ?? { Network: "" }),
  IPAM: z
    .object({
      Driver: text,
      Options: textMap,
      Config: z
        .array(z.object({ Subnet: text, IPRange: text, Gateway: text, AuxiliaryAddresses: textMap }))
        .nullish()
        .transform((value) => value ?? []),
    })
    .nullish(),
  Options: textMap,
  Labels: textMap,
});

type PoolBody = NonNullable<z.output<typeof networkBody>["IPAM"]>["Config"][number];

/** `POST /networks/create`. Pure: how the parts of a pool fit together is for the network room to check. */
export function parseNetwork(json: unknown): NetworkSpec {
  const body = decodeBody(networkBody, json);
  if (body.Name.trim() === "") throw invalid("invalid name: name is empty");
  if (!["", "local", "swarm", "global"].includes(body.Scope)) throw invalid(`invalid scope: ${body.Scope}`);
  const driver = body.Driver === "" || body.Driver === "default" ? "bridge" : body.Driver;
  const ipamDriver = body.IPAM?.Driver ?? "";
  return {
    name: body.Name,
    driver,
    scope: body.Scope === "" ? undefined : (body.Scope as Scope),
    ipam: {
      driver: ipamDriver === "" ? "default" : ipamDriver,
      options: body.IPAM?.Options ?? {},
      pools: parsePools(body.IPAM?.Config ?? []),
    },
    enableIpv4: body.EnableIPv4 ?? true,
    enableIpv6: body.EnableIPv6 ?? false,
    internal: body.Internal,
    attachable: body.Attachable,
    ingress: body.Ingress,
    configOnly: body.ConfigOnly,
    configFrom: body.ConfigFrom.Network === "" ? undefined : body.ConfigFrom.Network,
    options: body.Options,
    labels: body.Labels,
  };
}

function parsePools(pools: readonly PoolBody[]): readonly IpamPoolSpec[] {
  const faults: string[] = [];
  const cidr = (what: string, value: string): Cidr | undefined => {
    const parsed = tryParseCidr(value);
    if (parsed === undefined) faults.push(`invalid ${what} ${value}: invalid CIDR block notation`);
    return parsed;
  };
  const address = (what: string, value: string, shown: string): IpAddress | undefined => {
    const parsed = tryParseIp(value);
    if (parsed === undefined) faults.push(`invalid ${what} ${shown}: invalid address`);
    return parsed;
  };
  const parsed = pools
    .filter((pool) => pool.Subnet !== "" || pool.Gateway !== "" || pool.IPRange !== "")
    .map((pool): IpamPoolSpec => {
      const subnet = cidr("subnet", pool.Subnet);
      const ipRange = pool.IPRange === "" ? undefined : cidr("ip-range", pool.IPRange);
      const gateway = pool.Gateway === "" ? undefined : address("gateway", pool.Gateway, pool.Gateway);
      const auxiliary: Record<string, IpAddress> = {};
      for (const [name, value] of Object.entries(pool.AuxiliaryAddresses)) {
        const ip = address("auxiliary address", value, name);
        if (ip !== undefined) auxiliary[name] = ip;
      }
      return {
        ...(subnet === undefined ? {} : { subnet }),
        ...(ipRange === undefined ? {} : { ipRange }),
        ...(gateway === undefined ? {} : { gateway }),
        auxiliary,
      };
    });
  if (faults.length > 0) throw invalid(`invalid network config:\n${lines(faults)}`);
  return parsed;
}
