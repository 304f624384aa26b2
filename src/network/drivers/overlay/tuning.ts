import { readFile } from "node:fs/promises";
import type { KernelObject } from "../../../kernel/mod.ts";

/** Room for the permanent neighbour entries of all peers (reference: network-data-plane 2.7). */
const neighbourThresholds = { gc_thresh1: 8192, gc_thresh2: 49152, gc_thresh3: 65536 } as const;

/** Only what is lower now is raised. Namespaces other than the first have no such settings: they share the first one's. */
export async function tuningObjects(): Promise<readonly KernelObject[]> {
  const objects: KernelObject[] = [];
  for (const [name, wanted] of Object.entries(neighbourThresholds)) {
    const text = await readFile(`/proc/sys/net/ipv4/neigh/default/${name}`, "utf8").catch(() => undefined);
    if (text === undefined || Number(text) >= wanted) continue;
    objects.push({ kind: "sysctl", ns: "host", key: `net.ipv4.neigh.default.${name}`, value: String(wanted) });
  }
  return objects;
}
