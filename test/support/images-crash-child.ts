// Does one piece of image work in a process of its own, which WEFT_CRASH_AFTER kills on the way.
import { createReadStream } from "node:fs";
import { systemClock } from "../../src/base/clock.ts";
import { silentLog } from "../../src/base/log.ts";
import { systemRandom } from "../../src/base/random.ts";
import { openContainerd } from "../../src/engine/containerd/mod.ts";
import { openImages } from "../../src/engine/images/mod.ts";

const [socketPath = "", act = "", what = ""] = process.argv.slice(2);
const never = new AbortController().signal;
await using containerd = openContainerd({ socketPath, namespace: "weft" });
await using images = await openImages(
  { containerd, clock: systemClock, random: systemRandom, log: silentLog, certsDir: "/nonexistent" },
  never,
);
if (act === "pull") await images.pull(what, { progress: () => {} }, never);
if (act === "load") await images.load(createReadStream(what), () => {}, never);
if (act === "import") {
  await images.import(createReadStream(what), { reference: "crash:import", message: "", changes: [] }, never);
}
if (act === "remove") await images.remove(what, { force: true, noPrune: false, usedBy: () => [] });
