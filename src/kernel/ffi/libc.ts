import koffi from "koffi";
import { KernelError } from "../kernel.ts";
import { describeErrno, errno } from "./errno.ts";

// koffi has no ssize_t; intptr_t comes back as number or bigint, hence the Number() around it.
const prototypes = {
  open: "int open(const char *path, int flags, int mode)",
  read: "intptr_t read(int fd, _Out_ uint8_t *buffer, size_t size)",
  write: "intptr_t write(int fd, const uint8_t *buffer, size_t size)",
  close: "int close(int fd)",
  fcntl: "int fcntl(int fd, int command, int argument)",
  setns: "int setns(int fd, int type)",
  unshare: "int unshare(int flags)",
  mount: "int mount(const char *source, const char *target, const char *type, unsigned long flags, const char *data)",
  umount2: "int umount2(const char *target, int flags)",
  socket: "int socket(int domain, int type, int protocol)",
  bind: "int bind(int fd, const uint8_t *address, uint32_t length)",
  listen: "int listen(int fd, int backlog)",
  send: "intptr_t send(int fd, const uint8_t *buffer, size_t size, int flags)",
  sendto:
    "intptr_t sendto(int fd, const uint8_t *buffer, size_t size, int flags, const uint8_t *address, uint32_t length)",
  recv: "intptr_t recv(int fd, _Out_ uint8_t *buffer, size_t size, int flags)",
  setsockopt: "int setsockopt(int fd, int level, int name, const uint8_t *value, uint32_t length)",
  getsockopt: "int getsockopt(int fd, int level, int name, _Out_ uint8_t *value, _Inout_ uint8_t *length)",
} as const;

type Name = keyof typeof prototypes;
type Argument = number | string | Uint8Array | null;
type Native = ((...args: Argument[]) => number | bigint) & {
  async(...args: [...Argument[], (error: unknown, result: number | bigint) => void]): void;
};

const loaded = new Map<Name, Native>();

function native(name: Name): Native {
  let found = loaded.get(name);
  if (found === undefined) {
    found = koffi.load("libc.so.6").func(prototypes[name]) as unknown as Native;
    loaded.set(name, found);
  }
  return found;
}

function call(name: Name, ...args: Argument[]): number {
  return Number(native(name)(...args));
}

/** @throws {KernelError} with the errno of the call just made. */
function checked(step: string, result: number): number {
  if (result < 0) throw systemError(step, koffi.errno());
  return result;
}

export function systemError(step: string, number: number): KernelError {
  return new KernelError(step, number, describeErrno(number));
}

const O_CLOEXEC = 0o2000000;
export const openFlags = { readOnly: 0, writeOnly: 1, createExclusive: 0o300 } as const;

export function openFile(step: string, path: string, flags: number, mode = 0): number {
  return checked(step, call("open", path, flags | O_CLOEXEC, mode));
}

/** Up to `maxBytes` from the start of what `fd` gives. */
export function readFile(step: string, fd: number, maxBytes: number): Uint8Array {
  const buffer = new Uint8Array(maxBytes);
  return buffer.subarray(0, checked(step, call("read", fd, buffer, maxBytes)));
}

export function writeFile(step: string, fd: number, bytes: Uint8Array): void {
  checked(step, call("write", fd, bytes, bytes.length));
}

/** Never fails: a descriptor that cannot be closed is gone all the same. */
export function closeFd(fd: number): void {
  call("close", fd);
}

/** The same on a thread of the pool; there can be 256 such calls at a time. */
export function closeFdAside(fd: number): Promise<void> {
  return new Promise((resolve, reject) => {
    native("close").async(fd, (error) => (error ? reject(error) : resolve()));
  });
}

const F_DUPFD_CLOEXEC = 1030;

/** Another descriptor of the same, the lowest free one from `atLeast` on; undefined when there is none. */
export function duplicateFd(fd: number, atLeast: number): number | undefined {
  const copy = call("fcntl", fd, F_DUPFD_CLOEXEC, atLeast);
  return copy < 0 ? undefined : copy;
}

