import type { MacAddress } from "../base/ip.ts";
import { errno } from "./ffi/errno.ts";
import { isNotFound, KernelError } from "./kernel.ts";
import { deleteLearned } from "./netlink/neighbour.ts";
import type { NetlinkSocket } from "./netlink/socket.ts";

/**
 * Frames that came through a tunnel have taught its bridge that the address is behind it; whoever has it now may be elsewhere.
 * It is fine when the bridge has learnt nothing, or when the tunnel is no bridge's port.
 */
export function forgetLearned(
  socket: NetlinkSocket,
  { step, linkIndex, mac }: { readonly step: string; readonly linkIndex: number; readonly mac: MacAddress },
): void {
  try {
    socket.request(step, deleteLearned(linkIndex, mac));
  } catch (error) {
    const isNoPort = error instanceof KernelError && error.errno === errno.EOPNOTSUPP;
    if (!isNoPort && !isNotFound(error)) throw error;
  }
}
