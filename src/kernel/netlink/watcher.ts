import { raiseDescriptor } from "../ffi/descriptors.ts";
import { errno } from "../ffi/errno.ts";
import { AF, bindSocket, closeFd, openSocketFd, receive, SOCK, setSocketOption } from "../ffi/libc.ts";
import { watchReadable } from "../ffi/poll.ts";
import { netlinkAddress, type Protocol, protocols } from "./socket.ts";

/** linux/rtnetlink.h: RTMGRP_LINK, RTMGRP_IPV4_IFADDR, RTMGRP_IPV6_IFADDR. */
const linkAndAddressGroups = 0x1 | 0x10 | 0x100;
const SO_RCVBUFFORCE: readonly [number, number] = [1, 33];
const receiveBytes = 16 * 1024;

/**
 * Calls `listener` whenever a link or address of the namespace changed. What changed is not said: an overrun of the
 * socket then is just one more change. Call it inside `inNamespace`.
 */
export function watchLinkChanges(listener: () => void): Disposable {
  return watchGroups({ step: "watch links", protocol: "route", groups: linkAndAddressGroups }, () => true, listener);
}

/**
 * Calls `listener` once for all that there is to read, when any datagram `matters`; one that was lost to an overrun of the
 * socket (ENOBUFS) always does. Call it inside `inNamespace`.
 *
 * @param matters gets a view that is only good during the call.
 */
export function watchGroups(
  { step, protocol, groups }: { readonly step: string; readonly protocol: Protocol; readonly groups: number },
  matters: (datagram: Uint8Array) => boolean,
  listener: () => void,
): Disposable {
  const fd = raiseDescriptor(openSocketFd(step, AF.netlink, SOCK.raw | SOCK.nonBlocking, protocols[protocol]));
  try {
    setSocketOption(step, fd, SO_RCVBUFFORCE, 1024 * 1024);
    bindSocket(step, fd, netlinkAddress(groups));
  } catch (error) {
    closeFd(fd);
    throw error;
  }
  const scratch = new Uint8Array(receiveBytes);
  const poll = watchReadable(fd, () => {
    if (drain(fd, scratch, matters)) listener();
  });
  let closed = false;
  return {
    [Symbol.dispose]() {
      if (closed) return;
      closed = true;
      poll[Symbol.dispose]();
      closeFd(fd);
    },
  };
}

/** Reads until there is nothing left; whether any of it mattered. */
function drain(fd: number, scratch: Uint8Array, matters: (datagram: Uint8Array) => boolean): boolean {
  let any = false;
  for (;;) {
    const got = receive(fd, scratch, "poll");
    if (got === -errno.EAGAIN) return any;
    any ||= got < 0 || matters(scratch.subarray(0, got));
    if (got < 0 && got !== -errno.ENOBUFS) return any;
  }
}
