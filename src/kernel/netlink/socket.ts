import { DecodeError } from "../../base/errors.ts";
import { raiseDescriptor } from "../ffi/descriptors.ts";
import { errno } from "../ffi/errno.ts";
import {
  AF,
  bindSocket,
  closeFd,
  openSocketFd,
  receive,
  SOCK,
  sendBytes,
  sendBytesAside,
  setReceiveTimeout,
  setSocketOption,
  systemError,
} from "../ffi/libc.ts";
import { KernelError } from "../kernel.ts";
import { decodeAcknowledgement, decodeMessages, type MessageBuilder, type NetlinkMessage } from "./codec.ts";

export const protocols = { route: 0, netfilter: 12 } as const;
export type Protocol = keyof typeof protocols;

export const flags = {
  request: 1,
  acknowledge: 4,
  dump: 0x300,
  replace: 0x100,
  exclusive: 0x200,
  create: 0x400,
} as const;

const NLMSG_ERROR = 2;
const NLMSG_DONE = 3;
const NLM_F_MULTI = 2;
const NLM_F_DUMP_INTR = 0x10;

const SOL_NETLINK = 270;
const NETLINK_CAP_ACK = 10;
const NETLINK_EXT_ACK = 11;
const NETLINK_GET_STRICT_CHK = 12;

/** The kernel gives dumps in pieces of at most 32 KiB. */
const receiveBytes = 64 * 1024;
/** A dump that changes underneath is begun again this often before it is taken as it is. */
const maxDumpAttempts = 5;

const buffer = new Uint8Array(receiveBytes);

/**
 * A netlink socket for requests. It belongs to the namespace it was opened in for life, wherever the thread is when it is
 * used. The kernel has answered before `send` returns, so that a blocking request takes about 11 µs and never waits.
 */
export class NetlinkSocket implements Disposable {
  readonly #fd: number;
  #sequence = 0;

  constructor(fd: number) {
    this.#fd = fd;
  }

  /** Does it, or throws. @throws {KernelError} with the kernel's words. */
  request(step: string, message: MessageBuilder): void {
    this.#exchange(step, message);
  }

  /** The same without blocking: the kernel works on a thread of the pool. One call at a time, and none of the others meanwhile. */
  async requestAside(step: string, message: MessageBuilder): Promise<void> {
    this.#sequence = (this.#sequence + 1) >>> 0;
    await sendBytesAside(step, this.#fd, message.finish(this.#sequence));
    this.#answer(step, message);
  }

  /** The one object that was asked for. @throws {KernelError} ENOENT, ENODEV, … when there is none. */
  get(step: string, message: MessageBuilder): NetlinkMessage {
    const [first] = this.#exchange(step, message).messages;
    if (first === undefined) throw systemError(step, errno.ENOENT);
    return first;
  }

  /** Everything of a kind, from one moment (begun again when it changed meanwhile). */
  dump(step: string, message: () => MessageBuilder): readonly NetlinkMessage[] {
    for (let attempt = 1; ; attempt++) {
      const { messages, interrupted } = this.#exchange(step, message());
      if (!interrupted || attempt === maxDumpAttempts) return messages;
    }
  }

  [Symbol.dispose](): void {
    closeFd(this.#fd);
  }

  #exchange(step: string, message: MessageBuilder): { messages: NetlinkMessage[]; interrupted: boolean } {
    this.#sequence = (this.#sequence + 1) >>> 0;
    sendBytes(step, this.#fd, message.finish(this.#sequence));
    return this.#answer(step, message);
  }

  #answer(step: string, message: MessageBuilder): { messages: NetlinkMessage[]; interrupted: boolean } {
    const messages: NetlinkMessage[] = [];
    let interrupted = false;
    for (;;) {
      const got = receive(this.#fd, buffer, "block");
      if (got < 0) throw systemError(step, -got);
      // The buffer is used again by the next receive; what is handed out must not change.
      for (const reply of decodeMessages(buffer.slice(0, got))) {
        // Left over from a request that failed half-way.
        if (reply.sequence !== this.#sequence) continue;
        if ((reply.flags & NLM_F_DUMP_INTR) !== 0) interrupted = true;
        if (reply.type === NLMSG_ERROR) {
          const answer = decodeAcknowledgement(reply);
          if (answer.errno === 0) return { messages, interrupted };
          throw requestError(step, answer.errno, answer.text);
        }
        if (reply.type === NLMSG_DONE) {
          const failed = doneErrno(reply);
          if (failed !== 0) throw systemError(step, failed);
          return { messages, interrupted };
        }
        messages.push(reply);
        if ((reply.flags & NLM_F_MULTI) === 0 && !message.acknowledged) return { messages, interrupted };
      }
    }
  }
}

/** NLMSG_DONE carries an i32: 0 or the negated errno that ended the dump. */
function doneErrno(message: NetlinkMessage): number {
  const { payload, offset } = message;
  if (payload.length === 0) return 0;
  if (payload.length < 4) throw new DecodeError("netlink done", offset, `${payload.length} bytes, expected 4`);
  return Math.abs(new DataView(payload.buffer, payload.byteOffset, 4).getInt32(0, true));
}

function requestError(step: string, number: number, text: string | undefined): KernelError {
  const plain = systemError(step, number);
  if (text === undefined) return plain;
  return new KernelError(step, number, `${text} [${plain.message.slice(step.length + 2)}]`);
}

/** Opens a socket in the namespace the thread is in; call it inside `inNamespace`. */
export function openNetlink(protocol: Protocol): NetlinkSocket {
  const step = `open ${protocol} netlink socket`;
  const fd = raiseDescriptor(openSocketFd(step, AF.netlink, SOCK.raw, protocols[protocol]));
  try {
    bindSocket(step, fd, netlinkAddress(0));
    setSocketOption(step, fd, [SOL_NETLINK, NETLINK_EXT_ACK], 1);
    // Without it the failed request comes back whole before the kernel's words.
    setSocketOption(step, fd, [SOL_NETLINK, NETLINK_CAP_ACK], 1);
    if (protocol === "route") setSocketOption(step, fd, [SOL_NETLINK, NETLINK_GET_STRICT_CHK], 1);
    setReceiveTimeout(step, fd, 10);
  } catch (error) {
    closeFd(fd);
    throw error;
  }
  return new NetlinkSocket(fd);
}

/** struct sockaddr_nl: u16 family, u16 pad, u32 port (0: chosen by the kernel), u32 groups. */
export function netlinkAddress(groups: number): Uint8Array {
  const bytes = new Uint8Array(12);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, AF.netlink, true);
  view.setUint32(8, groups, true);
  return bytes;
}
