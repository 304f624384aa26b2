import type { ApiSettings } from "../api/mod.ts";
import { formatCidr } from "../base/ip.ts";
import type { DaemonConfig } from "./config.ts";

/** The API's slice of the configuration. */
export function apiSettings(config: DaemonConfig): ApiSettings {
  return {
    debug: config.debug,
    labels: config.labels,
    dataRoot: config.dataRoot,
    execRoot: config.execRoot,
    defaultRuntime: "runc",
    loggingDriver: config.logDriver,
    loggingOptions: config.logOptions,
    liveRestore: config.liveRestore,
    experimental: config.experimental,
    insecureRegistries: config.registry.insecureRegistries,
    registryMirrors: config.registry.mirrors,
    httpProxy: config.registry.proxyEnvironment["HTTP_PROXY"] ?? "",
    httpsProxy: config.registry.proxyEnvironment["HTTPS_PROXY"] ?? "",
    noProxy: config.registry.proxyEnvironment["NO_PROXY"] ?? "",
    defaultShmSizeBytes: config.defaultShmSizeBytes,
    init: config.init,
    addressPools: (config.networks.defaultAddressPools ?? []).map((pool) => ({
      base: formatCidr(pool.base),
      size: pool.size,
    })),
    swarmAdvertiseAddress: config.swarmAdvertiseAddress,
    warnings: config.warnings.map((warning) => `WARNING: ${warning}`),
  };
}
