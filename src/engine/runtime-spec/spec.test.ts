import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import type { ContainerRecord, HostSpec } from "../model.ts";
import { capabilitiesOf, knownCapabilities } from "./capabilities.ts";
import { buildSpec, type HostFacts, type SpecInput } from "./spec.ts";

const golden = JSON.parse(readFileSync(new URL("./testdata/docker-28-default.json", import.meta.url), "utf8"));

const host: HostFacts = {
  architecture: "amd64",
  kernelRelease: "6.18.44",
  hostname: "loom",
  capabilities: capabilitiesOf("1fffeffffff"),
  cgroupVersion: 1,
  hasApparmor: false,
  cpuCount: 2,
  devices: [{ type: "c", path: "/dev/fuse", major: 10, minor: 229, fileMode: 0o600, uid: 0, gid: 0 }],
};

function input(options: Partial<HostSpec> = {}, changes: Partial<ContainerRecord> = {}): SpecInput {
  const spec = {
    tty: false,
    domainname: "",
    networkMode: "none",
    host: {
      privileged: false,
      readonlyRootfs: false,
      capAdd: [],
      capDrop: [],
      securityOptions: [],
      sysctls: {},
      memoryBytes: 0,
      nanoCpus: 0,
      pidsLimit: undefined,
      shmSizeBytes: 0,
      init: false,
      groupAdd: [],
      tmpfs: {},
      pidMode: "",
      ipcMode: "",
      utsMode: "",
      ...options,
    },
  };
  const container = {
    id: "ID",
    hostname: "SHORTID",
    mounts: [],
    process: {
      path: "sleep",
      args: ["600"],
      env: golden.process.env,
      workingDirectory: "/",
      user: "",
    },
    spec,
    ...changes,
  } as unknown as ContainerRecord;
  return {
    container,
    host,
    user: { uid: 0, gid: 0, additionalGids: [0] },
    netnsPath: "/run/netns/x",
    joined: {},
    filesDirectory: "/files",
    initPath: undefined,
    cgroupParent: "/docker",
  };
}

/** Order of rules does not matter to the filter; which names are allowed with which arguments does. */
function allowed(syscalls: readonly { names: readonly string[]; action: string; args?: unknown; errnoRet?: number }[]) {
  const rules = new Map<string, Set<string>>();
  for (const { names, action, args, errnoRet } of syscalls) {
    const key = JSON.stringify([action, errnoRet ?? null, args ?? null]);
    rules.set(key, new Set([...(rules.get(key) ?? []), ...names]));
  }
  return rules;
}

test("buildSpec() gives a plain container what Docker 28 gives it", () => {
  const spec = buildSpec(input());
  assert.deepEqual(spec.mounts, golden.mounts);
  assert.deepEqual(spec.process.capabilities, golden.process.capabilities);
  assert.deepEqual(spec.process.user, golden.process.user);
  assert.equal(spec.process.noNewPrivileges, golden.process.noNewPrivileges ?? false);
  assert.deepEqual(spec.linux.maskedPaths, golden.linux.maskedPaths);
  assert.deepEqual(spec.linux.readonlyPaths, golden.linux.readonlyPaths);
  assert.deepEqual(spec.linux.sysctl, golden.linux.sysctl);
  // Docker writes the same eight rules twice.
  assert.deepEqual(spec.linux.resources.devices, golden.linux.resources.devices.slice(0, 8));
  assert.equal(spec.linux.cgroupsPath, golden.linux.cgroupsPath);
  assert.deepEqual(
    spec.linux.namespaces.map(({ type }) => type),
    golden.linux.namespaces.map(({ type }: { type: string }) => type),
  );
  assert.deepEqual(spec.linux.devices, []);
});

test("buildSpec() gives it the same system call filter", () => {
  const { seccomp } = buildSpec(input()).linux;
  assert.ok(seccomp);
  assert.equal(seccomp.defaultAction, golden.linux.seccomp.defaultAction);
  assert.equal(seccomp.defaultErrnoRet, golden.linux.seccomp.defaultErrnoRet);
  assert.deepEqual(seccomp.architectures, golden.linux.seccomp.architectures);
  assert.deepEqual(allowed(seccomp.syscalls), allowed(golden.linux.seccomp.syscalls));
});

