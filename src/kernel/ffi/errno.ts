/** Linux error numbers that this room meets, with the words of strerror(3). The numbers are the same on x86-64 and arm64. */
export const errno = {
  EPERM: 1,
  ENOENT: 2,
  ESRCH: 3,
  EINTR: 4,
  EIO: 5,
  EBADF: 9,
  EAGAIN: 11,
  ENOMEM: 12,
  EACCES: 13,
  EBUSY: 16,
  EEXIST: 17,
  EXDEV: 18,
  ENODEV: 19,
  ENOTDIR: 20,
  EINVAL: 22,
  EMFILE: 24,
  ENOSPC: 28,
  EROFS: 30,
  ERANGE: 34,
  ELOOP: 40,
  EOPNOTSUPP: 95,
  EAFNOSUPPORT: 97,
  EADDRINUSE: 98,
  EADDRNOTAVAIL: 99,
  ENETDOWN: 100,
  ENETUNREACH: 101,
  ENOBUFS: 105,
  ETIMEDOUT: 110,
  EHOSTUNREACH: 113,
} as const;

const words: Readonly<Record<number, string>> = {
  1: "operation not permitted",
  2: "no such file or directory",
  3: "no such process",
  9: "bad file descriptor",
  11: "no answer from the kernel",
  12: "cannot allocate memory",
  13: "permission denied",
  16: "device or resource busy",
  17: "file exists",
  19: "no such device",
  20: "not a directory",
  22: "invalid argument",
  28: "no space left on device",
  30: "read-only file system",
  34: "numerical result out of range",
  95: "operation not supported",
  97: "address family not supported by protocol",
  98: "address already in use",
  99: "cannot assign requested address",
  100: "network is down",
  101: "network is unreachable",
  105: "no buffer space available",
  110: "timed out",
  113: "no route to host",
};

const names = new Map<number, string>(Object.entries(errno).map(([name, number]) => [number, name]));

/** `EEXIST (file exists)`; the bare number when it has no name here. */
export function describeErrno(number: number): string {
  const name = names.get(number);
  const text = words[number];
  if (name === undefined) return `errno ${number}`;
  return text === undefined ? name : `${name} (${text})`;
}
