import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { test } from "node:test";
import { parseCidr, parseIp, parseMac } from "../../src/base/ip.ts";
import { silentLog } from "../../src/base/log.ts";
import { unshareNetwork } from "../../src/kernel/ffi/libc.ts";
import { inNamespace } from "../../src/kernel/ffi/namespace.ts";
import { type KernelObject, openKernel } from "../../src/kernel/mod.ts";
import { Namespaces, namespaceFiles, removeNamespaceFile } from "../../src/kernel/netns/namespaces.ts";

const signal = new AbortController().signal;

// This file is also the process that is killed.
if (process.env["WK_DIRECTORY"] !== undefined) await build(process.env["WK_DIRECTORY"]);

unshareNetwork("leave the machine's network namespace");

const kinds = [
  "netns.ensure",
  "link.ensure",
  "sysctl.ensure",
  "address.ensure",
  "address.remove",
  "route.ensure",
  "route.remove",
  "neighbour.ensure",
  "neighbour.remove",
  "fdb.ensure",
  "fdb.remove",
  "nft.apply",
  "link.remove",
  "netns.remove",
];

/** First state, second state; the second takes some of everything away and changes the rest. */
function states(directory: string): readonly [KernelObject[], KernelObject[]] {
  const [host, inside, gone] = ["h", "c", "g"].map((name) => ({ path: `${directory}/${name}` })) as [
    { path: string },
    { path: string },
    { path: string },
  ];
  const veth = (name: string, ns: { path: string }, mtuBytes: number): KernelObject => {
    const peer = { ns, name: "eth0", mac: parseMac(`02:42:0a:01:00:0${name.length}`) };
    return { kind: "link", ns: host, link: { type: "veth", name, mtuBytes, master: "br0", peer } };
  };
  const element = (port: number, last: number): KernelObject => ({
    kind: "nft-element",
    ns: host,
    element: { family: "ip", table: "weft", set: "m", key: String(port), value: `10.1.0.${last}` },
  });
  const vxlan = {
    type: "vxlan",
    name: "vx0",
    vni: 5001,
    portHostOrder: 24790,
    mtuBytes: 1450,
    master: "br0",
    outerFamily: 4,
  } as const;
  const mac = parseMac("02:42:0a:01:00:09");
  const both: KernelObject[] = [
    { kind: "netns", path: host.path },
    { kind: "netns", path: inside.path },
    { kind: "link", ns: host, link: { type: "bridge", name: "br0", mtuBytes: 1450 } },
    { kind: "link", ns: host, link: vxlan },
    { kind: "address", ns: host, link: "br0", address: parseCidr("10.1.0.1/24") },
    { kind: "route", ns: host, route: { destination: parseCidr("10.7.0.0/16"), link: "br0" } },
    { kind: "sysctl", ns: host, key: "net.ipv4.ip_forward", value: "1" },
    { kind: "fdb", ns: host, link: "vx0", mac, vtep: parseIp("10.30.10.1") },
  ];
  const table = (body: string): KernelObject => ({
    kind: "nft-table",
    ns: host,
    table: { family: "ip", name: "weft", body },
  });
  const map = "map m { type inet_service : ipv4_addr; }";
  const first = [
    ...both,
    { kind: "netns", path: gone.path } as const,
    veth("v", inside, 1450),
    veth("vv", gone, 1450),
    { kind: "address", ns: host, link: "br0", address: parseCidr("10.2.0.1/24") } as const,
    { kind: "route", ns: host, route: { destination: parseCidr("10.8.0.0/16"), link: "br0" } } as const,
    { kind: "neighbour", ns: host, link: "vx0", ip: parseIp("10.1.0.8"), mac } as const,
    { kind: "fdb", ns: host, link: "vx0", mac: parseMac("02:42:0a:01:00:08"), vtep: parseIp("10.30.10.1") } as const,
    table(map),
    element(80, 1),
    element(81, 2),
  ];
  const second = [
    ...both,
    veth("v", inside, 1400),
    { kind: "neighbour", ns: host, link: "vx0", ip: parseIp("10.1.0.9"), mac } as const,
    table(`${map}\nset s { type mark; }`),
    element(80, 3),
  ];
  return [first, second];
}

async function build(directory: string): Promise<never> {
  await using kernel = await openKernel({ log: silentLog }, signal);
  const [first, second] = states(directory);
  // A process that starts again does not know what was there before: it goes for the last state at once.
  if (process.env["WK_FROM"] !== "second") await kernel.reconcile("u", first, signal);
  await kernel.reconcile("u", second, signal);
  await kernel.sweep(directory, signal);
  await kernel.sweepPeers({ path: `${directory}/h` }, signal);
  await kernel[Symbol.asyncDispose]();
  process.exit(0);
}

