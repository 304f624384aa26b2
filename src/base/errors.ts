/** What kind of refusal an `EngineError` is; `api/errors.ts` holds the only table from these to HTTP status codes. */
export type ErrorCode =
  | "invalid"
  | "unauthenticated"
  | "forbidden"
  | "not-found"
  | "conflict"
  | "exhausted"
  | "unavailable"
  | "unsupported"
  | "not-modified"
  | "internal";

/** An expected refusal with a message for the person who asked: the attempted act, the quoted value, found and wanted. */
export class EngineError extends Error {
  readonly code: ErrorCode;

  constructor(code: ErrorCode, message: string, options?: { readonly cause?: unknown }) {
    super(message, options);
    this.name = "EngineError";
    this.code = code;
  }
}

/** A broken invariant: the scope that finds it ends, since it can no longer be trusted. */
export class InvariantError extends Error {
  constructor(message: string, options?: { readonly cause?: unknown }) {
    super(message, options);
    this.name = "InvariantError";
  }
}

/** Bytes that do not decode. `offset` is in bytes from the start of the input given to the decoder. */
export class DecodeError extends Error {
  readonly offset: number;
  readonly field: string;

  constructor(field: string, offset: number, message: string) {
    super(`cannot decode ${field} at byte ${offset}: ${message}`);
    this.name = "DecodeError";
    this.field = field;
    this.offset = offset;
  }
}

export function hasCode(error: unknown, code: ErrorCode): error is EngineError {
  return error instanceof EngineError && error.code === code;
}

/** The message of anything thrown. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** Ends a `switch` over a closed union; does not compile while a member is missing. */
export function assertNever(value: never): never {
  throw new InvariantError(`unexpected value ${JSON.stringify(value)}`);
}

export function invariant(condition: unknown, message: string): asserts condition {
  if (!condition) throw new InvariantError(message);
}

/** Runs every clean-up step even when some fail, then throws one `AggregateError` if any did. */
export async function runAll(act: string, steps: readonly (() => Promise<void> | void)[]): Promise<void> {
  const failures: unknown[] = [];
  for (const step of steps) {
    try {
      await step();
    } catch (error) {
      failures.push(error);
    }
  }
  if (failures.length > 0) throw new AggregateError(failures, `${act}: ${failures.map(messageOf).join("; ")}`);
}
