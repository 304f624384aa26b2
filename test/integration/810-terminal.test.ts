// As a person would use it: the docker CLI in a terminal, keys typed through tmux, the screen read back.
import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { command, eventually, type TestLab, withLab } from "../support/lab.ts";

const session = "weft-terminal-test";
/** Every terminal has a tmux server of its own: a new one may not meet the last one's ending. */
let server = 0;

async function tmux(...args: readonly string[]): Promise<string> {
  const result = await command(["tmux", "-L", `${session}-${server}`, ...args]);
  if (result.code !== 0) throw new Error(`tmux ${args.join(" ")}: ${result.output}`);
  return result.stdout;
}

const screen = () => tmux("capture-pane", "-p", "-J", "-t", session);
const type = (text: string) => tmux("send-keys", "-t", session, "-l", "--", text);
const press = (...keys: readonly string[]) => tmux("send-keys", "-t", session, ...keys);

async function enter(text: string): Promise<void> {
  await type(text);
  await press("Enter");
}

function shows(pattern: RegExp): Promise<string> {
  return eventually(`the screen shows ${pattern}`, 20_000, async () => {
    const text = await screen();
    return pattern.test(text) ? text : undefined;
  });
}

async function inTerminal(lab: TestLab, body: () => Promise<void>): Promise<void> {
  const environment = `DOCKER_HOST=unix://${lab.host(1).socket}`;
  server += 1;
  await tmux(
    "-f",
    "/dev/null",
    "new-session",
    "-d",
    "-s",
    session,
    "-x",
    "100",
    "-y",
    "30",
    "-e",
    environment,
    "env PS1='prompt> ' sh",
  );
  try {
    await shows(/prompt>/);
    await body();
  } catch (error) {
    const last = await screen().catch(() => "(no screen)");
    throw new Error(`${error instanceof Error ? error.message : String(error)}\nthe screen at that time:\n${last}`);
  } finally {
    await command(["tmux", "-L", `${session}-${server}`, "kill-server"]);
  }
}

test("a terminal on a container", async (t) => {
  await withLab("wterm", 1, async (lab) => {
    await t.test("run -it: a prompt, echo, exit code, window size and resizing", () =>
      inTerminal(lab, async () => {
        await enter("docker run -it --rm --name shell -h inside toolbox sh");
        await shows(/\/ # $/m);
        await enter("echo $((6*7))-answer; tty");
        await shows(/42-answer\n\/dev\/pts\/0/);
        await enter("stty size");
        await shows(/^30 100$/m);
        await tmux("resize-window", "-t", session, "-x", "120", "-y", "40");
        await sleep(500);
        await enter("stty size");
        await shows(/^40 120$/m);
        await enter("exit 7");
        await shows(/^prompt> $/m);
        await enter("echo code=$?");
        await shows(/code=7/);
        await tmux("resize-window", "-t", session, "-x", "100", "-y", "30");
      }),
    );

    await t.test("Ctrl-C interrupts what runs in the terminal, not the container", () =>
      inTerminal(lab, async () => {
        await enter("docker run -it --rm toolbox sh");
        await shows(/\/ # $/m);
        await enter("sleep 1000");
        await sleep(300);
        await press("C-c");
        await enter("echo still-here");
        await shows(/^still-here/m);
        await press("C-d");
        await shows(/prompt> $/m);
      }),
    );

    await t.test("Ctrl-P Ctrl-Q detaches, attach comes back to the same shell", () =>
      inTerminal(lab, async () => {
        await enter("docker run -it --name keep toolbox sh");
        await shows(/\/ # $/m);
        await enter("mark=kept");
        await press("C-p", "C-q");
        await shows(/read escape sequence|prompt> $/m);
        assert.equal(await lab.ok(1, "inspect", "-f", "{{.State.Running}}", "keep"), "true");
        await press("Enter");
        await enter("clear; docker attach keep");
        await sleep(700);
        await press("Enter");
        await shows(/\/ # /);
        await enter("echo $mark-the-shell");
        await shows(/^kept-the-shell/m);
        await press("C-d");
        await shows(/prompt> $/m);
        assert.equal(await lab.ok(1, "inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", "keep"), "exited 0");
        await lab.ok(1, "rm", "keep");
      }),
    );

    await t.test("exec -it: a second terminal in a running container, its exit code, its size", () =>
      inTerminal(lab, async () => {
        await lab.ok(1, "run", "-d", "--name", "base", "toolbox", "sleep", "1000");
        await enter("docker exec -it -e COLOUR=blue -w /tmp base sh");
        await shows(/\/tmp # $/m);
        await enter("echo $COLOUR $(stty size)");
        await shows(/^blue 30 100$/m);
        await enter("exit 3");
        await shows(/prompt> $/m);
        await enter("echo code=$?");
        await shows(/code=3/);
        assert.equal(await lab.ok(1, "inspect", "-f", "{{.State.Running}}", "base"), "true");
        await lab.ok(1, "rm", "-f", "base");
      }),
    );

    await t.test("logs -f follows, Ctrl-C ends the following only", () =>
      inTerminal(lab, async () => {
        const script = "i=0; while :; do i=$((i+1)); echo line-$i; sleep 0.2; done";
        await lab.ok(1, "run", "-d", "--name", "talker", "toolbox", "sh", "-c", script);
        await enter("docker logs -f talker");
        await shows(/line-5\n/);
        await press("C-c");
        await shows(/prompt> $/m);
        assert.equal(await lab.ok(1, "inspect", "-f", "{{.State.Running}}", "talker"), "true");
        await enter("clear; docker logs --tail 1 talker | wc -l");
        await shows(/^1$/m);
        await lab.ok(1, "rm", "-f", "talker");
      }),
    );

    await t.test("run without -d and -t: Ctrl-C stops the container, as its signal says", () =>
      inTerminal(lab, async () => {
        await enter(
          `docker run --name trap toolbox sh -c 'trap "echo caught; exit 5" INT; echo ready; while :; do sleep 0.1; done'`,
        );
        await shows(/^ready/m);
        await press("C-c");
        await shows(/^(\^C)?caught/m);
        await enter("echo code=$?");
        await shows(/code=5/);
        await lab.ok(1, "rm", "-f", "trap");
      }),
    );

    await t.test("piped input: run -i reads to its end", async () => {
      const piped = await command(
        ["docker", "-H", `unix://${lab.host(1).socket}`, "run", "-i", "--rm", "toolbox", "wc", "-c"],
        { input: "x".repeat(300_000) },
      );
      assert.equal(piped.stdout.trim(), "300000");
    });
  });
});