export const CLONE_NEWNET = 0x40000000;

/** 0, or the errno. */
export function setNamespace(fd: number): number {
  return call("setns", fd, CLONE_NEWNET) < 0 ? koffi.errno() : 0;
}

export function unshareNetwork(step: string): void {
  checked(step, call("unshare", CLONE_NEWNET));
}

const MS_BIND = 4096;
const MNT_DETACH = 2;

export function bindMount(step: string, source: string, target: string): void {
  checked(step, call("mount", source, target, "none", MS_BIND, null));
}

/** Lazy unmount of the topmost mount at `target`; false when nothing is mounted there. */
export function unmount(step: string, target: string): boolean {
  if (call("umount2", target, MNT_DETACH) === 0) return true;
  const number = koffi.errno();
  if (number === errno.EINVAL || number === errno.ENOENT) return false;
  throw systemError(step, number);
}

export const AF = { inet: 2, inet6: 10, netlink: 16, packet: 17 } as const;
export const SOCK = { stream: 1, datagram: 2, raw: 3, nonBlocking: 0o4000, closeOnExec: O_CLOEXEC } as const;

export function openSocketFd(step: string, domain: number, type: number, protocol: number): number {
  return checked(step, call("socket", domain, type | SOCK.closeOnExec, protocol));
}

export function bindSocket(step: string, fd: number, address: Uint8Array): void {
  checked(step, call("bind", fd, address, address.length));
}

export function listenSocket(step: string, fd: number, backlog: number): void {
  checked(step, call("listen", fd, backlog));
}

export function setSocketOption(
  step: string,
  fd: number,
  option: readonly [level: number, name: number],
  value: number,
): void {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setInt32(0, value, true);
  checked(step, call("setsockopt", fd, option[0], option[1], bytes, 4));
}

/** Undefined when the descriptor is no socket. */
export function socketOption(fd: number, option: readonly [level: number, name: number]): number | undefined {
  const [bytes, length] = [new Uint8Array(4), Uint8Array.of(4, 0, 0, 0)];
  if (call("getsockopt", fd, option[0], option[1], bytes, length) < 0) return undefined;
  return new DataView(bytes.buffer).getInt32(0, true);
}

/** SO_RCVTIMEO: a blocking receive gives EAGAIN after this long. */
export function setReceiveTimeout(step: string, fd: number, seconds: number): void {
  const bytes = new Uint8Array(16);
  new DataView(bytes.buffer).setBigInt64(0, BigInt(seconds), true);
  checked(step, call("setsockopt", fd, 1, 20, bytes, 16));
}

export function sendBytes(step: string, fd: number, bytes: Uint8Array): void {
  checked(step, call("send", fd, bytes, bytes.length, 0));
}

export function sendBytesTo(step: string, fd: number, bytes: Uint8Array, address: Uint8Array): void {
  checked(step, call("sendto", fd, bytes, bytes.length, 0, address, address.length));
}

/** The same on a thread of the pool, for requests that take the kernel long. */
export function sendBytesAside(step: string, fd: number, bytes: Uint8Array): Promise<void> {
  return new Promise((resolve, reject) => {
    const done = (error: unknown, result: number | bigint) => {
      if (error) reject(error);
      else if (Number(result) < 0) reject(systemError(step, errno.EIO));
      else resolve();
    };
    native("send").async(fd, bytes, bytes.length, 0, done);
  });
}

const MSG_DONTWAIT = 0x40;

/** Bytes received into `buffer`, or the negated errno. */
export function receive(fd: number, buffer: Uint8Array, mode: "block" | "poll"): number {
  for (;;) {
    const got = call("recv", fd, buffer, buffer.length, mode === "poll" ? MSG_DONTWAIT : 0);
    if (got >= 0) return got;
    const number = koffi.errno();
    if (number !== errno.EINTR) return -number;
  }
}
