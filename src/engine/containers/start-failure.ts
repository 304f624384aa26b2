import { EngineError, messageOf } from "../../base/errors.ts";
import { rawMessage } from "../containerd/mod.ts";

/** A process that could not be started, with the exit code that stands for it. */
export class StartFailure extends EngineError {
  readonly exitCode: number;

  constructor(message: string, exitCode: number, options: { readonly cause: unknown }) {
    // 126 and 127 are the caller's doing: there is no such program, or it cannot be run.
    super(exitCode === 128 ? "internal" : "invalid", message, options);
    this.name = "StartFailure";
    this.exitCode = exitCode;
  }
}

/** Turns the runtime's failure into Docker's words and exit code; the CLI derives its own exit code from the text. */
export function startFailure(error: unknown, of: "container" | "exec"): StartFailure {
  if (error instanceof StartFailure) return error;
  const text = error instanceof EngineError ? error.message : rawMessage(error);
  const prefix = of === "exec" || error instanceof EngineError ? "" : "failed to create task for container: ";
  return new StartFailure(`${prefix}${text}`, exitCodeFor(text), { cause: error });
}

function exitCodeFor(text: string): number {
  const lower = text.toLowerCase();
  const has = (...needles: readonly string[]) => needles.some((needle) => lower.includes(needle));
  if (has("executable file not found", "no such file or directory", "system cannot find the file specified"))
    return 127;
  if (has("permission denied", "not a directory", "is a directory")) return 126;
  return 128;
}

/** The message of a failure as `State.Error` shows it. */
export function failureText(error: unknown): string {
  return error instanceof EngineError ? error.message : messageOf(error);
}
