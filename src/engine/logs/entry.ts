import type { LogStream } from "./json-file.ts";

/** One line of Docker's json-file format: a line of output, or a piece of one. */
export interface Entry {
  readonly log: string;
  readonly stream: LogStream;
  readonly time: string;
}

export function formatEntry({ log, stream, time }: Entry): string {
  return `{"log":${JSON.stringify(log)},"stream":"${stream}","time":"${time}"}\n`;
}

/** A torn line, left by a crash of the machine, is undefined. */
export function parseEntry(text: string): Entry | undefined {
  try {
    const { log, stream, time } = JSON.parse(text) as Partial<Entry>;
    if (typeof log !== "string" || typeof time !== "string") return undefined;
    return stream === "stdout" || stream === "stderr" ? { log, stream, time } : undefined;
  } catch {
    return undefined;
  }
}
