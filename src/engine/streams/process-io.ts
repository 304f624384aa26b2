import { rmSync } from "node:fs";
import type { Readable, Writable } from "node:stream";
import type { Clock } from "../../base/clock.ts";
import type { LogStream } from "../logs/json-file.ts";
import { type FifoPool, openReader, openWriter, reopenReader } from "./fifos.ts";
import { InputPort } from "./input-port.ts";
import { OutputHub } from "./output-hub.ts";

/** Names given to containerd. With a TTY stderr must be empty; else stdout and stderr come together or neither does. */
export interface StdioPaths {
  readonly stdin: string;
  readonly stdout: string;
  readonly stderr: string;
}

const drainTimeoutMs = 2000;

/** The standard streams of one process, run after run, over named pipes that we and its shim hold open. */
export class ProcessIo {
  readonly paths: StdioPaths;
  readonly #tty: boolean;
  readonly #clock: Clock;
  readonly #closeInput: () => Promise<void>;
  readonly #hubs: Readonly<Record<LogStream, OutputHub>>;
  #input: InputPort;
  #ended: Promise<unknown> = Promise.resolve();

  constructor(options: {
    /** Path and beginning of the name of the pipes. */
    readonly prefix: string;
    readonly tty: boolean;
    readonly openStdin: boolean;
    readonly clock: Clock;
    readonly onOutput: (stream: LogStream, chunk: Buffer) => void;
    /** Tells the runtime to close its end of the input. */
    readonly closeInput: () => Promise<void>;
  }) {
    const path = (name: string) => `${options.prefix}${name}`;
    this.paths = {
      stdin: options.openStdin ? path("stdin") : "",
      stdout: path("stdout"),
      stderr: options.tty ? "" : path("stderr"),
    };
    this.#tty = options.tty;
    this.#clock = options.clock;
    this.#closeInput = options.closeInput;
    this.#hubs = {
      stdout: new OutputHub((chunk) => options.onOutput("stdout", chunk)),
      stderr: new OutputHub((chunk) => options.onOutput("stderr", chunk)),
    };
    this.#input = new InputPort(options.closeInput);
  }

  /** Makes fresh pipes for the next run and opens our ends. */
  async prepare(pool: FifoPool): Promise<void> {
    const { stdin, stdout, stderr } = this.paths;
    for (const path of [stdin, stdout, stderr]) if (path !== "") await pool.place(path);
    const pumps = [this.#hubs.stdout.pump(openReader(stdout))];
    if (stderr !== "") pumps.push(this.#hubs.stderr.pump(openReader(stderr)));
    this.#ended = Promise.all(pumps);
    if (stdin !== "") this.#input.open(openWriter(stdin));
  }

  /** Opens our ends of pipes that an earlier daemon made. */
  reopen(): void {
    const { stdin, stdout, stderr } = this.paths;
    const pumps = [this.#resume("stdout", stdout)];
    if (stderr !== "") pumps.push(this.#resume("stderr", stderr));
    this.#ended = Promise.all(pumps);
    if (stdin !== "") this.#input.open(openWriter(stdin));
  }

  attach(stream: LogStream): Readable | undefined {
    return stream === "stderr" && this.#tty ? undefined : this.#hubs[stream].attach();
  }

  stdin(closesInput: boolean): Writable | undefined {
    return this.paths.stdin === "" ? undefined : this.#input.writer(closesInput && !this.#tty);
  }

  /** The process has exited: takes what is left in the pipes. A child that keeps them open is not waited for long. */
  async drain(): Promise<void> {
    for (const hub of Object.values(this.#hubs)) hub.hurry();
    const giveUp = new AbortController();
    const timeout = this.#clock.sleep(drainTimeoutMs, giveUp.signal).catch(() => {});
    await Promise.race([this.#ended, timeout]);
    giveUp.abort();
  }

  /** Ends every attached stream; the next run starts anew. */
  async finish(): Promise<void> {
    for (const hub of Object.values(this.#hubs)) hub.end();
    const input = this.#input;
    this.#input = new InputPort(this.#closeInput);
    await input.abandon();
    for (const path of Object.values(this.paths)) if (path !== "") rmSync(path, { force: true });
  }

  /** Closes our ends and leaves the pipes to the process: the daemon goes, the process stays. */
  async release(): Promise<void> {
    for (const hub of Object.values(this.#hubs)) hub.end();
    await this.#input.abandon();
  }

  #resume(stream: LogStream, path: string): Promise<void> {
    const hub = this.#hubs[stream];
    const socket = reopenReader(path, (chunk) => hub.deliver(chunk));
    return socket === undefined ? Promise.resolve() : hub.pump(socket);
  }
}
