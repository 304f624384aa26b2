// A machine of its own for tests of src/network: the test file runs again inside new network and mount namespaces, so that
// whatever it makes goes when it ends. "outside" is another machine on the same wire as the host's eth0.
import { spawn, spawnSync } from "node:child_process";
import { createSocket } from "node:dgram";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer, type Server, Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { systemClock } from "../../src/base/clock.ts";
import { type IpAddress, parseIp } from "../../src/base/ip.ts";
import { silentLog } from "../../src/base/log.ts";
import { systemRandom } from "../../src/base/random.ts";
import { type HostKernel, type Kernel, type Netns, openKernel } from "../../src/kernel/mod.ts";
import type { NetworksConfig, PeerTable, SwarmNetworks } from "../../src/network/mod.ts";
import { defaultNetworksConfig, type Networks, openNetworks, type SandboxRequest } from "../../src/network/mod.ts";
import { aesSeal, MemoryStore, type Store } from "../../src/store/mod.ts";

const insideVariable = "WEFT_TEST_INSIDE";

/** Runs `tests` in a machine of their own; outside, one test that starts it and fails when it does. */
export function inOwnMachine(file: string, tests: () => void): void {
  if (process.env[insideVariable] === "1") {
    tests();
    return;
  }
  const skip = process.getuid?.() === 0 ? false : "needs root";
  test("in a machine of its own", { skip }, async () => {
    // `ip netns` keeps its files in /run, which a mount namespace alone does not make ours.
    const script = 'mkdir -p /run/netns && mount -t tmpfs none /run/netns && exec "$@"';
    const runner = [
      process.execPath,
      "--test",
      "--test-force-exit",
      "--test-timeout=60000",
      "--test-reporter=spec",
      file,
    ];
    const args = ["--net", "--mount", "--", "sh", "-c", script, "sh", ...runner];
    // The runner marks its children; a marked runner would find nothing to do.
    const { NODE_TEST_CONTEXT: _, ...env } = process.env;
    const child = spawn("unshare", args, {
      env: { ...env, [insideVariable]: "1" },
      stdio: ["ignore", "pipe", "pipe"],
    });
    let output = "";
    for (const stream of [child.stdout, child.stderr]) stream.on("data", (data) => (output += String(data)));
    const code = await new Promise((resolve) => child.on("close", resolve));
    if (code !== 0 || !/pass [1-9]/.test(output)) throw new Error(output);
    console.log(output);
  });
}

export const hostIp = parseIp("192.0.2.1");
export const outsideIp = parseIp("192.0.2.2");

export interface World extends AsyncDisposable {
  readonly directory: string;
  readonly execRoot: string;
  readonly store: Store;
  readonly outside: Netns;
  kernel: HostKernel & AsyncDisposable;
  networks: Networks;
  /** weftd ends and starts again; the kernel keeps what it has. */
  restart(): Promise<void>;
  request(name: string, network: string, change?: Partial<SandboxRequest>): SandboxRequest;
}

export const noSwarm: SwarmNetworks = {
  role: "none",
  dataPath: undefined,
  list: () => [],
  create: () => Promise.reject(new Error("no swarm")),
  remove: () => Promise.reject(new Error("no swarm")),
  attach: () => Promise.reject(new Error("no swarm")),
  detach: () => Promise.resolve(),
};

export function shell(command: string): string {
  const { status, stdout, stderr } = spawnSync("sh", ["-c", command], { encoding: "utf8" });
  if (status !== 0) throw new Error(`${command}: ${stderr}${stdout}`);
  return stdout;
}

