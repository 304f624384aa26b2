import type { Driver } from "../driver.ts";
import { onlyOne } from "../only-one.ts";

/** The host's own namespace: nothing is built. */
export const hostDriver: Driver = {
  name: "host",
  addresses: false,
  check: () => onlyOne("host"),
  ensureNetwork: async () => {},
  removeNetwork: async () => {},
  join: async () => {},
  leave: async () => {},
};
