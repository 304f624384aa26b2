import { EngineError } from "../../base/errors.ts";
import type { RecordCodec } from "../../store/mod.ts";
import type { Volume } from "../model.ts";

export const volumeCodec: RecordCodec<Volume> = {
  version: 1,
  upgrade: (json) => json as Volume,
};

const namePattern = /^[a-zA-Z0-9][a-zA-Z0-9_.-]+$/;

/** @throws {EngineError} `invalid` in Docker's words. */
export function checkVolumeName(name: string): void {
  if (namePattern.test(name)) return;
  const what =
    name.length === 1 ? "volume name is too short, names should be at least two alphanumeric characters" : "";
  // compat:
  throw new EngineError(
    "invalid",
    what !== ""
      ? `create ${name}: ${what}`
      : `create ${name}: "${name}" includes invalid characters for a local volume name, only "[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed. If you intended to pass a host directory, use absolute path`,
  );
}
