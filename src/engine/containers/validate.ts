import { EngineError } from "../../base/errors.ts";
import { parseLogLimits } from "../logs/limits.ts";
import type { ContainerSpec, HostSpec } from "../model.ts";
import { resolveCapabilities } from "../runtime-spec/capabilities.ts";
import { parseSecurityOptions } from "../runtime-spec/security.ts";
import type { HostFacts } from "../runtime-spec/spec.ts";
import { parseSignal } from "./signals.ts";

const minimumMemoryBytes = 6 << 20;
const logDrivers = new Set(["", "json-file", "local", "none"]);

/**
 * Refuses what could never start, in Docker's words, before anything is made.
 * @throws {EngineError} `invalid`, `not-found` or `unsupported`.
 */
export function checkContainerSpec(spec: ContainerSpec, host: HostFacts): void {
  const options = spec.host;
  if (spec.stopSignal !== "") parseSignal(spec.stopSignal);
  checkNetworkMode(spec);
  checkRestartPolicy(options);
  checkResources(options, host);
  parseSecurityOptions(options.securityOptions);
  resolveCapabilities({
    privileged: options.privileged,
    add: options.capAdd,
    drop: options.capDrop,
    available: host.capabilities,
  });
  for (const path of Object.keys(options.tmpfs)) {
    // compat:
    if (!path.startsWith("/"))
      throw new EngineError("invalid", `invalid mount path: '${path}' mount path must be absolute`);
  }
  if (!logDrivers.has(options.logDriver)) {
    // compat:
    const driver = options.logDriver;
    throw new EngineError("not-found", `error looking up logging plugin ${driver}: plugin "${driver}" not found`);
  }
  parseLogLimits(options.logDriver, options.logOptions);
  if (options.ipcMode.startsWith("container:")) {
    throw new EngineError(
      "unsupported",
      `Cannot use IPC mode "${options.ipcMode}": joining another container's is not supported yet`,
    );
  }
}

/** compat: the conflicts of `--network container:ID` and `--network host`. */
function checkNetworkMode(spec: ContainerSpec): void {
  const { host: options, networkMode } = spec;
  const refuse = (text: string) => {
    throw new EngineError("invalid", `conflicting options: ${text}`);
  };
  if (networkMode === "host" && options.links.length > 0) {
    refuse("host type networking can't be used with links. This would result in undefined behavior");
  }
  if (!networkMode.startsWith("container:")) return;
  if (networkMode === "container:") {
    throw new EngineError("invalid", "Invalid network mode: invalid container format container:<name|id>");
  }
  if (spec.hostname !== "" || spec.domainname !== "") refuse("hostname and the network mode");
  if (options.links.length > 0) {
    refuse("container type network can't be used with links. This would result in undefined behavior");
  }
  if (options.dns.servers.length > 0) refuse("dns and the network mode");
  if (options.extraHosts.length > 0) refuse("custom host-to-IP mapping and the network mode");
  if (options.publish.length > 0 || options.publishAll) {
    refuse("port publishing and the container type network mode");
  }
  if (spec.exposedPorts.length > 0) refuse("port exposing and the container type network mode");
}

function checkRestartPolicy({ restartPolicy: policy, autoRemove }: HostSpec): void {
  const known = ["", "no", "always", "on-failure", "unless-stopped"];
  if (!known.includes(policy.name)) {
    // compat:
    throw new EngineError(
      "invalid",
      `invalid restart policy: unknown policy '${policy.name}'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'`,
    );
  }
  if (policy.maximumRetryCount !== 0 && policy.name !== "on-failure") {
    // compat:
    throw new EngineError("invalid", "invalid restart policy: maximum retry count can only be used with 'on-failure'");
  }
  if (policy.maximumRetryCount < 0) {
    // compat:
    throw new EngineError("invalid", "invalid restart policy: maximum retry count cannot be negative");
  }
  if (autoRemove && policy.name !== "" && policy.name !== "no") {
    // compat:
    throw new EngineError("invalid", "can't create 'AutoRemove' container with restart policy");
  }
}

function checkResources(options: HostSpec, host: HostFacts): void {
  if (options.memoryBytes !== 0 && options.memoryBytes < minimumMemoryBytes) {
    // compat:
    throw new EngineError("invalid", "Minimum memory limit allowed is 6MB");
  }
  if (options.nanoCpus < 0 || options.nanoCpus > host.cpuCount * 1e9) {
    // compat:
    const count = host.cpuCount;
    throw new EngineError(
      "invalid",
      `range of CPUs is from 0.01 to ${count.toFixed(2)}, as there are only ${count} CPUs available`,
    );
  }
}
