// Runs one container from its creation to its removal in an engine of its own, and is killed on the way by crash-point.ts.
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { silentLog } from "../../src/base/log.ts";
import { type ImageDetail, openContainerd } from "../../src/engine/mod.ts";
import { openSqliteStore } from "../../src/store/mod.ts";
import { BareNetworks, never, openEngine, specOf } from "./engine-world.ts";

const root = process.argv[2] ?? "";
const containerd = openContainerd({ socketPath: join(root, "run/containerd.sock"), namespace: "weft" });
const image = JSON.parse(readFileSync(join(root, "image.json"), "utf8")) as ImageDetail;
const store = await openSqliteStore({ path: join(root, "store.db"), log: silentLog }, never);
const networks = new BareNetworks();
const { containers } = await openEngine({ root, containerd, image, store, networks });

if (process.argv[3] === "rm") {
  const brief = specOf(["true"], { anonymousVolumes: ["/usr/local/share"] }, { autoRemove: true });
  const first = await containers.create(brief, "crash", never);
  const removed = containers.wait(first.id, "removed", never);
  await containers.start(first.id, never);
  await removed;
  // The same name at once, while the rest of the first one goes.
  await containers.create(specOf(["sleep", "600"]), "crash", never);
  await new Promise((resolve) => setTimeout(resolve, 2000));
}
const spec = specOf(["sleep", "600"], { anonymousVolumes: ["/usr/local/share"] });
const { id } = await containers.create(spec, "crash", never);
writeFileSync(join(root, "created"), id);
await containers.start(id, never);
writeFileSync(join(root, "started"), id);
await containers.kill(id, "KILL");
await containers.remove(id, { force: false, volumes: true }, never);
writeFileSync(join(root, "removed"), id);
networks.failOpen = new Error("no network for this one");
const failing = await containers.create(specOf(["sleep", "600"]), "crash", never);
await containers.start(failing.id, never).catch(() => {});
process.exit(0);
