import { createSocket } from "node:dgram";
import { familyOf, type IpAddress, parseIp, tryParseIp } from "../../base/ip.ts";
import { hostOf } from "../manager/manager.ts";

/** Our address on the way to a manager, as the routing table has it. No packet is sent. */
export async function localAddressTowards(manager: string): Promise<IpAddress> {
  const host = hostOf(manager);
  const ip = tryParseIp(host);
  const socket = createSocket(ip !== undefined && familyOf(ip) === 6 ? "udp6" : "udp4");
  try {
    await new Promise<void>((resolve, reject) => {
      socket.once("error", reject);
      socket.connect(9, host, resolve);
    });
    return parseIp(socket.address().address);
  } finally {
    socket.close();
  }
}
