import assert from "node:assert/strict";
import { test } from "node:test";
import { parseLegacyChain, parseNftChain, planForwardRule } from "./forward-rule.ts";

const listing = `table ip filter {
	chain FORWARD { # handle 1
		type filter hook forward priority filter; policy drop;
		ip saddr 1.2.3.4 counter packets 0 bytes 0 accept # handle 2
		meta mark & 0x02000000 == 0x02000000 counter packets 0 bytes 0 accept comment "weft" # handle 3
	}
}
`;

test("parseNftChain() and parseLegacyChain() find our rules and their places", () => {
  assert.deepEqual(parseNftChain(listing), [{ place: 1, handle: 3 }]);
  const legacy = "-P FORWARD DROP\n-A FORWARD -m mark --mark 0x2000000/0x2000000 -m comment --comment weft -j ACCEPT\n";
  assert.deepEqual(parseLegacyChain(legacy), [{ place: 0, handle: undefined }]);
});

test("planForwardRule() inserts before it removes strays, and leaves a right chain alone", () => {
  const chain = { via: "nft", family: "ip", table: "filter", chain: "FORWARD" } as const;
  const kinds = (ours: readonly { place: number; handle: number | undefined }[], wanted = true) =>
    planForwardRule([{ ...chain, ours }], wanted).map((step) =>
      step.kind === "forward-rule.remove" ? `remove ${step.ours.place}` : "ensure",
    );
  assert.deepEqual(kinds([]), ["ensure"]);
  assert.deepEqual(kinds([{ place: 0, handle: 1 }]), []);
  assert.deepEqual(kinds([{ place: 2, handle: 1 }]), ["ensure", "remove 3"]);
  assert.deepEqual(
    kinds([
      { place: 0, handle: 1 },
      { place: 4, handle: 2 },
    ]),
    ["remove 4"],
  );
  assert.deepEqual(kinds([{ place: 0, handle: 1 }], false), ["remove 0"]);
});
