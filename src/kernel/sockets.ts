import { familyOf, type IpAddress, ipToBytes } from "../base/ip.ts";
import { raiseDescriptor } from "./ffi/descriptors.ts";
import { AF, bindSocket, closeFd, listenSocket, openSocketFd, SOCK, setSocketOption } from "./ffi/libc.ts";

const SO_REUSEADDR: readonly [number, number] = [1, 2];
const IPV6_V6ONLY: readonly [number, number] = [41, 26];
const listenBacklog = 511;

export interface SocketRequest {
  readonly type: "udp" | "tcp";
  readonly address: IpAddress;
  readonly portHostOrder: number;
}

/** Bound, and listening if TCP, in the namespace the thread is in. */
export function openBoundSocket(request: SocketRequest): number {
  const { type, address, portHostOrder } = request;
  const step = `open ${type} socket on ${address} port ${portHostOrder}`;
  const family = familyOf(address);
  const fd = openUnboundSocket(`${type}${family}`);
  try {
    if (type === "tcp") setSocketOption(step, fd, SO_REUSEADDR, 1);
    if (family === 6) setSocketOption(step, fd, IPV6_V6ONLY, 1);
    bindSocket(step, fd, socketAddress(address, portHostOrder));
    if (type === "tcp") listenSocket(step, fd, listenBacklog);
  } catch (error) {
    closeFd(fd);
    throw error;
  }
  return fd;
}

export function openUnboundSocket(type: "udp4" | "udp6" | "tcp4" | "tcp6"): number {
  const domain = type.endsWith("4") ? AF.inet : AF.inet6;
  const kind = type.startsWith("tcp") ? SOCK.stream : SOCK.datagram;
  return raiseDescriptor(openSocketFd(`open ${type} socket`, domain, kind | SOCK.nonBlocking, 0));
}

/**
 * struct sockaddr_in: u16 family (host order), u16 port, 4 bytes address, 8 zero.
 * struct sockaddr_in6: u16 family, u16 port, u32 flow, 16 bytes address, u32 scope. Pure.
 */
export function socketAddress(address: IpAddress, portHostOrder: number): Uint8Array {
  const four = familyOf(address) === 4;
  const bytes = new Uint8Array(four ? 16 : 28);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, four ? AF.inet : AF.inet6, true);
  view.setUint16(2, portHostOrder, false);
  bytes.set(ipToBytes(address), four ? 4 : 8);
  return bytes;
}
