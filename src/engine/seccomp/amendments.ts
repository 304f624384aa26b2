import type { ProfileRule } from "./profile.ts";

/**
 * What Docker 28's default differs in from the 20.10 profile in profile.json, read off the runtime specification of a
 * container that a real Docker 28 started. The profile itself stays as it was published.
 */

/** io_uring escapes seccomp: the ring does system calls that no filter sees. */
export const withdrawnNames: ReadonlySet<string> = new Set([
  "io_uring_enter",
  "io_uring_register",
  "io_uring_setup",
  // Allowed again below, but for one address family.
  "socket",
]);

const vsockFamily = 40;

export const addedRules: readonly ProfileRule[] = [
  {
    names: [
      "cachestat",
      "fchmodat2",
      "futex_requeue",
      "futex_wait",
      "futex_wake",
      "getxattrat",
      "listmount",
      "listxattrat",
      "map_shadow_stack",
      "mseal",
      "name_to_handle_at",
      "pkey_alloc",
      "pkey_free",
      "pkey_mprotect",
      "removexattrat",
      "riscv_hwprobe",
      "setxattrat",
      "statmount",
      "uretprobe",
    ],
    action: "SCMP_ACT_ALLOW",
  },
  {
    names: ["process_vm_readv", "process_vm_writev"],
    action: "SCMP_ACT_ALLOW",
    // Before 4.8 ptrace could be used to get round the filter.
    includes: { minKernel: "4.8" },
  },
  // AF_VSOCK reaches the hypervisor past every network namespace.
  {
    names: ["socket"],
    action: "SCMP_ACT_ALLOW",
    args: [{ index: 0, value: vsockFamily, op: "SCMP_CMP_NE" }],
  },
  { names: ["clock_settime64"], action: "SCMP_ACT_ALLOW", includes: { caps: ["CAP_SYS_TIME"] } },
  { names: ["set_mempolicy_home_node"], action: "SCMP_ACT_ALLOW", includes: { caps: ["CAP_SYS_NICE"] } },
  { names: ["bpf"], action: "SCMP_ACT_ALLOW", includes: { caps: ["CAP_BPF"] } },
  { names: ["perf_event_open"], action: "SCMP_ACT_ALLOW", includes: { caps: ["CAP_PERFMON"] } },
];
