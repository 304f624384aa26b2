import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { homedir } from "node:os";
import { test } from "node:test";
import { parseCommandLine } from "./command-line.ts";
import { buildConfig, reloaded } from "./config.ts";
import { parseConfigFile } from "./config-file.ts";
import { helpText } from "./help.ts";
import { fileOnlyKeys, options } from "./options.ts";

const config = (...args: string[]) => buildConfig(parseCommandLine(args), new Map());
const fromFile = (file: unknown, ...args: string[]) => {
  const flags = parseCommandLine(args);
  return buildConfig(flags, parseConfigFile("/d.json", JSON.stringify(file), flags));
};

test("every flag of dockerd 28 is in the table, with its short form", async () => {
  const help = await readFile(new URL("testdata/dockerd-28-help.txt", import.meta.url), "utf8");
  const flags = [...help.matchAll(/^ {2}(?:-(\w),| {3}) --([a-z0-9-]+)/gm)].map(([, short, name]) => ({ short, name }));
  assert.ok(flags.length > 85, `only ${flags.length} flags found in the recorded help`);
  for (const { short, name } of flags) {
    const option = options.find((one) => one.name === name);
    assert.ok(option !== undefined, `--${name} is missing`);
    assert.equal(option.short, short, `short form of --${name}`);
  }
});

test("names, short forms and keys are unique, and our help names every option", () => {
  const unique = (values: readonly (string | undefined)[]) => {
    const given = values.filter((value) => value !== undefined);
    assert.equal(new Set(given).size, given.length);
  };
  unique(options.map((option) => option.name));
  unique(options.map((option) => option.short));
  unique([...options.map((option) => option.key), ...fileOnlyKeys.map(({ key }) => key)]);
  const help = helpText();
  for (const option of options) assert.ok(help.includes(`--${option.name}`), option.name);
});

test("the command line is read as pflag reads it", () => {
  const given = parseCommandLine(
    "-DH unix:///a -Hunix:///b -l=debug --icc=false --mtu 1400 --label a=1 --label=b=2 --log-opt max-size=1m".split(
      " ",
    ),
  );
  assert.deepEqual(Object.fromEntries(given), {
    debug: true,
    host: ["unix:///a", "unix:///b"],
    "log-level": "debug",
    icc: false,
    mtu: 1400,
    label: ["a=1", "b=2"],
    "log-opt": { "max-size": "1m" },
  });
});

for (const [line, message] of [
  ["--nope", "unknown flag: --nope"],
  ["-Z", "unknown shorthand flag: 'Z' in -Z"],
  ["--mtu", "flag needs an argument: --mtu"],
  ["-H", "flag needs an argument: 'H' in -H"],
  ["--mtu x", 'invalid argument "x" for "--mtu" flag: strconv.ParseInt: parsing "x": invalid syntax'],
  [
    "--debug=maybe",
    'invalid argument "maybe" for "-D, --debug" flag: strconv.ParseBool: parsing "maybe": invalid syntax',
  ],
  ["run", '"weftd" accepts no arguments: "run"'],
] as const) {
  test(`weftd ${line}: ${message}`, () => {
    assert.throws(() => parseCommandLine(line.split(" ")), { name: "SyntaxError", message });
  });
}

