// Weft and Docker 28 side by side in one run: ./weft bench [RUNS [PART]]. Runs are interleaved; medians, least and most are shown.
// Figures of one machine mean little; the ratios are what counts.
import { spawn } from "node:child_process";
import { readFile } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { command } from "../test/support/lab.ts";
import { docker, type Engine, home, must, openDocker, openWeft } from "./engines.ts";
import { quantile, type Row, table } from "./figures.ts";

const runs = Number(process.argv[2] ?? "7");
const only = process.argv[3];
const say = (line: string) => process.stderr.write(`${line}\n`);

async function timed(work: () => Promise<unknown>): Promise<number> {
  const began = performance.now();
  await work();
  return performance.now() - began;
}

/** Runs `measure` on both engines in turn, the order changing each time. */
async function interleaved(
  row: Omit<Row, "weft" | "docker">,
  engines: readonly Engine[],
  count: number,
  measure: (engine: Engine, run: number) => Promise<number>,
): Promise<Row> {
  const values: Record<Engine["name"], number[]> = { weft: [], docker: [] };
  for (const engine of engines) await measure(engine, -1); // warm-up, not counted
  for (let run = 0; run < count; run++) {
    for (const engine of run % 2 === 0 ? engines : [...engines].reverse())
      values[engine.name].push(await measure(engine, run));
  }
  const done = { ...row, ...values };
  say(
    `${row.name}: weft ${quantile(done.weft, 0.5).toFixed(2)}, docker ${quantile(done.docker, 0.5).toFixed(2)} ${row.unit}`,
  );
  return done;
}

const inContainer = async (engine: Engine, host: number, name: string) => [
  "nsenter",
  "-t",
  await docker(engine, host, "inspect", "-f", "{{.State.Pid}}", name),
  "-n",
];
const addressOf = (engine: Engine, host: number, name: string) =>
  docker(engine, host, "inspect", "-f", '{{(index .NetworkSettings.Networks "bench").IPAddress}}', name);

async function dockerRuns(engines: readonly Engine[]): Promise<Row[]> {
  const run = (network: string, bar?: number) =>
    interleaved(
      { name: `docker run --rm, ${network}`, unit: "ms", better: "less", ...(bar === undefined ? {} : { bar }) },
      engines,
      runs,
      (engine) => timed(() => docker(engine, 0, "run", "--rm", "--network", network, "toolbox", "true")),
    );
  return [await run("none"), await run("bridge"), await run("bench", 0.4)];
}

function networks(engines: readonly Engine[]): Promise<Row> {
  return interleaved({ name: "network create and rm", unit: "ms", better: "less" }, engines, runs, (engine, run) =>
    timed(async () => {
      await docker(engine, 0, "network", "create", `n${run}`);
      await docker(engine, 0, "network", "rm", `n${run}`);
    }),
  );
}

/** A server process beside the measurement, ended after it. */
async function withServer<T>(words: readonly string[], body: () => Promise<T>): Promise<T> {
  const [file, ...args] = words;
  const child = spawn(file as string, args, { stdio: "ignore" });
  try {
    await sleep(400);
    return await body();
  } finally {
    child.kill("SIGKILL");
  }
}

const gigabits = (json: string) =>
  (JSON.parse(json) as { end: { sum_received: { bits_per_second: number } } }).end.sum_received.bits_per_second / 1e9;
const microseconds = (text: string) => {
  const match = /latency\s*=\s*([\d.]+)\s*(us|ms|ns)/.exec(text);
  return Number(match?.[1]) * ({ us: 1, ms: 1000, ns: 0.001 }[match?.[2] ?? "us"] ?? 1);
};

async function traffic(engines: readonly Engine[]): Promise<Row[]> {
  for (const engine of engines) {
    await docker(engine, 0, "run", "-d", "--name", "left", "--network", "bench", "toolbox", "sleep", "100000");
    await docker(engine, 1, "run", "-d", "--name", "right", "--network", "bench", "toolbox", "sleep", "100000");
  }
  const bare: { throughput: number[]; latency: number[] } = { throughput: [], latency: [] };
  const iperf = async (server: readonly string[], client: readonly string[], address: string) =>
    gigabits(
      await withServer([...server, "iperf3", "-s", "-1"], () =>
        must([...client, "iperf3", "-J", "-t", "3", "-c", address]),
      ),
    );
  const qperf = async (server: readonly string[], client: readonly string[], address: string) =>
    microseconds(
      await withServer([...server, "qperf"], () => must([...client, "qperf", address, "-t", "2", "tcp_lat"])),
    );
  const across = async (engine: Engine, tool: typeof iperf) =>
    tool(
      await inContainer(engine, 1, "right"),
      await inContainer(engine, 0, "left"),
      await addressOf(engine, 1, "right"),
    );
  const host = async (engine: Engine, tool: typeof iperf) => {
    const [left, right] = engine.hosts;
    return tool(
      ["nsenter", `--net=/run/netns/${right?.namespace}`],
      ["nsenter", `--net=/run/netns/${left?.namespace}`],
      right?.address ?? "",
    );
  };
  const throughput = await interleaved(
    { name: "TCP throughput across hosts", unit: "Gbit/s", better: "more", bar: 1.05, bare: bare.throughput },
    engines,
    runs,
    async (engine, run) => {
      if (run >= 0 && engine.name === "docker") bare.throughput.push(await host(engine, iperf));
      return across(engine, iperf);
    },
  );
  const latency = await interleaved(
    { name: "TCP request/response across hosts, one way", unit: "us", better: "less", bare: bare.latency },
    engines,
    runs,
    async (engine, run) => {
      if (run >= 0 && engine.name === "docker") bare.latency.push(await host(engine, qperf));
      return across(engine, qperf);
    },
  );
  return [throughput, latency];
}