export async function openWorld(
  options: {
    readonly config?: Partial<NetworksConfig>;
    readonly swarm?: () => SwarmNetworks;
    readonly peerTable?: () => PeerTable | undefined;
  } = {},
): Promise<World> {
  const signal = new AbortController().signal;
  const directory = mkdtempSync(join(tmpdir(), "wn-"));
  shell(`ip link set lo up; ip netns add wn-out; ip link add eth0 type veth peer name eth0 netns wn-out
    ip addr add ${hostIp}/24 dev eth0; ip link set eth0 up
    ip -n wn-out addr add ${outsideIp}/24 dev eth0; ip -n wn-out link set eth0 up; ip -n wn-out link set lo up`);
  const store = new MemoryStore();
  const execRoot = join(directory, "exec");
  const start = async () => {
    const kernel = await openKernel({ log: silentLog }, signal);
    const networks = await openNetworks(
      {
        kernel,
        store,
        seal: aesSeal(new Uint8Array(32)),
        clock: systemClock,
        random: systemRandom,
        log: silentLog,
        execRoot,
        config: { ...defaultNetworksConfig, ...options.config },
        swarm: options.swarm ?? (() => noSwarm),
        peerTable: options.peerTable ?? (() => undefined),
      },
      signal,
    );
    return { kernel, networks };
  };
  const world: World = {
    directory,
    execRoot,
    store,
    outside: { path: "/run/netns/wn-out" },
    ...(await start()),
    async restart() {
      await world.networks[Symbol.asyncDispose]();
      await world.kernel[Symbol.asyncDispose]();
      Object.assign(world, await start());
    },
    request: (name, network, change = {}) => sandboxRequest(join(directory, name), name, network, change),
    async [Symbol.asyncDispose]() {
      await world.networks[Symbol.asyncDispose]();
      await world.kernel[Symbol.asyncDispose]();
      // One to whom nothing belongs sweeps everything of ours.
      await using sweeper = await openKernel({ log: silentLog }, signal);
      await sweeper.sweep(join(execRoot, "netns"), signal);
      shell("ip link del eth0; ip netns del wn-out");
      rmSync(directory, { recursive: true, force: true });
    },
  };
  return world;
}

function sandboxRequest(
  filesDirectory: string,
  name: string,
  network: string,
  change: Partial<SandboxRequest>,
): SandboxRequest {
  const id = Buffer.from(name.padEnd(32, "-")).toString("hex").slice(0, 64);
  return {
    sandboxId: id,
    containerId: id,
    containerName: name,
    hostname: name,
    domainname: "",
    mode: "private",
    endpoints: [endpointRequest(network)],
    dns: { servers: [], search: [], options: [] },
    extraHosts: [],
    linkedHosts: [],
    publish: [],
    sysctls: {},
    filesDirectory,
    ...change,
  };
}

export function endpointRequest(network: string): SandboxRequest["endpoints"][number] {
  return {
    network,
    ipv4: undefined,
    ipv6: undefined,
    mac: undefined,
    aliases: [],
    links: [],
    driverOptions: {},
    gatewayPriority: 0,
  };
}

const anyIp = parseIp("0.0.0.0");

/** A TCP server that says who calls: `address:port`. */
export async function tcpServer(kernel: Kernel, ns: Netns, port: number): Promise<Server> {
  const fd = kernel.openSocket(ns, { type: "tcp", address: anyIp, portHostOrder: port });
  const server = createServer((socket) => {
    socket.on("error", () => {});
    socket.write(`${socket.remoteAddress}\n`);
    socket.on("data", (data) => socket.write(data));
  });
  await new Promise<void>((resolve) => server.listen({ fd }, resolve));
  server.unref();
  return server;
}

/** What the server says, or undefined when nothing does in time. */
export function tcpCall(
  kernel: Kernel,
  ns: Netns,
  to: { readonly ip: IpAddress | string; readonly port: number; readonly timeoutMs?: number },
): Promise<string | undefined> {
  return new Promise((resolve) => {
    const fd = kernel.openUnbound(ns, to.ip.includes(":") ? "tcp6" : "tcp4");
    const socket = new Socket({ fd });
    const done = (answer: string | undefined) => {
      clearTimeout(timer);
      socket.destroy();
      resolve(answer);
    };
    const timer = setTimeout(() => done(undefined), to.timeoutMs ?? 700);
    socket.on("error", () => done(undefined));
    socket.on("data", (data) => done(String(data).trim()));
    socket.connect(to.port, to.ip);
  });
}

/** A UDP server that answers with who calls. */
export function udpServer(kernel: Kernel, ns: Netns, port: number): Disposable {
  const fd = kernel.openSocket(ns, { type: "udp", address: anyIp, portHostOrder: port });
  const socket = createSocket("udp4");
  socket.on("message", (_, from) => socket.send(from.address, from.port, from.address));
  socket.bind({ fd });
  socket.unref();
  return { [Symbol.dispose]: () => socket.close() };
}

export function udpCall(kernel: Kernel, ns: Netns, to: { ip: string; port: number }): Promise<string | undefined> {
  return new Promise((resolve) => {
    const socket = createSocket("udp4");
    const done = (answer: string | undefined) => {
      clearTimeout(timer);
      socket.close();
      resolve(answer);
    };
    const timer = setTimeout(() => done(undefined), 700);
    socket.on("error", () => done(undefined));
    socket.on("message", (data) => done(String(data)));
    socket.bind({ fd: kernel.openSocket(ns, { type: "udp", address: anyIp, portHostOrder: 0 }) }, () =>
      socket.send("hello", to.port, to.ip),
    );
  });
}
