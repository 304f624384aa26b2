import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { layersOf, locate, readTextFile } from "./rootfs.ts";
import { resolveUser } from "./users.ts";

const files = {
  passwd: "root:x:0:0:root:/root:/bin/sh\nweaver:x:1000:1001:w:/:/bin/sh\n# not an entry\nbad:x:y:z\n",
  group: "root:x:0:\nweaver:x:1001:\nloom:x:2000:weaver,root\nmill:x:3000:weaver\n",
};

test("resolveUser() follows passwd and group as Docker does", () => {
  const cases: readonly [string, number, number, number[]][] = [
    ["", 0, 0, [0, 2000]],
    ["weaver", 1000, 1001, [1001, 2000, 3000]],
    ["1000", 1000, 1001, [1001, 2000, 3000]],
    ["4242", 4242, 0, [0]],
    ["weaver:loom", 1000, 2000, [2000]],
    ["5:6", 5, 6, [6]],
  ];
  for (const [user, uid, gid, additionalGids] of cases) {
    assert.deepEqual(resolveUser(user, [], files), { uid, gid, additionalGids }, user);
  }
  assert.deepEqual(resolveUser("7", ["mill", "77"], files).additionalGids, [0, 3000, 77]);
});

test("resolveUser() refuses names without entries, and ids out of range", () => {
  assert.throws(() => resolveUser("x", [], files), {
    message: "unable to find user x: no matching entries in passwd file",
  });
  assert.throws(() => resolveUser("0:x", [], files), {
    message: "unable to find group x: no matching entries in group file",
  });
  assert.throws(() => resolveUser("4294967296", [], files), /unable to find user/);
  assert.deepEqual(resolveUser("12", [], { passwd: "", group: "" }), { uid: 12, gid: 0, additionalGids: [0] });
});

test("files of a root file system are found through its layers and never outside", (t) => {
  const root = mkdtempSync(join(tmpdir(), "we-layers-"));
  t.after(() => rmSync(root, { recursive: true }));
  const [upper, lower] = [join(root, "upper"), join(root, "lower")];
  for (const layer of [upper, lower]) mkdirSync(join(layer, "etc"), { recursive: true });
  writeFileSync(join(lower, "etc/passwd"), "lower");
  writeFileSync(join(lower, "etc/group"), "group");
  writeFileSync(join(upper, "etc/passwd"), "upper");
  mkdirSync(join(lower, "real/sub"), { recursive: true });
  writeFileSync(join(lower, "real/sub/file"), "through links");
  symlinkSync("/real", join(upper, "absolute"));
  symlinkSync("../../../../../../etc/passwd", join(upper, "etc/escape"));
  symlinkSync("loop", join(upper, "loop"));
  const layers = layersOf([
    { type: "overlay", source: "overlay", options: ["index=off", `upperdir=${upper}`, `lowerdir=${lower}`] },
  ]);
  assert.equal(readTextFile(layers, "/etc/passwd"), "upper");
  assert.equal(readTextFile(layers, "/etc/group"), "group");
  assert.equal(readTextFile(layers, "/absolute/sub/file"), "through links");
  assert.equal(readTextFile(layers, "/etc/escape"), "upper", "resolved inside, not the host's");
  assert.equal(locate(layers, "/loop"), undefined);
  assert.equal(locate(layers, "/nothing/here"), undefined);
  assert.equal(readTextFile(layers, "/etc"), "", "a directory is no file");
});
