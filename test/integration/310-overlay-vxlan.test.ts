// Two hosts, each a namespace with a process of its own, joined by one veth; their peer tables by the test.
import assert from "node:assert/strict";
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { formatCidr, macFromIpv4, parseCidr, parseIp } from "../../src/base/ip.ts";
import type { Endpoint, Network, OverlayPeer } from "../../src/network/mod.ts";
import type { FromHost, ToHost } from "./310-overlay-host.ts";

const isRoot = process.getuid?.() === 0;
const script = fileURLToPath(new URL("310-overlay-host.ts", import.meta.url));
const subnet = parseCidr("10.77.1.0/24");
const vni = 4177;

const network: Network = {
  id: "ovtest0123456789abcdefghi",
  createdAt: "",
  scope: "swarm",
  spec: {
    name: "ovtest",
    driver: "overlay",
    scope: "swarm",
    ipam: { driver: "default", options: {}, pools: [] },
    enableIpv4: true,
    enableIpv6: false,
    internal: false,
    attachable: true,
    ingress: false,
    configOnly: false,
    configFrom: undefined,
    options: {},
    labels: {},
  },
  pools: [{ subnet, gateway: parseIp("10.77.1.1"), auxiliary: {} }],
  vnis: [vni],
};

function endpoint(digit: string, last: number): Endpoint {
  const ipv4 = parseCidr(`10.77.1.${last}/24`);
  return {
    id: digit.repeat(64),
    networkId: network.id,
    networkName: "ovtest",
    sandboxId: digit.repeat(12),
    containerId: digit.repeat(64),
    containerName: `c${digit}`,
    request: {
      network: "ovtest",
      ipv4: undefined,
      ipv6: undefined,
      mac: undefined,
      aliases: [],
      links: [],
      driverOptions: {},
      gatewayPriority: 0,
    },
    mac: macFromIpv4(ipv4.address),
    ipv4,
    ipv6: undefined,
    gateway: undefined,
    gateway6: undefined,
    dnsNames: [],
    interfaceName: "eth0",
    attachmentId: undefined,
    ports: [],
  };
}

type Ask = ToHost extends infer M ? (M extends unknown ? Omit<M, "id"> : never) : never;
type Done = FromHost & { kind: "done" };

class Host {
  readonly namespace: string;
  readonly directory: string;
  readonly address: string;
  readonly published = new Map<string, OverlayPeer>();
  other: Host | undefined;
  #child: ChildProcess | undefined;
  #next = 1;
  readonly #waiting = new Map<number, { resolve: (done: Done) => void; reject: (error: Error) => void }>();

  constructor(namespace: string, directory: string, address: string) {
    this.namespace = namespace;
    this.directory = directory;
    this.address = address;
  }

