import { EngineError, type ErrorCode, messageOf } from "../base/errors.ts";

/** The only table from what kind of refusal it is to what HTTP calls it. */
const statuses: Readonly<Record<ErrorCode, number>> = {
  invalid: 400,
  unauthenticated: 401,
  forbidden: 403,
  "not-found": 404,
  conflict: 409,
  // An exhausted address pool is Docker's plain internal error.
  exhausted: 500,
  unavailable: 503,
  unsupported: 501,
  "not-modified": 304,
  internal: 500,
};

export interface ErrorAnswer {
  readonly status: number;
  readonly message: string;
  /** A fault of ours rather than a refusal: belongs into the log. */
  readonly isFault: boolean;
}

export function answerFor(error: unknown): ErrorAnswer {
  if (error instanceof EngineError) {
    return { status: statuses[error.code], message: error.message, isFault: false };
  }
  return { status: 500, message: messageOf(error), isFault: true };
}

export function invalid(message: string): EngineError {
  return new EngineError("invalid", message);
}
