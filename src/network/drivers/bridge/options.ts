import { EngineError } from "../../../base/errors.ts";
import { type IpAddress, tryParseIp } from "../../../base/ip.ts";
import type { NetworkSpec } from "../../model.ts";

export const bridgeOptionKeys = {
  name: "com.docker.network.bridge.name",
  icc: "com.docker.network.bridge.enable_icc",
  masquerade: "com.docker.network.bridge.enable_ip_masquerade",
  hostBinding: "com.docker.network.bridge.host_binding_ipv4",
  defaultBridge: "com.docker.network.bridge.default_bridge",
  mtu: "com.docker.network.driver.mtu",
} as const;

/** Driver options of a bridge network, parsed (reference: network-data-plane 9.2). */
export interface BridgeOptions {
  readonly bridgeName: string | undefined;
  readonly icc: boolean;
  readonly masquerade: boolean;
  readonly publishAddress: IpAddress | undefined;
  readonly isDefault: boolean;
  readonly mtuBytes: number | undefined;
}

/** Unknown keys are kept in the spec and ignored, as the reference engine does. @throws {EngineError} `invalid`. */
export function parseBridgeOptions(options: NetworkSpec["options"]): BridgeOptions {
  const text = (key: string): string | undefined => (options[key] === "" ? undefined : options[key]);
  const flag = (key: string, otherwise: boolean): boolean => {
    const value = text(key);
    if (value === undefined) return otherwise;
    if (/^(1|t|T|TRUE|true|True)$/.test(value)) return true;
    if (/^(0|f|F|FALSE|false|False)$/.test(value)) return false;
    // compat: the reference engine shows its parser's own words.
    throw parseFailure(key, value, `strconv.ParseBool: parsing ${JSON.stringify(value)}: invalid syntax`);
  };
  const bridgeName = text(bridgeOptionKeys.name);
  // Linux: 15 bytes, no slash, no white space; nft would also need its quotes escaped.
  if (bridgeName !== undefined && (!/^[^\s/"\\:]{1,15}$/.test(bridgeName) || /^\.{1,2}$/.test(bridgeName))) {
    throw new EngineError("invalid", `invalid bridge name ${JSON.stringify(bridgeName)}: not an interface name`);
  }
  const binding = text(bridgeOptionKeys.hostBinding);
  const publishAddress = binding === undefined ? undefined : tryParseIp(binding);
  if (binding !== undefined && publishAddress === undefined) {
    throw parseFailure(bridgeOptionKeys.hostBinding, binding, "nil ip");
  }
  return {
    bridgeName,
    icc: flag(bridgeOptionKeys.icc, true),
    masquerade: flag(bridgeOptionKeys.masquerade, true),
    publishAddress,
    isDefault: flag(bridgeOptionKeys.defaultBridge, false),
    mtuBytes: parseMtu(text(bridgeOptionKeys.mtu)),
  };
}

function parseMtu(text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  const mtuBytes = Number(text);
  if (!/^-?\d+$/.test(text)) {
    throw parseFailure(bridgeOptionKeys.mtu, text, `strconv.Atoi: parsing ${JSON.stringify(text)}: invalid syntax`);
  }
  if (mtuBytes < 0 || mtuBytes > 65535) throw new EngineError("invalid", `invalid mtu: ${text}`);
  return mtuBytes === 0 ? undefined : mtuBytes;
}

function parseFailure(key: string, value: string, reason: string): EngineError {
  return new EngineError("invalid", `failed to parse ${key} value: ${value} (${reason})`);
}
