// Keys and tokens are never on disk in the clear: the whole data root is searched for them, while running and after leaving.
import assert from "node:assert/strict";
import { test } from "node:test";
import { command, withLab } from "../support/lab.ts";

test("no join token and no private key is in the data root", async () => {
  await withLab("wsecret", 1, async (lab) => {
    const { dataRoot, address } = lab.host(1);
    await lab.ok(1, "swarm", "init", "--advertise-addr", address);
    const tokens = [
      await lab.ok(1, "swarm", "join-token", "-q", "worker"),
      await lab.ok(1, "swarm", "join-token", "-q", "manager"),
    ];
    const search = async (text: string) =>
      (await command(["grep", "-rlaF", "--exclude-dir=io.containerd*", "-e", text, dataRoot])).stdout.trim();
    for (const token of tokens) {
      assert.match(token, /^SWMTKN-1-[0-9a-z]{50}-[0-9a-z]{25}$/);
      assert.equal(await search(token), "", "a join token");
      assert.equal(await search(token.slice(-25)), "", "a join token's secret part");
    }
    const keys = await command([
      "grep",
      "-rlaE",
      "--exclude-dir=io.containerd*",
      "BEGIN (EC |ENCRYPTED )?PRIVATE KEY",
      dataRoot,
    ]);
    assert.equal(keys.stdout.trim(), "", "private keys");
    // The control: what is no secret is found, so the search does look into the database.
    assert.notEqual(await search("swarm"), "");
    await lab.ok(1, "swarm", "leave", "--force");
    for (const token of tokens) assert.equal(await search(token), "");
  });
});
