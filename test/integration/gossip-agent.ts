// One gossip node as a process of its own, for tests that put it into a network namespace. Options as JSON in the first
// argument, commands as JSON arrays on standard input, one line each; every answer, change and state is a JSON line.
import { createInterface } from "node:readline";
import { systemClock } from "../../src/base/clock.ts";
import { parseIp } from "../../src/base/ip.ts";
import { openLog } from "../../src/base/log.ts";
import { systemRandom } from "../../src/base/random.ts";
import { openGossip } from "../../src/gossip/mod.ts";

const options = JSON.parse(process.argv[2] as string) as {
  readonly address: string;
  readonly keys: readonly string[];
  readonly delegateVersions: readonly [number, number, number];
};
const stop = new AbortController();
const say = (fields: unknown) => process.stdout.write(`${JSON.stringify(fields)}\n`);

const gossip = await openGossip(
  { clock: systemClock, random: systemRandom, log: openLog(() => "warn") },
  {
    bindAddress: parseIp("0.0.0.0"),
    advertiseAddress: parseIp(options.address),
    portHostOrder: 7946,
    keys: options.keys.map((key, i) => ({ key: new Uint8Array(Buffer.from(key, "hex")), lamportTime: BigInt(i + 1) })),
    delegateVersions: options.delegateVersions,
  },
  stop.signal,
);
say({ ready: gossip.nodeName });

const commands: Readonly<Record<string, (...args: string[]) => unknown>> = {
  join: (...addresses) => gossip.join(addresses),
  joinNetwork: (id = "") => gossip.joinNetwork(id),
  watch: (id = "") => {
    gossip.watch("t", id, ({ kind, key, value, owner }) => {
      say({ change: kind, key, value: Buffer.from(value).toString(), owner, at: Date.now() });
    });
  },
  put: (id = "", key = "", value = "") => {
    gossip.put("t", id, key, Buffer.from(value));
    return Date.now();
  },
  remove: (id = "", key = "") => gossip.remove("t", id, key),
  members: () => gossip.members(),
  peers: (id = "") => gossip.networkPeers(id),
  entries: (id = "") => gossip.entries("t", id).map(({ key, value }) => [key, Buffer.from(value).toString()]),
  setKeys: (...keys) =>
    gossip.setKeys(
      keys.map((key, i) => ({ key: new Uint8Array(Buffer.from(key, "hex")), lamportTime: BigInt(i + 1) })),
    ),
  leave: () => gossip.leave(),
};

for await (const line of createInterface({ input: process.stdin })) {
  const [id, name, ...args] = JSON.parse(line) as [number, string, ...string[]];
  try {
    say({ id, result: (await commands[name]?.(...args)) ?? null });
  } catch (error) {
    say({ id, error: String(error) });
  }
}
stop.abort();
