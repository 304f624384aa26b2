import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync, mkdtempSync, openSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { open } from "node:fs/promises";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { parseIp } from "../../src/base/ip.ts";
import { silentLog } from "../../src/base/log.ts";
import { selectLimit } from "../../src/kernel/ffi/descriptors.ts";
import { unshareNetwork } from "../../src/kernel/ffi/libc.ts";
import { type KernelObject, openKernel } from "../../src/kernel/mod.ts";
import { namespaceFiles, removeNamespaceFile } from "../../src/kernel/netns/namespaces.ts";

const openFiles = 3000;
const namespaceCount = 40;

// This file is also the process with the many files: an abort of libnftables must not end the tests.
if (process.env["WK_MANY_FILES"] !== undefined) {
  await manyFiles(process.env["WK_MANY_FILES"]);
  process.exit(0);
}

test("with thousands of files open, new namespaces get their tables, and nothing keeps low descriptors", async () => {
  const directory = mkdtempSync("/run/wk-files-");
  try {
    const child = spawn(process.execPath, [fileURLToPath(import.meta.url)], {
      env: { ...process.env, WK_MANY_FILES: directory },
      stdio: ["ignore", "pipe", "pipe"],
    });
    let output = "";
    for (const stream of [child.stdout, child.stderr]) stream.on("data", (data) => (output += String(data)));
    const [code, signal] = await once(child, "close");
    assert.deepEqual([code, signal], [0, null], output);
  } finally {
    for (const path of namespaceFiles(directory)) removeNamespaceFile(path);
    rmSync(directory, { recursive: true });
  }
});

async function manyFiles(directory: string): Promise<void> {
  const { signal } = new AbortController();
  unshareNetwork("leave the machine's network namespace");
  await using kernel = await openKernel({ log: silentLog }, signal);
  for (let i = 0; i < openFiles; i++) openSync("/dev/null", "r");
  // Others open files on other threads all the time, and would like the low descriptors as well.
  let racing = true;
  const race = async () => {
    while (racing) await (await open("/dev/null", "r")).close();
  };
  const racers = [race(), race()];
  for (let round = 1; round <= 3; round++) {
    const paths = Array.from({ length: namespaceCount }, (_, i) => `${directory}/c${i}`);
    await Promise.all(paths.map((path) => kernel.reconcile(path, tables(path), signal)));
    await Promise.all(paths.map((path) => kernel.reconcile(path, tables(path, "10.0.0.2"), signal)));
    for (const path of paths) await kernel.reconcile(path, tables(path, "10.0.0.3"), signal);
    await kernel.reconcile("host", tables("host", `10.0.0.${round}`), signal);
    await Promise.all(paths.map((path) => kernel.reconcile(path, round === 2 ? [] : tables(path).slice(0, 1), signal)));
  }
  racing = false;
  await Promise.all(racers);
  for (const type of ["udp", "tcp"] as const) {
    const fd = kernel.openSocket("host", { type, address: parseIp("0.0.0.0"), portHostOrder: 0 });
    assert.ok(fd >= selectLimit, `a ${type} socket has descriptor ${fd}`);
    closeSync(fd);
  }
  const netlink = socketsOfKind("netlink").filter((fd) => fd < selectLimit);
  assert.ok(netlink.length <= 10, `${netlink.length} netlink sockets have low descriptors`);
}

function tables(path: string, address = "10.0.0.1"): readonly KernelObject[] {
  const ns = path === "host" ? path : { path };
  const table = { family: "ip", name: "weft-t", body: "map m { type inet_service : ipv4_addr; }" } as const;
  const element = { family: "ip", table: "weft-t", set: "m", key: "80", value: address } as const;
  return [
    ...(ns === "host" ? [] : [{ kind: "netns", path } as const]),
    { kind: "nft-table", ns, table },
    { kind: "nft-element", ns, element },
  ];
}

/** Descriptors of this process that are sockets listed in /proc/net. */
function socketsOfKind(kind: "netlink"): readonly number[] {
  const inodes = new Set(
    readFileSync(`/proc/self/net/${kind}`, "utf8")
      .split("\n")
      .slice(1)
      .map((line) => line.trim().split(/\s+/).at(-1)),
  );
  return readdirSync("/proc/self/fdinfo").flatMap((fd) => {
    try {
      const inode = /^ino:\s*(\d+)/m.exec(readFileSync(`/proc/self/fdinfo/${fd}`, "utf8"))?.[1];
      return inode !== undefined && inodes.has(inode) ? [Number(fd)] : [];
    } catch {
      // The directory's own descriptor.
      return [];
    }
  });
}