const child = (directory: string, env: Record<string, string>) =>
  spawnSync(process.execPath, [import.meta.filename], {
    env: { ...process.env, WK_DIRECTORY: directory, ...env },
    stdio: ["ignore", "ignore", "inherit"],
    timeout: 20_000,
  });

/** What the tools of this system say of the namespaces, without what is random or counts. */
async function snapshot(directory: string): Promise<string> {
  await using namespaces = new Namespaces();
  const show = (name: string, ...args: string[]) =>
    inNamespace(namespaces.get({ path: `${directory}/${name}` }).fd, () =>
      execFileSync(args[0] as string, args.slice(1), { encoding: "utf8" }),
    );
  const links = (name: string) =>
    (JSON.parse(show(name, "ip", "-j", "-d", "link")) as Record<string, unknown>[])
      .filter((link) => link["ifname"] !== "lo")
      .map(({ ifname, mtu, master, ifalias, operstate }) => JSON.stringify({ ifname, mtu, master, ifalias, operstate }))
      .sort((a, b) => (a < b ? -1 : 1))
      .join("\n");
  const lines = (text: string) =>
    text
      .trim()
      .split("\n")
      .map((line) => line.trim())
      .sort((a, b) => (a < b ? -1 : 1))
      .join("\n");
  return [
    namespaceFiles(directory)
      .map((path) => path.slice(directory.length))
      .join(" "),
    links("h"),
    links("c"),
    lines(show("h", "ip", "-4", "-o", "addr").replace(/^\d+:/gm, "")),
    lines(show("h", "ip", "route")),
    lines(show("h", "ip", "neigh")),
    lines(show("h", "bridge", "fdb", "show", "dev", "vx0").replace(/^.* master br0 permanent$/gm, "")),
    show("h", "nft", "list", "ruleset"),
    show("h", "cat", "/proc/sys/net/ipv4/ip_forward"),
  ].join("\n--\n");
}

async function withDirectory(body: (directory: string) => Promise<void>): Promise<void> {
  const directory = mkdtempSync("/run/wk-crash-");
  try {
    await body(directory);
  } finally {
    for (const path of namespaceFiles(directory)) removeNamespaceFile(path);
    rmSync(directory, { recursive: true });
  }
}

test("killed after any kind of step, started again and swept, the world is as if nothing had happened", async (context) => {
  let expected = "";
  await withDirectory(async (directory) => {
    const done = child(directory, {});
    assert.equal(done.status, 0);
    expected = (await snapshot(directory)).replaceAll(directory, "");
  });
  for (const kind of kinds) {
    for (const count of kind === "link.ensure" || kind === "nft.apply" ? [1, 2, 4] : [1]) {
      await context.test(`${kind}@${count}`, () =>
        withDirectory(async (directory) => {
          const killed = child(directory, { WEFT_CRASH_AFTER: `${kind}@${count}` });
          const mayFinish = kind === "nft.apply" && count > 2;
          if (!mayFinish) assert.equal(killed.signal, "SIGKILL", `was not killed after ${kind}`);
          assert.equal(child(directory, { WK_FROM: "second" }).status, 0);
          assert.equal((await snapshot(directory)).replaceAll(directory, ""), expected);
        }),
      );
    }
  }
});

test("a namespace directory on a shared mount works, and nothing stays mounted", async () => {
  await withDirectory(async (directory) => {
    execFileSync("mount", ["--bind", directory, directory]);
    execFileSync("mount", ["--make-shared", directory]);
    try {
      await using kernel = await openKernel({ log: silentLog }, signal);
      const path = `${directory}/deep/n`;
      await kernel.reconcile("u", [{ kind: "netns", path }], signal);
      assert.equal(kernel.links({ path }).length, 1);
      // What was left from before a reboot is a plain file at the same place.
      execFileSync("umount", ["-l", path]);
      await using after = await openKernel({ log: silentLog }, signal);
      await after.reconcile("u", [{ kind: "netns", path }], signal);
      assert.equal(after.links({ path }).length, 1);
      await after.reconcile("u", [], signal);
      assert.ok(!readFileSync("/proc/self/mountinfo", "utf8").includes(path));
    } finally {
      execFileSync("umount", ["-l", directory]);
    }
  });
});
