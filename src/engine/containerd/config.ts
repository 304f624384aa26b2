/** Where a private containerd lives. */
export interface ContainerdLayout {
  /** Persistent data: content, snapshots, metadata. */
  readonly root: string;
  /** What a reboot may lose: sockets, shims' state. */
  readonly state: string;
  readonly socketPath: string;
  /** Undefined: left as it is, for kernels where a process may not make itself harder to kill. */
  readonly oomScore: number | undefined;
}

/** Plugins that would probe devices and file systems we never use, or serve Kubernetes. */
const disabledPlugins = [
  "io.containerd.grpc.v1.cri",
  "io.containerd.snapshotter.v1.aufs",
  "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.zfs",
  "io.containerd.tracing.processor.v1.otlp",
  "io.containerd.internal.v1.tracing",
];

/** `config.toml`, version 2, for a containerd that shares nothing with another on the same machine. Pure. */
export function containerdConfig(layout: ContainerdLayout): string {
  const quote = (text: string) => JSON.stringify(text);
  return [
    "# Written by weftd at every start; changes are lost.",
    "version = 2",
    `root = ${quote(layout.root)}`,
    `state = ${quote(layout.state)}`,
    ...(layout.oomScore === undefined ? [] : [`oom_score = ${layout.oomScore}`]),
    `disabled_plugins = [${disabledPlugins.map(quote).join(", ")}]`,
    "",
    "[grpc]",
    `address = ${quote(layout.socketPath)}`,
    "",
    "[ttrpc]",
    `address = ${quote(`${layout.socketPath}.ttrpc`)}`,
    "",
    "[debug]",
    'level = "warn"',
    "",
    '[plugins."io.containerd.internal.v1.opt"]',
    `path = ${quote(`${layout.root}/opt`)}`,
    "",
  ].join("\n");
}
