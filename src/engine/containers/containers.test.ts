import assert from "node:assert/strict";
import { test } from "node:test";
import { seededRandom } from "../../base/random.ts";
import type { LiveContainer } from "../lifecycle/container.ts";
import type { ContainerSpec, ImageConfig } from "../model.ts";
import { ContainerDirectory } from "./directory.ts";
import { mergeEnv, mergeProcess } from "./merge.ts";
import { generateName, parseContainerName } from "./names.ts";
import { publishOf } from "./sandbox-request.ts";
import { parseSignal } from "./signals.ts";
import { startFailure } from "./start-failure.ts";

const image: ImageConfig = {
  env: ["A=image", "B=image"],
  entrypoint: ["/entry"],
  command: ["serve"],
  workingDirectory: "/srv",
  user: "web",
  exposedPorts: [],
  volumes: [],
  labels: {},
  stopSignal: "",
};

const spec = (changes: Partial<ContainerSpec>) =>
  ({
    tty: false,
    env: [],
    entrypoint: undefined,
    command: undefined,
    workingDirectory: "",
    user: "",
    ...changes,
  }) as ContainerSpec;

test("mergeProcess() treats entry point and command as Docker does", () => {
  const argv = (changes: Partial<ContainerSpec>, from = image) => {
    const { path, args } = mergeProcess(spec(changes), from, "h");
    return [path, ...args];
  };
  assert.deepEqual(argv({}), ["/entry", "serve"]);
  assert.deepEqual(argv({ command: ["other"] }), ["/entry", "other"]);
  assert.deepEqual(argv({ entrypoint: ["sh"] }, image), ["sh"], "the image's command goes with its entry point");
  assert.deepEqual(argv({ entrypoint: ["sh"], command: ["-c"] }), ["sh", "-c"]);
  assert.deepEqual(argv({ entrypoint: [""], command: ["ls"] }), ["ls"]);
  assert.throws(() => argv({ entrypoint: [""] }), { message: "no command specified" });
  assert.throws(() => argv({ workingDirectory: "rel" }), {
    message: "the working directory 'rel' is invalid, it needs to be an absolute path",
  });
});

test("mergeProcess() lets the user's environment win, and a bare name take away", () => {
  assert.deepEqual(mergeProcess(spec({ tty: true, env: ["A=user", "B", "C=x=y"] }), image, "h").env, [
    "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOSTNAME=h",
    "TERM=xterm",
    "A=user",
    "C=x=y",
  ]);
  assert.deepEqual(mergeEnv(["PATH=1", "X=1"], ["PATH=2"]), ["PATH=2", "X=1"]);
});

test("parseContainerName() takes what Docker takes", () => {
  assert.equal(parseContainerName("/web.1_a-b"), "web.1_a-b");
  for (const bad of ["", "a", "-x", "a b", "a/b", "ä1"]) {
    assert.throws(() => parseContainerName(bad), {
      message: `Invalid container name (${bad}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed`,
    });
  }
});

test("generateName() finds a free name however many are taken", () => {
  const taken = new Set<string>();
  const random = seededRandom(1);
  for (let i = 0; i < 3000; i++) {
    const name = generateName(random, (candidate) => taken.has(candidate));
    assert.equal(parseContainerName(name), name);
    assert.ok(!taken.has(name));
    taken.add(name);
  }
});

test("parseSignal() reads names and numbers", () => {
  assert.deepEqual(["TERM", "sigkill", "9", "RTMIN+3", "SIGRTMAX-1", "WINCH"].map(parseSignal), [15, 9, 9, 37, 63, 28]);
  for (const bad of ["", "FOO", "0", "65", "RTMIN+31", "-9"]) {
    assert.throws(() => parseSignal(bad), { message: `invalid signal: ${bad}` });
  }
});

test("startFailure() knows 127 and 126", () => {
  const code = (text: string) => startFailure(new Error(text), "container").exitCode;
  assert.equal(code('exec: "x": executable file not found in $PATH: unknown'), 127);
  assert.equal(code('exec: "/x": stat /x: no such file or directory: unknown'), 127);
  assert.equal(code('exec: "/etc": permission denied: unknown'), 126);
  assert.equal(code("something else"), 128);
});

test("publishOf() gives exposed ports free ones with -P, published ones stay", () => {
  const published = {
    protocol: "tcp",
    containerPort: 80,
    hostAddress: undefined,
    hostPortFirst: 8080,
    hostPortLast: 8080,
  } as const;
  const ports = { exposedPorts: ["80/tcp", "53/udp"], host: { publishAll: true, publish: [published] } };
  assert.deepEqual(
    publishOf(ports as unknown as ContainerSpec).map(
      (port) => `${port.hostPortFirst}:${port.containerPort}/${port.protocol}`,
    ),
    ["8080:80/tcp", "0:53/udp"],
  );
});

test("a name belongs to who stays, not to one of the same name that is being removed", () => {
  const container = (id: string) => ({ id, record: { name: "twin" } }) as LiveContainer;
  const [stays, leaves] = [container("a".repeat(64)), container("b".repeat(64))];
  const directory = new ContainerDirectory();
  directory.add(stays);
  directory.add(leaves);
  assert.equal(directory.find("twin"), stays);
  directory.remove(leaves);
  assert.equal(directory.find("/twin"), stays);
  directory.remove(stays);
  assert.equal(directory.lookUp("twin"), undefined);
});
