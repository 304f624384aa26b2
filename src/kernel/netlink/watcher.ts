import { raiseDescriptor } from "../ffi/descriptors.ts";
import { errno } from "../ffi/errno.ts";
import { AF, bindSocket, closeFd, openSocketFd, receive, SOCK, setSocketOption } from "../ffi/libc.ts";
import { watchReadable } from "../ffi/poll.ts";
import { netlinkAddress, protocols } from "./socket.ts";

/** linux/rtnetlink.h: RTMGRP_LINK, RTMGRP_IPV4_IFADDR, RTMGRP_IPV6_IFADDR. */
const linkAndAddressGroups = 0x1 | 0x10 | 0x100;
const SO_RCVBUFFORCE: readonly [number, number] = [1, 33];

/**
 * Calls `listener` whenever a link or address of the namespace changed. What changed is not said: an overrun of the
 * socket (ENOBUFS) then is just one more change. Call it inside `inNamespace`.
 */
export function watchLinkChanges(listener: () => void): Disposable {
  const step = "watch links";
  const fd = raiseDescriptor(openSocketFd(step, AF.netlink, SOCK.raw | SOCK.nonBlocking, protocols.route));
  try {
    setSocketOption(step, fd, SO_RCVBUFFORCE, 1024 * 1024);
    bindSocket(step, fd, netlinkAddress(linkAndAddressGroups));
  } catch (error) {
    closeFd(fd);
    throw error;
  }
  const scratch = new Uint8Array(16 * 1024);
  const poll = watchReadable(fd, () => {
    if (drain(fd, scratch)) listener();
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

/** Reads until there is nothing left; whether there was anything. */
function drain(fd: number, scratch: Uint8Array): boolean {
  let any = false;
  for (;;) {
    const got = receive(fd, scratch, "poll");
    if (got === -errno.EAGAIN) return any;
    any = true;
    if (got < 0 && got !== -errno.ENOBUFS) return any;
  }
}