async function dns(engines: readonly Engine[]): Promise<Row> {
  const questions = `${home}/.weft/bench-dns.txt`;
  await must(["sh", "-c", `printf 'left A\\nright A\\n' > ${questions}`]);
  return interleaved(
    { name: "embedded DNS", unit: "queries/s", better: "more", bar: 1.3 },
    engines,
    runs,
    async (engine) => {
      const output = await must([
        ...(await inContainer(engine, 0, "left")),
        "dnsperf",
        "-s",
        "127.0.0.11",
        "-d",
        questions,
        "-l",
        "2",
        "-c",
        "4",
        "-q",
        "200",
      ]);
      return Number(/Queries per second:\s*([\d.]+)/.exec(output)?.[1]);
    },
  );
}

/** Milliseconds from the return of `docker run -d` on host 1 until the name answers on host 2; the asking loop runs before. */
function nameUsable(engines: readonly Engine[]): Promise<Row> {
  return interleaved(
    { name: "name usable on the other host after run returned", unit: "ms", better: "less" },
    engines,
    Math.max(runs, 20),
    async (engine, run) => {
      const name = `fresh${run < 0 ? "w" : run}`;
      const loop = `until curl -s -o /dev/null --connect-timeout 1 --max-time 2 http://${name}/; do sleep 0.01; done; echo answered`;
      const child = spawn("docker", ["-H", `unix://${engine.hosts[1]?.socket}`, "exec", "right", "sh", "-c", loop], {
        stdio: ["ignore", "pipe", "ignore"],
      });
      const answered = new Promise<number>((resolve) => child.stdout.on("data", () => resolve(performance.now())));
      await sleep(300);
      await docker(
        engine,
        0,
        "run",
        "-d",
        "--name",
        name,
        "--network",
        "bench",
        "toolbox",
        "httpd",
        "-f",
        "-h",
        "/etc",
      );
      const returned = performance.now();
      const usable = (await answered) - returned;
      await docker(engine, 0, "rm", "-f", name);
      return Math.max(0, usable);
    },
  );
}

async function residentMegabytes(pid: number): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, "utf8");
  return Number(/VmRSS:\s*(\d+)/.exec(status)?.[1]) / 1024;
}

async function memory(engines: readonly Engine[], name: string): Promise<Row> {
  const row: Row = { name, unit: "MiB", better: "less", weft: [], docker: [] };
  for (const engine of engines) row[engine.name].push(await residentMegabytes(await engine.daemonPid(0)));
  return row;
}

async function hundred(engines: readonly Engine[]): Promise<void> {
  for (const engine of engines) {
    for (let batch = 0; batch < 10; batch++) {
      await Promise.all(
        Array.from({ length: 10 }, (_, i) =>
          docker(engine, 0, "run", "-d", "--name", `many${batch * 10 + i}`, "toolbox", "sleep", "100000"),
        ),
      );
    }
  }
}

async function main(): Promise<void> {
  await using weft = await openWeft();
  await using dockerd = await openDocker();
  const engines = [weft, dockerd];
  const rows: Row[] = [];
  const part = async (name: string, work: () => Promise<readonly Row[]>) => {
    if (only !== undefined && only !== name && name !== "traffic") return;
    rows.push(...(await work()));
  };
  await part("memory", async () => [await memory(engines, "daemon memory, idle")]);
  await part("run", () => dockerRuns(engines));
  await part("network", async () => [await networks(engines)]);
  await part("traffic", () => traffic(engines));
  await part("dns", async () => [await dns(engines)]);
  await part("name", async () => [await nameUsable(engines)]);
  await part("memory", async () => {
    await hundred(engines);
    return [await memory(engines, "daemon memory, 100 containers")];
  });
  process.stdout.write(`${table(rows)}\n`);
  const usable = rows.find((row) => row.name.startsWith("name usable"));
  if (usable !== undefined) {
    process.stdout.write(
      `\nname usable: weft median ${quantile(usable.weft, 0.5).toFixed(0)} ms, 95th percentile ${quantile(usable.weft, 0.95).toFixed(0)} ms (bars 200 and 300)\n`,
    );
  }
  await command(["rm", "-f", `${home}/.weft/bench-dns.txt`]);
}

await main();
