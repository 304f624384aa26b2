import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { describe, test } from "node:test";
import { Lab, skipReason, until } from "./gossip-lab.ts";

// memberlist as another team's program speaks it: Debian's serf, whose delegate versions are 2,5,5.
const hasSerf = (process.env["PATH"] ?? "").split(":").some((directory) => existsSync(`${directory}/serf`));
const skip = skipReason || (hasSerf ? false : "needs serf");
const keyHex = "00112233445566778899aabbccddeeff";

function serfArgs(i: number): string[] {
  const encrypt = Buffer.from(keyHex, "hex").toString("base64");
  return ["agent", `-node=serf${i}`, `-bind=10.77.0.${i}:7946`, `-encrypt=${encrypt}`, "-log-level=debug"];
}

describe("Debian's serf as a peer", { concurrency: true }, () => {
  for (const [index, direction] of ["we join serf", "serf joins us"].entries()) {
    test(`${direction}, encrypted: both see each other alive, and each sees the other fail`, {
      skip,
      timeout: 60_000,
    }, async () => {
      await using lab = new Lab(`wg-s${index}`);
      const [, theirs] = [lab.host(1), lab.host(2)];
      const serf = lab.spawn(2, "serf", serfArgs(2));
      let log = "";
      for (const stream of [serf.stdout, serf.stderr]) stream?.on("data", (text) => (log += String(text)));
      await until(
        "serf answers",
        () => log.includes("agent: Serf agent starting") && serfMembers(lab) !== undefined,
        5_000,
      );
      const ours = await lab.agent(1, { keys: [keyHex], delegateVersions: [2, 5, 5] });

      if (direction === "we join serf") await ours.ask("join", `${theirs}:7946`);
      else lab.run(2, "serf", ["join", "10.77.0.1:7946"]);
      await until("we see serf", async () => (await ours.others())["serf2"] === "alive", 2_000);
      await until("serf sees us", () => serfMembers(lab)?.[ours.name] === "alive", 2_000);

      // Its user messages are not NetworkDB's; ours are no use to it; both stay up.
      lab.run(2, "serf", ["event", "deploy", "payload"]);
      await ours.ask("joinNetwork", "n1");
      await ours.ask("put", "n1", "key", "value");
      // Long enough for probes in both directions.
      await new Promise((done) => setTimeout(done, 3_000));
      assert.equal((await ours.others())["serf2"], "alive");
      assert.equal(serfMembers(lab)?.[ours.name], "alive");
      assert.doesNotMatch(log, /\[ERR\] memberlist: (?!.*no such)/);

      if (direction === "we join serf") {
        serf.kill("SIGKILL");
        await until("we see serf fail", async () => (await ours.others())["serf2"] === "dead", 15_000);
      } else {
        ours.child.kill("SIGKILL");
        await until("serf sees us fail", () => serfMembers(lab)?.[ours.name] === "failed", 15_000);
      }
    });
  }

  test("serf sees us leave, not fail; and we see it leave", { skip, timeout: 30_000 }, async () => {
    await using lab = new Lab("wg-s2");
    lab.host(1);
    lab.host(2);
    lab.host(3);
    lab.spawn(2, "serf", serfArgs(2));
    await until("serf answers", () => serfMembers(lab) !== undefined, 5_000);
    const stays = await lab.agent(1, { keys: [keyHex], delegateVersions: [2, 5, 5] });
    const leaves = await lab.agent(3, { keys: [keyHex], delegateVersions: [2, 5, 5] });
    await Promise.all([stays.ask("join", "10.77.0.2:7946"), leaves.ask("join", "10.77.0.2")]);
    await until("three", () => Object.keys(serfMembers(lab) ?? {}).length === 3, 3_000);
    await leaves.ask("leave");
    await until("serf knows", () => serfMembers(lab)?.[leaves.name] !== "alive", 2_000);
    await until("our other node knows", async () => (await stays.others())[leaves.name] === "left", 2_000);
    lab.run(2, "serf", ["leave"]);
    await until("serf has left", async () => (await stays.others())["serf2"] === "left", 3_000);
  });
});

/** Name to status as serf's own command shows it, or `undefined` while its agent does not answer. */
function serfMembers(lab: Lab): Record<string, string> | undefined {
  try {
    const { members } = JSON.parse(lab.run(2, "serf", ["members", "-format=json"])) as {
      members: { name: string; status: string }[];
    };
    return Object.fromEntries(members.map(({ name, status }) => [name, status]));
  } catch {
    return undefined;
  }
}
