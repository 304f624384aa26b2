import assert from "node:assert/strict";
import { test } from "node:test";
import { parseContainer } from "./container.ts";
import { withImageConfig } from "./image-config.ts";

const defaults = { shmSizeBytes: 67108864, logDriver: "json-file", logOptions: {}, init: false };
const parse = (json: unknown, version = 50) => parseContainer(json, version, defaults);
const host = (config: unknown) => ({ Image: "toolbox", HostConfig: config });

test("parseContainer() reads what docker run sends", () => {
  const { spec, warnings } = parse({
    Image: "toolbox",
    Cmd: ["sh", "-c", "true"],
    Env: ["A=b"],
    ExposedPorts: { "53/udp": {} },
    HostConfig: {
      Binds: ["v1:/data", "/tmp:/t:ro"],
      NetworkMode: "n1",
      PortBindings: { "80/tcp": [{ HostIp: "127.0.0.1", HostPort: "8080-8090" }], "81": [{}], "82/tcp": [] },
      ExtraHosts: ["h:1.2.3.4", "g:host-gateway"],
      CapAdd: ["net_admin"],
      Dns: ["9.9.9.9"],
    },
    NetworkingConfig: {
      EndpointsConfig: { n2: null, n1: { IPAMConfig: { IPv4Address: "10.0.0.9" }, Aliases: ["x"] } },
    },
  });
  assert.deepEqual(warnings, []);
  assert.deepEqual(spec.command, ["sh", "-c", "true"]);
  assert.equal(spec.entrypoint, undefined);
  assert.deepEqual(
    spec.host.mounts.map((m) => `${m.type} ${m.source} ${m.target} ${m.readonly} ${m.propagation}`),
    ["volume v1 /data false ", "bind /tmp /t true rprivate"],
  );
  assert.deepEqual(
    spec.host.publish.map(
      (p) => `${p.protocol} ${p.containerPort} ${p.hostAddress} ${p.hostPortFirst}-${p.hostPortLast}`,
    ),
    ["tcp 81 undefined 0-0", "tcp 80 127.0.0.1 8080-8090"],
  );
  assert.deepEqual(spec.exposedPorts, ["53/udp", "81/tcp", "80/tcp", "82/tcp"]);
  assert.deepEqual(
    spec.endpoints.map((e) => [e.network, e.ipv4, e.aliases]),
    [
      ["n1", "10.0.0.9", ["x"]],
      ["n2", undefined, []],
    ],
  );
  assert.deepEqual(spec.host.capAdd, ["CAP_NET_ADMIN"]);
  assert.equal(spec.rawHostConfig["NetworkMode"], "n1");
});

test("a missing or default network mode is the bridge; host and none have no endpoints", () => {
  for (const mode of [undefined, "", "default", "bridge"]) {
    const { spec } = parse(host({ NetworkMode: mode }));
    assert.deepEqual([spec.networkMode, spec.endpoints.map((e) => e.network)], ["bridge", ["bridge"]]);
  }
  for (const mode of ["host", "none", "container:x"]) {
    assert.deepEqual(parse(host({ NetworkMode: mode })).spec.endpoints, []);
  }
});

