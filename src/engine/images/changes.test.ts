import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { applyChanges } from "./changes.ts";

describe("applyChanges()", () => {
  it("does what dockerd 28 does", () => {
    const config = applyChanges([
      "ONBUILD RUN x",
      "ENTRYPOINT a b",
      'ENV a=b c="d e"',
      "ENV x y z",
      "WORKDIR w",
      "WORKDIR $a",
      'LABEL q=1 r="2 3"',
      "VOLUME /x /y",
      "EXPOSE 80 81/udp 90-91",
      "HEALTHCHECK --interval=5s CMD true",
      "cmd [sh]",
    ]);
    assert.deepEqual(config, {
      OnBuild: ["RUN x"],
      Entrypoint: ["/bin/sh", "-c", "a b"],
      Env: ["a=b", "c=d e", "x=y z"],
      WorkingDir: "/w/b",
      Labels: { q: "1", r: "2 3" },
      Volumes: { "/x": {}, "/y": {} },
      ExposedPorts: { "80/tcp": {}, "81/udp": {}, "90/tcp": {}, "91/tcp": {} },
      Healthcheck: { Interval: 5_000_000_000, Test: ["CMD-SHELL", "true"] },
      Cmd: ["/bin/sh", "-c", "[sh]"],
    });
  });

  it("knows both forms, quotes, variables and continued lines", () => {
    const cases: [string[], unknown][] = [
      [['CMD ["a", "b c"]'], { Cmd: ["a", "b c"] }],
      [["CMD"], { Cmd: [] }],
      [["ENTRYPOINT []"], { Entrypoint: [] }],
      [["USER a b"], { User: "a b" }],
      [["STOPSIGNAL SIGTERM"], { StopSignal: "SIGTERM" }],
      [["STOPSIGNAL 9"], { StopSignal: "9" }],
      [['VOLUME ["/a b"]'], { Volumes: { "/a b": {} } }],
      [["ENV a=1 \\", "  b=2", "# said", "ENV a=3"], { Env: ["a=3", "b=2"] }],
      [["ENV a='$x' b=\"\\$x\" c=a\\ b"], { Env: ["a=$x", "b=$x", "c=a b"] }],
      // biome-ignore lint/suspicious/noTemplateCurlyInString: the instruction language, not a template
      [["ENV a=1", "ENV b=${a}2 c=${n:-3} d=${a:+4} e=$n."], { Env: ["a=1", "b=12", "c=3", "d=4", "e=."] }],
      [["HEALTHCHECK NONE"], { Healthcheck: { Test: ["NONE"] } }],
      [["WORKDIR /a/../b/./c/"], { WorkingDir: "/b/c" }],
      [[], {}],
    ];
    for (const [changes, config] of cases) assert.deepEqual(applyChanges(changes), config, changes.join("|"));
  });

  it("refuses in dockerd's words", () => {
    const cases: [string, string][] = [
      ["FOO x", "FOO is not a valid change command"],
      ["RUN foo", "RUN is not a valid change command"],
      ["ENV", "ENV requires at least one argument"],
      ["ENV a", "ENV must have two arguments"],
      ["ENV a=b c", `Syntax error - can't find = in "c". Must be of the form: name=value`],
      ["LABEL x", "LABEL must have two arguments"],
      ["EXPOSE foo", "Invalid containerPort: foo"],
      ["EXPOSE 70000", "Invalid containerPort: 70000"],
      ["EXPOSE 1/x", "Invalid proto: x"],
      ["USER", "USER requires exactly one argument"],
      ["WORKDIR", "WORKDIR requires exactly one argument"],
      ["VOLUME", "VOLUME requires at least one argument"],
      ['VOLUME [""]', "VOLUME specified can not be an empty string"],
      ["STOPSIGNAL foo", "invalid signal: foo"],
      ["ONBUILD FROM x", "FROM isn't allowed as an ONBUILD trigger"],
    ];
    for (const [change, message] of cases) {
      assert.throws(() => applyChanges([change]), { code: "invalid", message }, change);
    }
  });

  it("refuses or accepts any text", () => {
    const word = fc.constantFrom(
      "CMD",
      "ENV",
      "LABEL",
      "EXPOSE",
      "VOLUME",
      "USER",
      "HEALTHCHECK",
      "ONBUILD",
      "WORKDIR",
    );
    fc.assert(
      fc.property(word, fc.string(), (instruction, rest) => {
        try {
          applyChanges([`${instruction} ${rest}`]);
        } catch (error) {
          assert.ok(error instanceof Error && error.name === "EngineError", String(error));
        }
      }),
    );
  });

  it("keeps any value of ENV that is quoted", () => {
    fc.assert(
      fc.property(fc.stringMatching(/^[^"$\\\r\n]*$/), (value) => {
        assert.deepEqual(applyChanges([`ENV a="${value}"`]), { Env: [`a=${value}`] });
      }),
    );
  });
});
