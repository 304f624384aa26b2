import { EngineError } from "../base/errors.ts";
import { type IpAddress, type MacAddress, parseCidr, parseIp, parseMac } from "../base/ip.ts";
import type { KernelObject, Netns } from "../kernel/mod.ts";

/** Where a lab keeps its things. Several labs with different names do not meet: each has a bridge in a namespace of its own. */
export interface Lab {
  readonly name: string;
  /** Data roots; a disk, or tmpfs where the disk is an overlay itself. */
  readonly dataDirectory: string;
  /** Exec roots, sockets, pid files, logs. */
  readonly runDirectory: string;
  /** Namespace that holds the lab's bridge `br0`. */
  readonly switchNamespace: string;
}

export interface LabHost {
  readonly number: number;
  readonly namespace: string;
  readonly hostname: string;
  readonly address: IpAddress;
  readonly dataRoot: string;
  readonly execRoot: string;
  readonly pidFile: string;
  readonly socket: string;
  readonly logFile: string;
}

export const labPrefixLength = 24;
/** 10.30.10.110 + number must stay an address of the lab's subnet. */
export const maxHosts = 100;

/** Names and paths of the lab called `WEFT_LAB` (default `weft`), under `WEFT_LAB_DIR` (default `/var/lib/weft-lab`). */
export function openLabPaths(environment: Readonly<Record<string, string | undefined>>): Lab {
  const name = environment["WEFT_LAB"] ?? "weft";
  if (!/^[a-z][a-z0-9-]{0,9}$/.test(name)) {
    throw new EngineError(
      "invalid",
      `invalid lab name "${name}" in WEFT_LAB: expected up to 10 lower-case letters, digits and dashes`,
    );
  }
  return {
    name,
    dataDirectory: `${environment["WEFT_LAB_DIR"] ?? "/var/lib/weft-lab"}/${name}`,
    runDirectory: `/run/weft-lab/${name}`,
    switchNamespace: `${name}sw`,
  };
}

export function labHost(lab: Lab, number: number): LabHost {
  const run = `${lab.runDirectory}/${number}`;
  return {
    number,
    namespace: `${lab.name}${number}`,
    hostname: `host${number}`,
    address: parseIp(`10.30.10.${110 + number}`),
    dataRoot: `${lab.dataDirectory}/${number}`,
    execRoot: `${run}/exec`,
    pidFile: `${run}/pid`,
    socket: `${run}/docker.sock`,
    logFile: `${run}/log`,
  };
}

export function namespacePath(name: string): string {
  return `/run/netns/${name}`;
}

/** The lab's switch: a namespace with a bridge that is also the hosts' default gateway, 10.30.10.1. Pure. */
export function switchState(lab: Lab): readonly KernelObject[] {
  const ns = { path: namespacePath(lab.switchNamespace) };
  return [
    { kind: "netns", path: ns.path },
    { kind: "link", ns, link: { type: "loopback" } },
    { kind: "link", ns, link: { type: "bridge", name: "br0", mtuBytes: 1500 } },
    { kind: "address", ns, link: "br0", address: parseCidr("10.30.10.1/24") },
  ];
}

/** One host: a namespace whose `eth0` is plugged into the switch. Pure. */
export function hostState(lab: Lab, host: LabHost): readonly KernelObject[] {
  const ns: Netns = { path: namespacePath(host.namespace) };
  const switchNs: Netns = { path: namespacePath(lab.switchNamespace) };
  return [
    { kind: "netns", path: ns.path },
    { kind: "link", ns, link: { type: "loopback" } },
    {
      kind: "link",
      ns: switchNs,
      link: {
        type: "veth",
        name: `p${host.number}`,
        mtuBytes: 1500,
        master: "br0",
        peer: { ns, name: "eth0", mac: hostMac(host.number) },
      },
    },
    { kind: "address", ns, link: "eth0", address: { address: host.address, prefix: labPrefixLength } },
    {
      kind: "route",
      ns,
      route: { destination: parseCidr("0.0.0.0/0"), gateway: parseIp("10.30.10.1"), link: "eth0" },
    },
  ];
}

function hostMac(number: number): MacAddress {
  return parseMac(`02:1a:b0:00:00:${number.toString(16).padStart(2, "0")}`);
}

/** The exports that the conformance scripts read, and `DOCKER_HOST` for one host when asked. Pure. */
export function environmentLines(lab: Lab, hosts: readonly LabHost[], chosen: LabHost | undefined): readonly string[] {
  const lines = hosts.flatMap((host) => [
    `export H${host.number}=unix://${host.socket} NS${host.number}=${host.namespace} IP${host.number}=${host.address}`,
  ]);
  lines.push(`export IMAGE=toolbox:latest LABSW=${lab.switchNamespace}`);
  if (chosen !== undefined) lines.push(`export DOCKER_HOST=unix://${chosen.socket}`);
  return lines;
}
