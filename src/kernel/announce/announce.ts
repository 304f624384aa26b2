import { familyOf, type IpAddress, type MacAddress, macToBytes } from "../../base/ip.ts";
import { closeAside, raiseDescriptor } from "../ffi/descriptors.ts";
import { AF, openSocketFd, SOCK, sendBytesTo } from "../ffi/libc.ts";
import { announcement } from "./codec.ts";

/** Sends announcements out of the links of one namespace. It is kept open, since closing it takes long; it receives nothing. */
export class Announcer implements AsyncDisposable {
  readonly #fd: number;

  /** In the namespace the thread is in; call it inside `inNamespace`. */
  constructor() {
    this.#fd = raiseDescriptor(openSocketFd("open packet socket", AF.packet, SOCK.raw, 0));
  }

  /** @throws {KernelError} */
  send(linkIndex: number, ip: IpAddress, mac: MacAddress): void {
    sendBytesTo(`announce ${ip}`, this.#fd, announcement(ip, mac), linkLayerAddress(linkIndex, familyOf(ip), mac));
  }

  /** On a thread of the pool: the kernel waits for an RCU grace period. */
  [Symbol.asyncDispose](): Promise<void> {
    return closeAside(this.#fd);
  }
}

/** struct sockaddr_ll: u16 family, u16 protocol (network order), i32 link index, u16 type, u8 packet type, u8 length, 8 bytes. */
function linkLayerAddress(linkIndex: number, family: 4 | 6, mac: MacAddress): Uint8Array {
  const bytes = new Uint8Array(20);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, AF.packet, true);
  view.setUint16(2, family === 4 ? 0x0806 : 0x86dd, false);
  view.setInt32(4, linkIndex, true);
  bytes[11] = 6;
  bytes.set(macToBytes(mac), 12);
  return bytes;
}
