import pino from "pino";

export type LogLevel = "debug" | "info" | "warn" | "error" | "fatal";
export type LogFields = Readonly<Record<string, unknown>>;

/** Structured log: a short fixed message, facts as fields. Passed in, never imported. */
export interface Log {
  debug(message: string, fields?: LogFields): void;
  info(message: string, fields?: LogFields): void;
  warn(message: string, fields?: LogFields): void;
  error(message: string, fields?: LogFields): void;
  child(fields: LogFields): Log;
}

/** JSON lines on standard error, written at once so that nothing is lost when the process is killed. */
export function openLog(level: () => LogLevel): Log {
  const root = pino(
    {
      level: "trace",
      base: null,
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
    },
    pino.destination({ dest: 2, sync: true }),
  );
  return wrap(root, level);
}

const ranks: Readonly<Record<LogLevel, number>> = { debug: 20, info: 30, warn: 40, error: 50, fatal: 60 };

function wrap(logger: pino.Logger, level: () => LogLevel): Log {
  const enabled = (at: LogLevel) => ranks[at] >= ranks[level()];
  return {
    debug: (message, fields) => {
      if (enabled("debug")) logger.debug(printable(fields), message);
    },
    info: (message, fields) => {
      if (enabled("info")) logger.info(printable(fields), message);
    },
    warn: (message, fields) => {
      if (enabled("warn")) logger.warn(printable(fields), message);
    },
    error: (message, fields) => {
      if (enabled("error")) logger.error(printable(fields), message);
    },
    child: (fields) => wrap(logger.child(printable(fields)), level),
  };
}

function printable(fields: LogFields | undefined): Record<string, unknown> {
  const out: Record<string, unknown> = {};
  for (const [key, value] of Object.entries(fields ?? {})) {
    out[key] = value instanceof Error ? (value.stack ?? value.message) : value;
  }
  return out;
}

/** Swallows everything; for tests. */
export const silentLog: Log = {
  debug: () => {},
  info: () => {},
  warn: () => {},
  error: () => {},
  child: () => silentLog,
};