// Texts recorded from dockerd 28.5.2, unless they name this version.
const refusals: readonly (readonly [unknown, string])[] = [
  [{}, "config cannot be empty in order to create a container"],
  [{ Image: 5 }, "invalid JSON: json: cannot unmarshal number into Go struct field .Image of type string"],
  [{ Image: "x", Env: ["=x"] }, "invalid environment variable: =x"],
  [{ Image: "x", StopSignal: "FOO" }, "invalid signal: FOO"],
  [{ Image: "x", WorkingDir: "rel" }, "the working directory 'rel' is invalid, it needs to be an absolute path"],
  [{ Image: "x", MacAddress: "zz" }, "invalid config for network bridge: invalid MAC address zz"],
  [host({ PortBindings: { "99999/tcp": [{}] } }), 'invalid port specification: "99999"'],
  [host({ PortBindings: { "80/tcp": [{ HostPort: "x" }] } }), 'invalid port specification: "x"'],
  [host({ PortBindings: { "80/xtp": [{}] } }), "invalid proto: xtp"],
  [host({ Binds: ["a:b:c:d"] }), "invalid volume specification: 'a:b:c:d'"],
  [
    host({ Binds: ["/tmp:rel"] }),
    "invalid volume specification: '/tmp:rel': invalid mount config for type \"bind\": invalid mount path: 'rel' mount path must be absolute",
  ],
  [host({ Binds: ["/tmp:/x:zz"] }), "invalid mode: zz"],
  [host({ Binds: ["/a:/x", "/b:/x/"] }), "Duplicate mount point: /x"],
  [host({ Mounts: [{ Type: "foo", Target: "/x" }] }), 'invalid mount config for type "foo": mount type unknown'],
  [
    host({ RestartPolicy: { Name: "foo" } }),
    "invalid restart policy: unknown policy 'foo'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'",
  ],
  [
    host({ RestartPolicy: { Name: "always" }, AutoRemove: true }),
    "can't create 'AutoRemove' container with restart policy",
  ],
  [host({ Runtime: "foo" }), "unknown or invalid runtime name: foo"],
  [host({ ExtraHosts: ["x"] }), 'bad format for add-host: "x"'],
  [host({ CapAdd: ["FOO"] }), 'invalid CapAdd: unknown capability: "CAP_FOO"'],
  [host({ Memory: 100 }), "Minimum memory limit allowed is 6MB"],
  [
    host({ NetworkMode: "container:c1", PortBindings: { "80/tcp": [{}] } }),
    "conflicting options: port publishing and the container type network mode",
  ],
  [{ ...host({ NetworkMode: "container:c1" }), Hostname: "x" }, "conflicting options: hostname and the network mode"],
  [
    host({ NetworkMode: "host", Links: ["a:b"] }),
    "conflicting options: host type networking can't be used with links. This would result in undefined behavior",
  ],
  [host({ Devices: [{ PathOnHost: "/dev/kvm" }] }), "--device is not supported by this version"],
  [host({ UsernsMode: "private" }), "--userns is not supported by this version"],
];
for (const [body, message] of refusals) {
  test(`parseContainer() refuses: ${message}`, () => {
    assert.throws(() => parse(body), { name: "EngineError", message });
  });
}

test("a client older than 1.44 may not ask for several networks", () => {
  const body = { Image: "x", NetworkingConfig: { EndpointsConfig: { b: {}, a: {} } } };
  assert.throws(() => parse(body, 43), {
    message: "Container cannot be created with multiple network endpoints: a, b",
  });
});

test("what is kept but not applied is said", () => {
  assert.deepEqual(parse(host({ CpuShares: 2, NetworkMode: "host", PortBindings: { "80/tcp": [{}] } })).warnings, [
    "--cpu-shares is not applied by this version",
    "Published ports are discarded when using host network mode",
  ]);
});

test("withImageConfig() fills up from the image", () => {
  const image = {
    env: ["PATH=/bin", "A=image"],
    entrypoint: ["/init"],
    command: ["serve"],
    workingDirectory: "/srv",
    user: "",
    exposedPorts: ["80/tcp"],
    volumes: ["/data"],
    labels: { from: "image", own: "no" },
    stopSignal: "SIGINT",
  };
  const shown = (body: object) => withImageConfig(parse({ Image: "x", ...body }).spec, image);
  const plain = shown({ Env: ["A=own"], Labels: { own: "yes" } });
  assert.deepEqual(plain.rawConfig["Env"], ["A=own", "PATH=/bin"]);
  assert.deepEqual(plain.rawConfig["Cmd"], ["serve"]);
  assert.deepEqual(plain.labels, { from: "image", own: "yes" });
  // An entrypoint of its own switches the image's command off.
  const own = shown({ Entrypoint: ["/mine"] });
  assert.deepEqual([own.rawConfig["Entrypoint"], own.rawConfig["Cmd"]], [["/mine"], null]);
});
