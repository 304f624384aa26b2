import { familyOf, type IpAddress, type MacAddress, macToBytes } from "../../base/ip.ts";
import { AF, closeFd, openSocketFd, SOCK, sendBytesTo } from "../ffi/libc.ts";
import { announcement } from "./codec.ts";

/** Sends one announcement out of a link of the namespace the thread is in. @throws {KernelError} */
export function sendAnnouncement(linkIndex: number, ip: IpAddress, mac: MacAddress): void {
  const step = `announce ${ip}`;
  const fd = openSocketFd(step, AF.packet, SOCK.raw, 0);
  try {
    sendBytesTo(step, fd, announcement(ip, mac), linkLayerAddress(linkIndex, familyOf(ip), mac));
  } finally {
    closeFd(fd);
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
