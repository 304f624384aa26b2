import { EngineError } from "../../../base/errors.ts";

/** Option keys, as the API and the manager spell them (reference: network-data-plane 2.2). */
export const overlayOptionKeys = {
  vniList: "com.docker.network.driver.overlay.vxlanid_list",
  mtu: "com.docker.network.driver.mtu",
  encrypted: "encrypted",
} as const;

export interface OverlayOptions {
  /** MTU inside the network. */
  readonly mtuBytes: number;
  readonly encrypted: boolean;
}

const assumedUnderlayMtu = 1500;
/** Inner Ethernet 14, IPv4 20, UDP 8, VXLAN 8 (RFC 7348 s5). The same over IPv6, 20 bytes short, so that all nodes agree. */
const vxlanOverhead = 50;
/** SPI 4, sequence 4, IV 8, pad length 1, next header 1, ICV 8; the rest must be a multiple of 4 (RFC 4303 s2). */
const espOverhead = 26;

/** @throws {EngineError} `invalid` for an MTU that is no number. */
export function parseOverlayOptions(options: Readonly<Record<string, string>>): OverlayOptions {
  // Counts by presence, whatever its value (trap T9).
  const encrypted = overlayOptionKeys.encrypted in options;
  const text = options[overlayOptionKeys.mtu];
  const plain = (text === undefined ? 0 : parseMtu(text)) || assumedUnderlayMtu;
  const mtuBytes = plain - vxlanOverhead;
  return { encrypted, mtuBytes: encrypted ? (mtuBytes - espOverhead) & ~3 : mtuBytes };
}

function parseMtu(text: string): number {
  if (!/^\+?\d{1,9}$/.test(text)) {
    if (/^-\d+$/.test(text)) throw new EngineError("invalid", `invalid MTU value: ${Number(text)}`); // compat:
    throw new EngineError("invalid", `failed to parse ${JSON.stringify(text)}: not a whole number`);
  }
  const mtuBytes = Number(text);
  // 68 is the least that IPv4 allows a link (RFC 791); below that the kernel would refuse at the first container.
  if (mtuBytes !== 0 && (mtuBytes < 68 + vxlanOverhead + espOverhead || mtuBytes > 65535)) {
    throw new EngineError("invalid", `invalid MTU value: ${mtuBytes}`);
  }
  return mtuBytes;
}