test("capabilities open system calls", () => {
  const names = (options: Partial<HostSpec>) => {
    const rules = buildSpec(input(options)).linux.seccomp?.syscalls ?? [];
    return new Set(rules.filter((rule) => rule.args === undefined).flatMap((rule) => rule.names));
  };
  assert.ok(!names({}).has("mount"));
  assert.ok(names({ capAdd: ["sys_admin"] }).has("mount"));
  assert.ok(!names({ capDrop: ["ALL"] }).has("chroot"));
});

test("a privileged container has the host's capabilities and devices, nothing masked, no filter", () => {
  const spec = buildSpec(input({ privileged: true }));
  assert.equal(spec.linux.seccomp, undefined);
  assert.equal(spec.linux.maskedPaths, undefined);
  assert.deepEqual(spec.linux.devices, host.devices);
  assert.deepEqual(spec.linux.resources.devices, [{ allow: true, access: "rwm" }]);
  assert.ok(!spec.process.capabilities.bounding.includes("CAP_SYS_RESOURCE"), "the host has none to give");
  assert.equal(spec.process.capabilities.bounding.length, knownCapabilities.length - 1);
  assert.ok(!spec.mounts.find((mount) => mount.destination === "/sys")?.options.includes("ro"));
});

test("what the user mounts takes the place of ours; parents come before children", () => {
  const bare = { type: "bind", name: "", driver: "", mode: "", readonly: false, propagation: "" } as const;
  const mounts = [
    { ...bare, source: "/deep", destination: "/data/a/b" },
    { ...bare, source: "/data", destination: "/data", readonly: true },
    { ...bare, source: "/h", destination: "/etc/hosts" },
  ];
  const spec = buildSpec(input({ tmpfs: { "/t": "size=1m,exec" } }, { mounts }));
  const own = spec.mounts.slice(-4).map(({ destination, options }) => [destination, ...options]);
  assert.deepEqual(own, [
    ["/data", "rbind", "ro", "rro", "rprivate"],
    ["/t", "nosuid", "nodev", "size=1m", "exec"],
    ["/etc/hosts", "rbind", "rprivate"],
    ["/data/a/b", "rbind", "rprivate"],
  ]);
  assert.equal(spec.mounts.filter((mount) => mount.destination === "/etc/hosts").length, 1);
});

test("a read-only root leaves only the kernel's own file systems writable", () => {
  const writable = buildSpec(input({ readonlyRootfs: true }))
    .mounts.filter((mount) => !mount.options.includes("ro"))
    .map((mount) => mount.destination);
  assert.deepEqual(writable, ["/proc", "/dev", "/dev/pts", "/dev/mqueue", "/dev/shm"]);
});

test("limits, host namespaces and sysctls are carried over", () => {
  const spec = buildSpec(
    input({
      memoryBytes: 64 << 20,
      nanoCpus: 1.5e9,
      pidsLimit: 50,
      pidMode: "host",
      ipcMode: "host",
      utsMode: "host",
      sysctls: { "kernel.msgmax": "9", "net.ipv4.conf.eth0.forwarding": "1" },
    }),
  );
  assert.deepEqual(spec.linux.resources.memory, { limit: 64 << 20, swap: 128 << 20 });
  assert.deepEqual(spec.linux.resources.cpu, { period: 100_000, quota: 150_000 });
  assert.deepEqual(spec.linux.resources.pids, { limit: 50 });
  assert.deepEqual(
    spec.linux.namespaces.map(({ type }) => type),
    ["mount", "network"],
  );
  assert.equal(spec.hostname, undefined);
  assert.equal(spec.linux.sysctl["kernel.msgmax"], "9");
  assert.equal(spec.linux.sysctl["net.ipv4.conf.eth0.forwarding"], undefined);
});

test("unknown capabilities and security options are refused in Docker's words", () => {
  assert.throws(() => buildSpec(input({ capAdd: ["FOO"] })), {
    message: 'invalid CapAdd: unknown capability: "CAP_FOO"',
  });
  assert.throws(() => buildSpec(input({ securityOptions: ["foo=bar"] })), {
    message: 'invalid --security-opt 2: "foo=bar"',
  });
  assert.throws(() => buildSpec(input({ init: true })), /no "docker-init" or "tini" is installed/);
});
