import type { Driver } from "../driver.ts";
import { onlyOne } from "../only-one.ts";

/** Loopback only: nothing is built beside the namespace. */
export const noneDriver: Driver = {
  name: "null",
  addresses: false,
  check: () => onlyOne("null"),
  ensureNetwork: async () => {},
  removeNetwork: async () => {},
  join: async () => {},
  leave: async () => {},
};