  async start(): Promise<void> {
    const ready = this.#wait(0);
    // Not `ip netns exec`: its own mount namespace would take the sandboxes with it when the process is killed.
    const args = [`--net=/run/netns/${this.namespace}`, "--", process.execPath, script, this.directory, this.address];
    const child = spawn("nsenter", args, { stdio: ["ignore", "inherit", "inherit", "ipc"] });
    this.#child = child;
    child.on("message", (message: FromHost) => this.#receive(message));
    child.on("exit", () => {
      for (const { reject } of this.#waiting.values()) reject(new Error(`${this.namespace} has ended`));
      this.#waiting.clear();
    });
    await ready;
  }

  async stop(how: "SIGTERM" | "SIGKILL"): Promise<void> {
    const child = this.#child;
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
    const ended = new Promise((resolve) => child.once("exit", resolve));
    child.kill(how);
    await ended;
  }

  async ask(message: Ask): Promise<Done> {
    const id = this.#next++;
    const done = this.#wait(id);
    this.#child?.send({ ...message, id });
    const answer = await done;
    if (answer.error !== undefined) throw new Error(answer.error);
    return answer;
  }

  join = (e: Endpoint) => this.ask({ kind: "join", network, endpoint: e });
  leave = (e: Endpoint) => this.ask({ kind: "leave", network, endpoint: e });

  async inside(e: Endpoint | undefined, ...command: string[]): Promise<string> {
    return (await this.ask({ kind: "exec", endpoint: e, command })).output ?? "";
  }

  /** One echo request, answered within a second. */
  async reaches(from: Endpoint, to: Endpoint): Promise<boolean> {
    const target = (to.ipv4 as NonNullable<Endpoint["ipv4"]>).address;
    return await this.inside(from, "busybox", "ping", "-c1", "-W1", target).then(
      () => true,
      () => false,
    );
  }

  get overlayPath(): string {
    return join(this.directory, `1-${network.id.slice(0, 10)}`);
  }

  async entries(kind: "neigh" | "fdb"): Promise<string> {
    const inside = ["nsenter", `--net=${this.overlayPath}`, "--"];
    const command =
      kind === "neigh" ? ["ip", "neigh", "show", "dev", "vxlan0"] : ["bridge", "fdb", "show", "dev", "vxlan0"];
    return await this.inside(undefined, ...inside, ...command);
  }

  #wait(id: number): Promise<Done> {
    return new Promise((resolve, reject) => this.#waiting.set(id, { resolve, reject }));
  }

  #receive(message: FromHost): void {
    if (message.kind === "done") {
      this.#waiting.get(message.id)?.resolve(message);
      this.#waiting.delete(message.id);
      return;
    }
    if (message.peer === undefined) this.published.delete(message.endpointId);
    else this.published.set(message.endpointId, message.peer);
    const { endpointId, peer } = message;
    // The other host may be down on purpose: it is told everything when it comes back.
    this.other?.ask({ kind: "peer", endpointId, peer }).catch(() => undefined);
  }

  async tellAll(to: Host): Promise<void> {
    for (const [endpointId, peer] of this.published) await to.ask({ kind: "peer", endpointId, peer });
  }
}

/** As if a frame of the endpoint had just come through the tunnel. */
function learn(e: Endpoint): readonly string[] {
  return ["bridge", "fdb", "replace", e.mac as string, "dev", "vxlan0", "master", "dynamic"];
}

async function eventually(act: () => Promise<boolean>, what: string): Promise<void> {
  for (let i = 0; i < 20; i++) {
    if (await act()) return;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  assert.fail(what);
}

describe("an overlay across two hosts", { skip: isRoot ? false : "needs root" }, () => {
  const directory = mkdtempSync(join(tmpdir(), "weft-overlay-"));
  const one = new Host("weftov1", join(directory, "1"), "192.168.213.1");
  const two = new Host("weftov2", join(directory, "2"), "192.168.213.2");
  const [a, b, c] = [endpoint("a", 2), endpoint("b", 3), endpoint("c", 4)];

  function removeAll(): void {
    for (const path of readFileSync("/proc/mounts", "utf8")
      .split("\n")
      .map((line) => line.split(" ")[1] ?? "")) {
      if (path.startsWith(`${directory}/`)) execFileSync("umount", ["-l", path]);
    }
    rmSync(directory, { recursive: true, force: true });
    for (const { namespace } of [one, two]) {
      try {
        execFileSync("ip", ["netns", "del", namespace], { stdio: "ignore" });
      } catch {
        // It had not been made.
      }
    }
  }

  before(async () => {
    const ip = (...args: string[]) => execFileSync("ip", args);
    ip("netns", "add", one.namespace);
    ip("netns", "add", two.namespace);
    ip("-n", one.namespace, "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", two.namespace);
    for (const host of [one, two]) {
      ip("-n", host.namespace, "addr", "add", `${host.address}/24`, "dev", "eth0");
      ip("-n", host.namespace, "link", "set", "eth0", "up");
      ip("-n", host.namespace, "link", "set", "lo", "up");
    }
    one.other = two;
    two.other = one;
    await Promise.all([one.start(), two.start()]);
  });
  after(async () => {
    await Promise.allSettled([one.stop("SIGTERM"), two.stop("SIGTERM")]);
    removeAll();
  });

  test("containers reach each other as soon as both have joined", async () => {
    await one.join(a);
    assert.equal(await one.reaches(a, b), false);
    await two.join(b);
    await eventually(() => one.reaches(a, b), "a does not reach b");
    assert.ok(await two.reaches(b, a));
    assert.deepEqual(
      [...one.published.values()].map((p) => `${formatCidr(p.address)} ${p.mac} ${p.vtep}`),
      ["10.77.1.2/24 02:42:0a:4d:01:02 192.168.213.1"],
    );
    assert.match(await one.entries("neigh"), /10\.77\.1\.3 lladdr 02:42:0a:4d:01:03 PERMANENT/);
    assert.match(await one.entries("fdb"), /02:42:0a:4d:01:03 dst 192\.168\.213\.2 .*self permanent/);
  });

  test("frames cross as VXLAN with the network's id on port 4789, between the data path addresses", async () => {
    const dump = spawn("nsenter", [`--net=/run/netns/${one.namespace}`, "tcpdump", "-lnni", "eth0", "-c", "4", "udp"], {
      stdio: ["ignore", "pipe", "pipe"],
    });
    let output = "";
    dump.stdout.on("data", (chunk: Buffer) => {
      output += chunk.toString();
    });
    const listening = new Promise<void>((resolve) =>
      dump.stderr.on("data", (chunk: Buffer) => {
        if (chunk.includes("listening on")) resolve();
      }),
    );
    const ended = new Promise((resolve) => dump.on("exit", resolve));
    await listening;
    const timer = setTimeout(() => dump.kill(), 5000);
    await one.reaches(a, b);
    await one.reaches(a, b);
    await ended;
    clearTimeout(timer);
    const frames = output.split("\n").join(" ");
    assert.match(frames, /192\.168\.213\.1\.\d+ > 192\.168\.213\.2\.4789: VXLAN, flags \[I\] \(0x08\), vni 4177/);
    assert.match(frames, /10\.77\.1\.2 > 10\.77\.1\.3: ICMP echo request/);
    assert.match(frames, /192\.168\.213\.2\.\d+ > 192\.168\.213\.1\.4789: VXLAN/);
  });

  test("the devices are what Docker's are", async () => {
    const { links } = await one.ask({ kind: "links", path: one.overlayPath });
    const byName = new Map(links?.map((link) => [link.name, link]));
    assert.equal(byName.get("vxlan0")?.vni, vni);
    assert.equal(byName.get("vxlan0")?.master, byName.get("br0")?.index);
    assert.deepEqual(
      byName
        .get("br0")
        ?.addresses.filter((x) => !x.address.includes(":"))
        .map(formatCidr),
      ["10.77.1.1/24"],
    );
    const { links: inside } = await one.ask({ kind: "links", path: join(one.directory, a.sandboxId) });
    const eth0 = inside?.find((link) => link.name === "eth0");
    assert.deepEqual([eth0?.mtuBytes, eth0?.mac, eth0?.up], [1450, a.mac, true]);
    const details = await one.inside(
      undefined,
      "nsenter",
      `--net=${one.overlayPath}`,
      "ip",
      "-d",
      "link",
      "show",
      "vxlan0",
    );
    for (const flag of ["proxy", "dstport 4789", "local 192.168.213.1"])
      assert.ok(details.includes(flag), `${flag} in ${details}`);
    const filtered = await one.inside(
      undefined,
      "nsenter",
      `--net=${one.overlayPath}`,
      "sh",
      "-c",
      "cat /proc/sys/net/bridge/bridge-nf-call-iptables || echo 0",
    );
    assert.match(filtered, /^0/);
  });

  test("a peer that goes takes its entries along, and one that comes back is reached again", async () => {
    await two.join(c);
    await eventually(() => one.reaches(a, c), "a does not reach c");
    await two.leave(b);
    await eventually(async () => !(await one.entries("neigh")).includes("10.77.1.3"), "the neighbour entry stays");
    assert.ok(!(await one.entries("fdb")).includes("02:42:0a:4d:01:03 dst"));
    assert.equal(await one.reaches(a, b), false);
    assert.ok(await one.reaches(a, c), "the others are not touched");
    await two.join(b);
    await eventually(() => one.reaches(a, b), "a does not reach b again");
  });

  test("a container that moves is reached at once, though it was heard through the tunnel a moment ago", async () => {
    assert.ok(await one.reaches(a, c), "c is on the other host");
    const learned = async () =>
      (await one.entries("fdb")).split("\n").some((line) => /^02:42:0a:4d:01:04 master br0/.test(line));
    assert.ok(await learned());
    await two.leave(c);
    await one.join(c);
    assert.ok(await one.reaches(a, c), "here, by the first frame");
    assert.equal(await learned(), false);
    // Back again.
    await one.leave(c);
    await two.join(c);
    await eventually(async () => (await one.entries("neigh")).includes("10.77.1.4"), "the record does not come");
    assert.ok(await one.reaches(a, c), "on the other host, by the first frame");
  });

  test("an endpoint that moves here while its old record is still around is reached here", async () => {
    await two.leave(c);
    await eventually(async () => !(await one.entries("neigh")).includes("10.77.1.4"), "the neighbour entry stays");
    const stale: OverlayPeer = {
      endpointId: "stale",
      address: c.ipv4 as NonNullable<Endpoint["ipv4"]>,
      mac: c.mac as NonNullable<Endpoint["mac"]>,
      vtep: parseIp(two.address),
    };
    await one.ask({ kind: "peer", endpointId: "stale", peer: stale });
    assert.match(await one.entries("neigh"), /10\.77\.1\.4 /);
    await one.inside(undefined, "nsenter", `--net=${one.overlayPath}`, "--", ...learn(c));
    await one.join(c);
    assert.ok(await one.reaches(a, c), "a does not reach c, which is here");
    await eventually(() => two.reaches(b, c), "b does not reach c across");
    await one.ask({ kind: "peer", endpointId: "stale", peer: undefined });
    assert.ok(await one.reaches(a, c));
    await one.leave(c);
  });

  test("a killed daemon's containers stay connected, and the next one takes over", async () => {
    await one.stop("SIGKILL");
    assert.ok(await two.reaches(b, a), "without the daemon");
    await one.start();
    await two.tellAll(one);
    await one.join(a);
    assert.ok(await two.reaches(b, a));
    assert.ok(await one.reaches(a, b));
    await two.leave(b);
    await eventually(
      async () => !(await one.entries("fdb")).includes("02:42:0a:4d:01:03 dst"),
      "entries of the killed one stay",
    );
    await two.join(b);
    await eventually(() => one.reaches(a, b), "a does not reach b after the restart");
  });

  test("many peers at once", async () => {
    const count = 200;
    const started = performance.now();
    const peers = Array.from({ length: count }, (_, i): OverlayPeer => {
      const address = parseCidr(`10.77.1.${50 + i}/24`);
      return { endpointId: `many${i}`, address, mac: macFromIpv4(address.address), vtep: parseIp(two.address) };
    });
    await Promise.all(peers.map((peer) => one.ask({ kind: "peer", endpointId: peer.endpointId, peer })));
    assert.equal((await one.entries("neigh")).match(/PERMANENT/g)?.length, count + 1);
    await Promise.all(peers.map(({ endpointId }) => one.ask({ kind: "peer", endpointId, peer: undefined })));
    assert.equal((await one.entries("neigh")).match(/PERMANENT/g)?.length, 1);
    assert.ok(performance.now() - started < 5000);
  });

  test("encrypted networks are refused", async () => {
    const encrypted = {
      ...network,
      id: "ovsecret56789abcdefghijkl",
      spec: { ...network.spec, options: { encrypted: "" } },
    };
    await assert.rejects(one.ask({ kind: "join", network: encrypted, endpoint: c }), /encrypt|ESP|IPsec|xfrm/);
    await one.ask({ kind: "leave", network: encrypted, endpoint: c });
  });

  test("the last endpoint takes everything with it", async () => {
    await one.leave(a);
    await two.leave(b);
    for (const host of [one, two]) {
      const { links } = await host.ask({ kind: "links", path: undefined });
      assert.deepEqual(links?.map((link) => link.name).toSorted(), ["eth0", "lo"]);
      assert.deepEqual(readdirSync(host.directory), []);
    }
    await one.join(a);
    await two.join(b);
    await eventually(() => one.reaches(a, b), "a does not reach b the second time");
    await one.leave(a);
    await two.leave(b);
  });
});
