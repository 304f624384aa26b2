import { systemClock } from "../base/clock.ts";
import { EngineError, messageOf } from "../base/errors.ts";
import { type Log, openLog } from "../base/log.ts";
import { systemRandom } from "../base/random.ts";
import { parseCommandLine } from "./command-line.ts";
import { buildConfig, type DaemonConfig, reloaded } from "./config.ts";
import { readConfigFile } from "./config-file.ts";
import { openDaemon } from "./daemon.ts";
import { helpText } from "./help.ts";
import { packageVersion } from "./host-facts.ts";
import type { Given } from "./values.ts";

/** weftd. Standard error carries the log, or the one sentence why it could not start. */
async function main(args: readonly string[]): Promise<number> {
  let flags: Given;
  let config: DaemonConfig;
  try {
    flags = parseCommandLine(args);
    if (flags.get("help") === true) return say(helpText());
    if (flags.get("version") === true) return say(`Weft version ${await packageVersion()}`);
    config = await readConfig(flags);
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
    process.stderr.write(`weftd: ${error.message}\nSee 'weftd --help'.\n`);
    return 1;
  }
  if (flags.get("validate") === true) return say("configuration OK");
  if (process.getuid?.() !== 0) {
    process.stderr.write("weftd: must run as root, since it makes network namespaces and runs containers\n");
    return 1;
  }
  return run(flags, config);
}

async function run(flags: Given, started: DaemonConfig): Promise<number> {
  let config = started;
  const log = openLog(() => config.logLevel);
  const stop = new AbortController();
  onSignals(stop, log);
  onFaults(log);
  for (const warning of config.warnings) log.warn(warning);
  try {
    await using daemon = await openDaemon(
      { config: () => config, log, clock: systemClock, random: systemRandom },
      stop.signal,
    );
    process.on("SIGHUP", () => {
      // Failures are logged inside.
      void reload(flags, config, log).then((fresh) => {
        if (fresh === undefined) return;
        config = fresh;
        daemon.reloaded();
      });
    });
    log.info("ready", { addresses: daemon.addresses, startMs: Math.round(performance.now()) });
    await aborted(stop.signal);
    log.info("stopping");
  } catch (error) {
    if (stop.signal.aborted) return 0;
    if (error instanceof EngineError) log.error(error.message);
    else log.error("weftd failed", { error });
    return 1;
  }
  log.info("stopped");
  return 0;
}

async function readConfig(flags: Given): Promise<DaemonConfig> {
  const named = flags.get("config-file");
  const path = typeof named === "string" ? named : "/etc/docker/daemon.json";
  return Object.freeze(buildConfig(flags, await readConfigFile(path, { isNamed: named !== undefined, flags })));
}

async function reload(flags: Given, running: DaemonConfig, log: Log): Promise<DaemonConfig | undefined> {
  try {
    const fresh = Object.freeze(reloaded(running, await readConfig(flags)));
    log.info("configuration reloaded");
    return fresh;
  } catch (error) {
    log.error("configuration not reloaded, the running one stays", { reason: messageOf(error) });
    return undefined;
  }
}

function onSignals(stop: AbortController, log: Log): void {
  let asked = 0;
  const ask = (signal: NodeJS.Signals) => {
    asked += 1;
    log.info("signal", { signal });
    stop.abort(new Error(`stopped by ${signal}`));
    // compat: three signals end dockerd at once.
    if (asked === 3) process.exit(130);
  };
  process.on("SIGTERM", ask);
  process.on("SIGINT", ask);
  // Node's default would end the process; for dockerd it is a request to dump its stacks.
  process.on("SIGQUIT", () => log.info("signal", { signal: "SIGQUIT" }));
  process.on("SIGPIPE", () => {});
}

/** A fault that nobody took care of: better down than wrong. Containers go on, and the next start recovers. */
function onFaults(log: Log): void {
  const fail = (error: unknown) => {
    log.error("a fault that nobody handled", { error });
    process.exit(1);
  };
  process.on("uncaughtException", fail);
  process.on("unhandledRejection", fail);
}

function aborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  return new Promise((resolve) => signal.addEventListener("abort", () => resolve(), { once: true }));
}

function say(text: string): number {
  process.stdout.write(`${text}\n`);
  return 0;
}

// Native handles and kept-alive sockets must not hold a daemon that has finished.
process.exit(await main(process.argv.slice(2)));
