import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { silentLog } from "../../src/base/log.ts";
import { kernelContract } from "../../src/kernel/contract.ts";
import { LowDescriptors } from "../../src/kernel/ffi/descriptors.ts";
import { unshareNetwork } from "../../src/kernel/ffi/libc.ts";
import { inNamespace } from "../../src/kernel/ffi/namespace.ts";
import type { Netns } from "../../src/kernel/mod.ts";
import { openKernel } from "../../src/kernel/mod.ts";
import { Namespaces, namespaceFiles, removeNamespaceFile } from "../../src/kernel/netns/namespaces.ts";
import { NftContexts } from "../../src/kernel/nftables/contexts.ts";
import { elementsInListing } from "../../src/kernel/nftables/listing.ts";
import { compareText } from "../../src/kernel/plan.ts";
import { readSysctl } from "../../src/kernel/sysctl/sysctl.ts";

// The sweeps in here must not meet what other engines keep in this machine's namespace.
unshareNetwork("leave the machine's network namespace");

const signal = new AbortController().signal;

kernelContract("Linux", async () => {
  const directory = mkdtempSync("/run/wk-contract-");
  const open = () => openKernel({ log: silentLog }, signal);
  const kernels = [await open()];
  const namespaces = new Namespaces();
  const low = LowDescriptors.reserve(2);
  const nft = new NftContexts(namespaces, low);
  const fdOf = (ns: Netns) => {
    const fresh = new Namespaces();
    closers.push(() => fresh[Symbol.asyncDispose]());
    return fresh.get(ns).fd;
  };
  const closers: (() => Promise<void>)[] = [];
  return {
    kernel: kernels[0] as Awaited<ReturnType<typeof open>>,
    directory,
    elements: (ns, table, set) =>
      nft.use(ns, async (context) => {
        const listing = context.query("list", `list table ${table.family} ${table.name}`) ?? "";
        return elementsInListing(table, listing)
          .filter((element) => element.set === set)
          .map(({ key, value }) => (value === undefined ? key : `${key} : ${value}`))
          .sort(compareText);
      }),
    sysctl: (ns, key) => readSysctl(fdOf(ns), key),
    // A child inherits the namespace that the thread is in when it is started.
    addStrangersLink: (ns, name) =>
      inNamespace(fdOf(ns), () => {
        execFileSync("ip", ["link", "add", name, "type", "bridge"]);
      }),
    async restart() {
      const made = await open();
      kernels.push(made);
      return made;
    },
    async close() {
      for (const kernel of kernels) await kernel[Symbol.asyncDispose]();
      for (const close of closers) await close();
      await nft[Symbol.asyncDispose]();
      low[Symbol.dispose]();
      await namespaces[Symbol.asyncDispose]();
      for (const path of namespaceFiles(directory)) removeNamespaceFile(path);
      rmSync(directory, { recursive: true });
    },
  };
});
