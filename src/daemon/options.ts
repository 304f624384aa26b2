import { homedir } from "node:os";

/** How far an option of dockerd goes here. */
export type OptionStatus =
  | { readonly kind: "done" }
  /** Taken, so that an existing command line or daemon.json works; a warning says that it changes nothing. */
  | { readonly kind: "no-effect"; readonly why: string }
  /** Refused, because going on without it would be unsafe or plainly not what was asked for. */
  | { readonly kind: "refused"; readonly why: string };

export type OptionKind = "flag" | "text" | "integer" | "list" | "map";

export interface Option {
  readonly name: string;
  readonly short?: string;
  readonly kind: OptionKind;
  /** Word for the value in the help; empty for flags. */
  readonly placeholder: string;
  /** As on the command line; flags are false unless "true". */
  readonly fallback: string;
  /** Key in daemon.json; undefined: command line only. */
  readonly key: string | undefined;
  readonly help: string;
  readonly status: OptionStatus;
  /** SIGHUP takes it over. */
  readonly isReloadable: boolean;
}

const done: OptionStatus = { kind: "done" };
const ignored = (why: string): OptionStatus => ({ kind: "no-effect", why });
const refused = (why: string): OptionStatus => ({ kind: "refused", why });

interface Extra {
  readonly short?: string;
  readonly key?: string | undefined;
  readonly fallback?: string;
  readonly placeholder?: string;
  readonly reload?: true;
}

function option(name: string, kind: OptionKind, help: string, status: OptionStatus, extra: Extra = {}): Option {
  const placeholder = { flag: "", text: "string", integer: "int", list: "list", map: "map" }[kind];
  return {
    name,
    ...(extra.short === undefined ? {} : { short: extra.short }),
    kind,
    placeholder: extra.placeholder ?? placeholder,
    fallback: extra.fallback ?? "",
    key: "key" in extra ? extra.key : name,
    help,
    status,
    isReloadable: extra.reload === true,
  };
}

const noFirewall = "weftd keeps its rules in nftables tables of its own and needs no switch for iptables";
const noService = "swarm services come in a later version";

/**
 * The one table of options: parsing, help, daemon.json and the checks come from it. dockerd 28's, in its order, then our
 * own. `testdata/dockerd-28-help.txt` holds dockerd's list, and a test keeps this one complete.
 */
