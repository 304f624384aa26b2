import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { EngineError, messageOf } from "../base/errors.ts";
import { demo, hostDown, hostStatus, hostUp, labDown, labEnv, labStatus, labUp, openLabPaths } from "../lab/mod.ts";

const usage = `Weft: one network for containers on many Linux hosts, driven by the docker command.

  ./weft demo                three hosts on this machine, a swarm and an overlay between them; shows every command
  ./weft test                all checks and tests
  ./weft bench [RUNS]        Weft and Docker 28 side by side
  ./weft lab up N            N hosts in network namespaces, each with its own weftd
  ./weft lab env [I]         shell lines for using them (and DOCKER_HOST for host I):  eval "$(./weft lab env 1)"
  ./weft lab status          what is up
  ./weft lab down            removes all of it
  ./weft up [FLAG...]        weftd on this host, in the background, with a docker context "weft"; flags go to weftd
  ./weft status
  ./weft down
  ./weft version

weftd itself takes dockerd's flags: see ./weftd --help. More in README.md and docs/operating.md.
`;

const say = (line: string) => process.stdout.write(`${line}\n`);

async function main(args: readonly string[], signal: AbortSignal): Promise<number> {
  const [command = "help", ...rest] = args;
  switch (command) {
    case "help":
    case "-h":
    case "--help":
      process.stdout.write(usage);
      return 0;
    case "version":
    case "--version":
      say(`weft ${version()}`);
      return 0;
    case "demo":
      refuseExtra(command, rest, 0);
      await demo(openLabPaths(process.env), say, signal);
      return 0;
    case "lab":
      await lab(rest, signal);
      return 0;
    case "up":
      await hostUp(rest, say, signal);
      return 0;
    case "down":
      refuseExtra(command, rest, 0);
      await hostDown(say);
      return 0;
    case "status":
      refuseExtra(command, rest, 0);
      await hostStatus(say);
      return 0;
    case "test":
      return await runScript("tools/test.ts", rest);
    case "bench":
      return await runScript("bench/run.ts", rest);
    default:
      throw new EngineError("invalid", `unknown command "${command}"; './weft help' lists them`);
  }
}

async function lab(args: readonly string[], signal: AbortSignal): Promise<void> {
  const paths = openLabPaths(process.env);
  const [action, number, ...rest] = args;
  switch (action) {
    case "up":
      refuseExtra("lab up", rest, 0);
      await labUp(paths, wholeNumber(number ?? "3"), say, signal);
      say(`the lab is up; use it with:  eval "$(./weft lab env 1)"`);
      return;
    case "down":
      refuseExtra("lab down", args.slice(1), 0);
      await labDown(paths, say);
      return;
    case "status":
      refuseExtra("lab status", args.slice(1), 0);
      for (const { host, pid, answering } of await labStatus(paths)) {
        say(
          `${host.hostname}  ${host.address}  ${answering ? "up" : pid === undefined ? "down" : "not answering"}  ${host.socket}  log ${host.logFile}`,
        );
      }
      return;
    case "env":
      refuseExtra("lab env", rest, 0);
      for (const line of await labEnv(paths, number === undefined ? undefined : wholeNumber(number))) say(line);
      return;
    default:
      throw new EngineError("invalid", `unknown lab command "${action ?? ""}": expected up N, down, status or env [I]`);
  }
}

function refuseExtra(command: string, rest: readonly string[], allowed: number): void {
  if (rest.length > allowed)
    throw new EngineError("invalid", `weft ${command}: unexpected argument "${rest[allowed]}"`);
}

function wholeNumber(text: string): number {
  if (!/^\d{1,4}$/.test(text)) throw new EngineError("invalid", `"${text}" is no whole number`);
  return Number(text);
}

function version(): string {
  const path = fileURLToPath(new URL("../../package.json", import.meta.url));
  return (JSON.parse(readFileSync(path, "utf8")) as { version: string }).version;
}

/** A script of this project in a process of its own: `path` is relative to the project. */
function runScript(script: string, args: readonly string[]): Promise<number> {
  const path = fileURLToPath(new URL(`../../${script}`, import.meta.url));
  const child = spawn(process.execPath, [path, ...args], { stdio: "inherit" });
  return new Promise((resolve, reject) => {
    child.on("error", reject);
    child.on("close", (code) => resolve(code ?? 1));
  });
}

const stop = new AbortController();
process.once("SIGINT", () => stop.abort(new Error("interrupted")));
try {
  process.exitCode = await main(process.argv.slice(2), stop.signal);
} catch (error) {
  process.stderr.write(`weft: ${messageOf(error)}\n`);
  process.exitCode = 1;
}
