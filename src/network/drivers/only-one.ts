import { EngineError } from "../../base/errors.ts";

/** compat: `host` and `none` are made at start; nobody makes a second one (reference: network-data-plane 10.1). */
export function onlyOne(driver: string): never {
  throw new EngineError("forbidden", `only one instance of "${driver}" network is allowed`);
}
