import { spawn } from "node:child_process";
import { EngineError } from "../base/errors.ts";
import { labDown, labEnv, labHosts, labUp, type Say } from "./lab.ts";
import type { Lab, LabHost } from "./model.ts";
import { run } from "./process.ts";

/** One docker command of the demo: which host runs it, and whether its output is needed later. */
interface Step {
  readonly host: LabHost;
  readonly why: string;
  readonly args: readonly string[];
}

/** Three hosts, a swarm, an overlay, containers that find each other across hosts; every command is shown with its output. */
export async function demo(lab: Lab, say: Say, signal: AbortSignal): Promise<void> {
  say("Weft demo: three hosts in network namespaces, one overlay network between them");
  if ((await labHosts(lab)).length > 0) {
    say("taking down the lab that is up, so that it starts afresh");
    await labDown(lab, () => {});
  }
  const hosts = await labUp(lab, 3, say, signal);
  const [one, two, three] = hosts as [LabHost, LabHost, LabHost];

  await show(
    {
      host: one,
      why: "make a swarm; this host becomes its manager",
      args: ["swarm", "init", "--advertise-addr", one.address],
    },
    say,
  );
  const token = await run(["docker", "-H", `unix://${one.socket}`, "swarm", "join-token", "-q", "worker"]);
  for (const host of [two, three]) {
    await show(
      {
        host,
        why: "join it, over mutual TLS",
        args: ["swarm", "join", "--token", token.trim(), `${one.address}:2377`],
      },
      say,
    );
  }
  await show({ host: one, why: "who is there", args: ["node", "ls"] }, say);
  await show(
    {
      host: one,
      why: "one network for all hosts",
      args: ["network", "create", "-d", "overlay", "--attachable", "cloth"],
    },
    say,
  );
  const serve = "hostname > /tmp/index.html; exec httpd -f -p 80 -h /tmp";
  await show(
    {
      host: one,
      why: "a web server on host1",
      args: ["run", "-d", "--name", "web", "--hostname", "web", "--network", "cloth", "toolbox", "sh", "-c", serve],
    },
    say,
  );
  await show(
    {
      host: two,
      why: "host2 finds it by name and pings it",
      args: ["run", "--rm", "--network", "cloth", "toolbox", "ping", "-c", "3", "web"],
    },
    say,
  );
  await show(
    {
      host: three,
      why: "host3 fetches a page from it by name",
      args: ["run", "--rm", "--network", "cloth", "toolbox", "curl", "-s", "http://web/"],
    },
    say,
  );
  await show(
    {
      host: two,
      why: "a container to play with on host2",
      args: ["run", "-dit", "--name", "shell", "--network", "cloth", "toolbox", "sh"],
    },
    say,
  );
  await show(
    { host: one, why: "and back: host1's container pings host2's", args: ["exec", "web", "ping", "-c", "2", "shell"] },
    say,
  );
  await show(
    {
      host: one,
      why: "the network, with its peers",
      args: [
        "network",
        "inspect",
        "-f",
        "{{.Name}} {{.Driver}} {{range .IPAM.Config}}{{.Subnet}}{{end}} peers:{{range .Peers}} {{.IP}}{{end}}",
        "cloth",
      ],
    },
    say,
  );

  say("");
  say("All of it is still running. To go on, paste these lines into a shell:");
  say("");
  for (const line of await labEnv(lab, 1)) say(`  ${line}`);
  say("");
  say("then, for example:  docker ps;  docker exec -it web sh;  docker -H $H2 attach shell");
  say("and at the end:     ./weft lab down");
}

/** @throws {EngineError} when the command fails: then the demo has shown a fault, and says so. */
async function show(step: Step, say: Say): Promise<void> {
  say("");
  say(`# ${step.why}`);
  say(`${step.host.hostname}$ docker ${step.args.map(quoted).join(" ")}`);
  const code = await new Promise<number | null>((resolve, reject) => {
    const child = spawn("docker", ["-H", `unix://${step.host.socket}`, ...step.args], {
      stdio: ["ignore", "pipe", "pipe"],
    });
    const print = (chunk: Buffer) => {
      for (const line of String(chunk).trimEnd().split("\n")) say(`    ${line}`);
    };
    child.stdout.on("data", print);
    child.stderr.on("data", print);
    child.on("error", reject);
    child.on("close", resolve);
  });
  if (code !== 0) throw new EngineError("internal", `the command above ended with ${code}; logs: ${step.host.logFile}`);
}

function quoted(word: string): string {
  return /^[\w./:@=,-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`;
}
