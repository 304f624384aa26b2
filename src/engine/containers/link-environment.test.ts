import assert from "node:assert/strict";
import { test } from "node:test";
import { linkEnvironment } from "./link-environment.ts";

test("linkEnvironment() tells ports, ranges and the child's own variables", () => {
  const variables = linkEnvironment({
    alias: "my-db",
    parentName: "app",
    childAddress: "172.17.0.2",
    childPorts: ["53/udp", "81/tcp", "80/tcp"],
    childEnv: ["COLOUR=blue", "HOME=/root", "PATH=/bin"],
  });
  assert.deepEqual(variables, [
    "MY_DB_NAME=/app/my-db",
    "MY_DB_PORT=tcp://172.17.0.2:80",
    "MY_DB_PORT_80_TCP=tcp://172.17.0.2:80",
    "MY_DB_PORT_80_TCP_ADDR=172.17.0.2",
    "MY_DB_PORT_80_TCP_PORT=80",
    "MY_DB_PORT_80_TCP_PROTO=tcp",
    "MY_DB_PORT_81_TCP=tcp://172.17.0.2:81",
    "MY_DB_PORT_81_TCP_ADDR=172.17.0.2",
    "MY_DB_PORT_81_TCP_PORT=81",
    "MY_DB_PORT_81_TCP_PROTO=tcp",
    "MY_DB_PORT_53_UDP=udp://172.17.0.2:53",
    "MY_DB_PORT_53_UDP_ADDR=172.17.0.2",
    "MY_DB_PORT_53_UDP_PORT=53",
    "MY_DB_PORT_53_UDP_PROTO=udp",
    "MY_DB_PORT_80_TCP_START=tcp://172.17.0.2:80",
    "MY_DB_PORT_80_TCP_PORT_START=80",
    "MY_DB_PORT_80_TCP_END=tcp://172.17.0.2:81",
    "MY_DB_PORT_80_TCP_PORT_END=81",
    "MY_DB_ENV_COLOUR=blue",
  ]);
});
