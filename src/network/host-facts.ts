import { readFileSync } from "node:fs";
import { type PortRange, parsePortRange } from "./portmapping/plan.ts";

/** Of the namespace that weftd lives in. */
export function hostHasIpv6(): boolean {
  try {
    return readFileSync("/proc/sys/net/ipv6/conf/all/disable_ipv6", "utf8").trim() === "0";
  } catch {
    // No such file: the kernel has no IPv6, or has it switched off at boot.
    return false;
  }
}

/** In the namespace that weftd lives in; the file is there once br_netfilter is loaded. */
export function filtersBridgedFrames(): boolean {
  try {
    return readFileSync("/proc/sys/net/bridge/bridge-nf-call-iptables", "utf8").trim() === "1";
  } catch {
    return false;
  }
}

/** Where free host ports are looked for; the kernel's default when it does not say. */
export function ephemeralPorts(): PortRange {
  try {
    return parsePortRange(readFileSync("/proc/sys/net/ipv4/ip_local_port_range", "utf8"));
  } catch {
    return parsePortRange("");
  }
}