for (const [line, pattern] of [
  ["--userns-remap default", /--userns-remap is not supported: root in a container would be root on the host/],
  ["--authorization-plugin x", /--authorization-plugin is not supported/],
  ["-H tcp://0.0.0.0:2375", /without --tlsverify everybody who reaches the port is root/],
  ["-H tcp://0.0.0.0:2375 --tls", /without --tlsverify/],
  ["-H fd://", /systemd are not supported/],
  ["-H http://x", /must be unix:\/\/ or tcp:\/\//],
  ["-H unix://relative", /must be absolute/],
  [`-H unix:///${"x".repeat(120)}`, /longer than 107 bytes/],
  ["-H tcp://1.2.3.4:99999 --insecure-tcp-without-tls", /tcp:\/\/ADDRESS:PORT/],
  ["--data-root rel", /"rel" for --data-root: it must be an absolute path/],
  ["--log-level loud", /must be one of debug, info/],
  ["--bip 10.0.0.1", /--bip: it must be an IPv4 address with its prefix/],
  ["--mtu 10", /between 68 and 65535/],
  ["--dns one.one", /--dns: it must be an IP address/],
  ["--label x", /bad attribute format: x/],
  ["--label a=1 --label a=2", /conflict labels for a=2 and a=1/],
  ["-b br0 --bip 10.0.0.1/8", /mutually exclusive/],
  ["--default-address-pool base=10.0.0.0/8", /size must be between 8 and 32/],
  ["--default-address-pool bass=10.0.0.0/8,size=24", /unexpected key 'bass'/],
  ["--default-shm-size huge", /must be a size/],
  ["--default-runtime kata", /only runc/],
  ["--registry-mirror mirror", /no http or https URL/],
] as const) {
  test(`weftd ${line.slice(0, 60)} is refused`, () => {
    assert.throws(() => config(...line.split(" ")), { name: "SyntaxError", message: pattern });
  });
}

test("defaults are dockerd's", () => {
  const made = config();
  assert.deepEqual(made.listeners, [{ kind: "unix", path: "/var/run/docker.sock", group: "docker" }]);
  assert.equal(made.dataRoot, "/var/lib/docker");
  assert.equal(made.networks.mtuBytes, 1500);
  assert.equal(made.networks.icc, true);
  assert.equal(made.defaultShmSizeBytes, 64 * 1024 * 1024);
  assert.deepEqual(made.warnings, []);
});

test("what changes nothing is taken with a warning", () => {
  const made = config("--iptables=false", "--userland-proxy=true");
  assert.equal(made.warnings.length, 1);
  assert.match(made.warnings[0] ?? "", /^--iptables has no effect: /);
});

test("tcp:// with --tlsverify is taken, IPv6 too", () => {
  const [first, second] = config("-H", "tcp://[::1]:2376", "-H", "tcp://:0", "--tlsverify").listeners;
  assert.equal(first?.kind === "tcp" ? first.host : "", "::1");
  assert.equal(second?.kind === "tcp" ? second.host : "", "127.0.0.1");
  assert.equal(second?.kind === "tcp" ? second.tls?.clientCaFile : "", `${homedir()}/.docker/ca.pem`);
});

test("daemon.json fills what no flag says", () => {
  const file = {
    mtu: 1400,
    hosts: ["unix:///x"],
    "default-address-pools": [{ base: "10.9.0.0/16", size: 24 }],
    "log-opts": { "max-size": "1m" },
    "default-shm-size": 1048576,
    features: { buildkit: true },
    proxies: { "https-proxy": "http://proxy:3128", "no-proxy": "10.0.0.0/8" },
  };
  const made = fromFile(file, "--debug");
  assert.equal(made.networks.mtuBytes, 1400);
  assert.equal(made.debug, true);
  assert.equal(made.defaultShmSizeBytes, 1048576);
  assert.deepEqual(made.registry.proxyEnvironment, { HTTPS_PROXY: "http://proxy:3128", NO_PROXY: "10.0.0.0/8" });
  assert.deepEqual(made.networks.defaultAddressPools, [{ base: { address: "10.9.0.0", prefix: 16 }, size: 24 }]);
});

const prefix = "unable to configure the Docker daemon with file /d.json: ";
for (const [name, file, args, message] of [
  ["an unknown key", { nope: 1, x: 2 }, [], "the following directives don't match any configuration option: nope, x"],
  [
    "a key that is a flag too",
    { debug: true, hosts: ["unix:///a"] },
    ["--debug=false", "-H", "unix:///b"],
    "the following directives are specified both as a flag and in the configuration file: debug: (from flag: false, from file: true), hosts: (from flag: [unix:///b], from file: [unix:///a])",
  ],
  ["a wrong type", { mtu: "1400" }, [], '"mtu" must be a whole number, found "1400"'],
  ["another runtime", { runtimes: {} }, [], '"runtimes" is not supported: only runc is supported'],
] as const) {
  test(`daemon.json with ${name} is refused in dockerd's words`, () => {
    assert.throws(() => fromFile(file, ...args), { name: "SyntaxError", message: prefix + message });
  });
}

test("broken JSON in daemon.json is refused", () => {
  assert.throws(() => parseConfigFile("/d.json", "{", new Map()), /with file \/d.json: invalid JSON/);
  assert.throws(() => parseConfigFile("/d.json", "[]", new Map()), /must hold one JSON object/);
  assert.equal(parseConfigFile("/d.json", "  ", new Map()).size, 0);
});

test("reloaded() takes over what Docker reloads and nothing else", () => {
  const made = reloaded(config("--mtu", "1400"), config("--debug", "--mtu", "1300", "--label", "a=b"));
  assert.equal(made.networks.mtuBytes, 1400);
  assert.equal(made.logLevel, "debug");
  assert.deepEqual(made.labels, ["a=b"]);
});