export const options: readonly Option[] = [
  option("add-runtime", "list", "Register an additional OCI compatible runtime", refused("only runc is supported"), {
    key: undefined,
    placeholder: "runtime",
  }),
  option(
    "allow-direct-routing",
    "flag",
    "Allow remote access to published ports on container IP addresses",
    ignored("packets routed to a container's address are dropped, as without the option"),
  ),
  option(
    "authorization-plugin",
    "list",
    "Authorization plugins to load",
    refused("requests would go through without being authorized"),
    { key: "authorization-plugins" },
  ),
  option("bip", "text", "IPv4 address for the default bridge", done),
  option(
    "bip6",
    "text",
    "IPv6 address for the default bridge",
    refused("IPv6 on the default bridge is not supported yet"),
  ),
  option("bridge", "text", "Name of the default bridge; 'none' for no default bridge", done, { short: "b" }),
  option("cdi-spec-dir", "list", "CDI specification directories to use", ignored("devices by CDI are not supported"), {
    key: "cdi-spec-dirs",
  }),
  option(
    "cgroup-parent",
    "text",
    "Set parent cgroup for all containers",
    ignored("containers keep containerd's cgroups"),
  ),
  option("config-file", "text", "Daemon configuration file", done, {
    key: undefined,
    fallback: "/etc/docker/daemon.json",
  }),
  option("containerd", "text", "containerd grpc address; without it weftd starts one of its own", done),
  option("containerd-namespace", "text", "Containerd namespace to use", done, { fallback: "moby" }),
  option(
    "containerd-plugins-namespace",
    "text",
    "Containerd namespace to use for plugins",
    ignored("managed plugins are not supported"),
    { fallback: "plugins.moby" },
  ),
  option(
    "cpu-rt-period",
    "integer",
    "Limit the CPU real-time period in microseconds",
    ignored("not supported with cgroups v2"),
    {
      fallback: "0",
    },
  ),
  option(
    "cpu-rt-runtime",
    "integer",
    "Limit the CPU real-time runtime in microseconds",
    ignored("not supported with cgroups v2"),
    {
      fallback: "0",
    },
  ),
  option("cri-containerd", "flag", "start containerd with cri", ignored("containerd is started without cri"), {
    key: undefined,
  }),
  option("data-root", "text", "Root directory of persistent state", done, { fallback: "/var/lib/docker" }),
  option("debug", "flag", "Enable debug mode", done, { short: "D", reload: true }),
  option("default-address-pool", "list", "Default address pools for node specific local networks", done, {
    key: "default-address-pools",
    placeholder: "pool-options",
  }),
  option(
    "default-cgroupns-mode",
    "text",
    'Default mode for containers cgroup namespace ("host" | "private")',
    ignored("private with cgroups v2, host with v1, as Docker's own defaults"),
  ),
  option("default-gateway", "text", "Default gateway IPv4 address for the default bridge network", done, {
    placeholder: "ip",
  }),
  option(
    "default-gateway-v6",
    "text",
    "Default gateway IPv6 address for the default bridge network",
    refused("IPv6 on the default bridge is not supported yet"),
    { placeholder: "ip" },
  ),
  option(
    "default-ipc-mode",
    "text",
    'Default mode for containers ipc ("shareable" | "private")',
    ignored("private is used"),
    {
      fallback: "private",
    },
  ),
  option("default-network-opt", "map", "Default network options", refused("new networks would silently lack them"), {
    key: "default-network-opts",
    placeholder: "mapmap",
  }),
  option("default-runtime", "text", "Default OCI runtime for containers", done, { fallback: "runc", reload: true }),
  option("default-shm-size", "text", "Default shm size for containers", done, {
    fallback: "64MiB",
    placeholder: "bytes",
  }),
  option("default-ulimit", "list", "Default ulimits for containers", ignored("containers get containerd's limits"), {
    key: "default-ulimits",
    placeholder: "ulimit",
  }),
  option("dns", "list", "DNS server to use", done, { placeholder: "ipSlice" }),
  option("dns-opt", "list", "DNS options to use", done, { key: "dns-opts" }),
  option("dns-search", "list", "DNS search domains to use", done),
  option("exec-opt", "list", "Runtime execution options", ignored("the cgroup driver is cgroupfs"), {
    key: "exec-opts",
  }),
  option("exec-root", "text", "Root directory for execution state files", done, { fallback: "/var/run/docker" }),
  option("experimental", "flag", "Enable experimental features", done),
  option("feature", "map", "Enable feature in the daemon", ignored("there are no optional features"), {
    key: "features",
    reload: true,
  }),
  option("fixed-cidr", "text", "IPv4 subnet for the default bridge network", done),
  option(
    "fixed-cidr-v6",
    "text",
    "IPv6 subnet for the default bridge network",
    refused("IPv6 on the default bridge is not supported yet"),
  ),
  option("group", "text", "Group for the unix socket", done, { short: "G", fallback: "docker" }),
  option("help", "flag", "Print usage", done, { key: undefined }),
  option("host", "list", "Daemon socket(s) to connect to: unix:// or tcp://", done, { short: "H", key: "hosts" }),
  option(
    "host-gateway-ip",
    "list",
    "IP addresses that the special 'host-gateway' string in --add-host resolves to",
    ignored("'host-gateway' is the default bridge's address"),
    { key: "host-gateway-ips" },
  ),
  option("http-proxy", "text", "HTTP proxy URL to use for outgoing traffic", ignored("images are pulled directly")),
  option("https-proxy", "text", "HTTPS proxy URL to use for outgoing traffic", ignored("images are pulled directly")),
  option("icc", "flag", "Enable inter-container communication for the default bridge network", done, {
    fallback: "true",
  }),
  option("init", "flag", "Run an init in the container to forward signals and reap processes", done),
  option("init-path", "text", "Path to the docker-init binary", ignored("docker-init is searched in PATH")),
  option("insecure-registry", "list", "Enable insecure registry communication", done, {
    key: "insecure-registries",
    reload: true,
  }),
  option("ip", "text", "Host IP for port publishing from the default bridge network", done, {
    fallback: "0.0.0.0",
    placeholder: "ip",
  }),
  option("ip-forward", "flag", "Enable IP forwarding in system configuration", done, { fallback: "true" }),
  option(
    "ip-forward-no-drop",
    "flag",
    "Do not set the filter-FORWARD policy to DROP when enabling IP forwarding",
    ignored("weftd never changes the policy of a chain that is not its own"),
  ),
  option("ip-masq", "flag", "Enable IP masquerading for the default bridge network", done, { fallback: "true" }),
  option("ip6tables", "flag", "Enable addition of ip6tables rules", ignored(noFirewall), { fallback: "true" }),
  option("iptables", "flag", "Enable addition of iptables rules", ignored(noFirewall), { fallback: "true" }),
  option(
    "ipv6",
    "flag",
    "Enable IPv6 networking for the default bridge network",
    refused("IPv6 on the default bridge is not supported yet"),
  ),
  option("label", "list", "Set key=value labels to the daemon", done, { key: "labels", reload: true }),
  option("live-restore", "flag", "Keep containers running while weftd is stopped", done, { reload: true }),
  option("log-driver", "text", "Default driver for container logs", done, { fallback: "json-file" }),
  option("log-format", "text", 'Set the logging format ("text"|"json")', ignored("logs are JSON lines"), {
    fallback: "text",
  }),
  option("log-level", "text", 'Set the logging level ("debug"|"info"|"warn"|"error"|"fatal")', done, {
    short: "l",
    fallback: "info",
  }),
  option("log-opt", "map", "Default log driver options for containers", done, { key: "log-opts" }),
  option("max-concurrent-downloads", "integer", "Set the max concurrent downloads", done, {
    fallback: "3",
    reload: true,
  }),
  option("max-concurrent-uploads", "integer", "Set the max concurrent uploads", ignored("pushing is not supported"), {
    fallback: "5",
    reload: true,
  }),
  option(
    "max-download-attempts",
    "integer",
    "Set the max download attempts for each pull",
    ignored("interrupted downloads are resumed a fixed number of times"),
    {
      fallback: "5",
      reload: true,
    },
  ),
  option(
    "metrics-addr",
    "text",
    "Set default address and port to serve the metrics api on",
    ignored("metrics come later"),
  ),
  option("mtu", "integer", 'Set the MTU for the default "bridge" network', done, { fallback: "1500" }),
  option(
    "network-control-plane-mtu",
    "integer",
    "Network Control plane MTU",
    ignored("gossip packets are 1400 bytes at most"),
    {
      fallback: "1500",
      reload: true,
    },
  ),
  option(
    "no-new-privileges",
    "flag",
    "Set no-new-privileges by default for new containers",
    refused("containers would keep what this takes away"),
  ),
  option("no-proxy", "text", "Comma-separated list of hosts for which the proxy is skipped", done, { key: undefined }),
  option("node-generic-resource", "list", "Advertise user-defined resource", ignored(noService), {
    key: "node-generic-resources",
  }),
  option("pidfile", "text", "Path to use for daemon PID file", done, { short: "p", fallback: "/var/run/docker.pid" }),
  option("raw-logs", "flag", "Full timestamps without ANSI coloring", ignored("logs are never coloured")),
  option(
    "registry-mirror",
    "list",
    "Preferred registry mirror",
    ignored("images are pulled from the registry that they name"),
    { key: "registry-mirrors", reload: true },
  ),
  option("rootless", "flag", "Enable rootless mode", refused("weftd needs root"), { key: undefined }),
  option("seccomp-profile", "text", "Path to seccomp profile", refused("containers get the built-in profile only"), {
    fallback: "builtin",
  }),
  option(
    "selinux-enabled",
    "flag",
    "Enable selinux support",
    refused("containers would run without their SELinux labels"),
  ),
  option("shutdown-timeout", "integer", "Set the default shutdown timeout", done, { fallback: "15", reload: true }),
  option("storage-driver", "text", "Storage driver to use", ignored("containerd's overlayfs snapshotter is used"), {
    short: "s",
  }),
  option("storage-opt", "list", "Storage driver options", ignored("containerd's overlayfs snapshotter has none"), {
    key: "storage-opts",
  }),
  option("swarm-default-advertise-addr", "text", "Set default address or interface for swarm advertised address", done),
  option("tls", "flag", "Use TLS; implied by --tlsverify", done),
  option("tlscacert", "text", "Trust certs signed only by this CA", done, { fallback: `${homedir()}/.docker/ca.pem` }),
  option("tlscert", "text", "Path to TLS certificate file", done, { fallback: `${homedir()}/.docker/cert.pem` }),
  option("tlskey", "text", "Path to TLS key file", done, { fallback: `${homedir()}/.docker/key.pem` }),
  option("tlsverify", "flag", "Use TLS and verify the remote", done),
  option(
    "userland-proxy",
    "flag",
    "Use userland proxy for loopback traffic",
    ignored("ports on loopback need no proxy process"),
    {
      fallback: "true",
    },
  ),
  option("userland-proxy-path", "text", "Path to the userland proxy binary", ignored("there is no proxy process")),
  option(
    "userns-remap",
    "text",
    "User/Group setting for user namespaces",
    refused("root in a container would be root on the host"),
  ),
  option("validate", "flag", "Validate daemon configuration and exit", done, { key: undefined }),
  option("version", "flag", "Print version information and quit", done, { short: "v", key: undefined }),
  // Ours:
  option(
    "insecure-tcp-without-tls",
    "flag",
    "Serve the API on tcp:// without TLS: everybody who reaches the port is root on this host",
    done,
  ),
];

/** Keys of daemon.json that no flag has. */
export const fileOnlyKeys: readonly { readonly key: string; readonly status: OptionStatus }[] = [
  { key: "runtimes", status: refused("only runc is supported") },
  { key: "proxies", status: done },
  { key: "builder", status: ignored("building images is not supported") },
  { key: "allow-nondistributable-artifacts", status: ignored("pushing is not supported") },
  { key: "deprecated-key-path", status: ignored("there is no such key") },
  { key: "containerd-root", status: ignored("containerd's data is in the data root") },
  { key: "min-api-version", status: ignored("API versions from 1.24 on are served") },
];
