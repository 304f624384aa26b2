import { type Option, options } from "./options.ts";

/** What `--help` prints. */
export function helpText(): string {
  const rows = options.map((option) => ({ left: leftColumn(option), right: rightColumn(option) }));
  const width = Math.max(...rows.map((row) => row.left.length)) + 3;
  const lines = rows.map((row) => `${row.left.padEnd(width)}${row.right}`);
  return [
    "",
    "Usage:  weftd [OPTIONS]",
    "",
    "The network engine for containers on many Linux hosts, driven by the docker command.",
    "Takes dockerd's options; those that it does not have are marked.",
    "",
    "Options:",
    ...lines,
    "",
  ].join("\n");
}

function leftColumn(option: Option): string {
  const short = option.short === undefined ? "    " : `-${option.short}, `;
  return `  ${short}--${option.name}${option.placeholder === "" ? "" : ` ${option.placeholder}`}`;
}

function rightColumn(option: Option): string {
  const fallback = option.fallback === "" || option.fallback === "0" ? "" : ` (default ${quoted(option)})`;
  const mark = { done: "", "no-effect": " [no effect]", refused: " [not supported]" }[option.status.kind];
  return `${option.help}${fallback}${mark}`;
}

function quoted(option: Option): string {
  return option.kind === "text" && option.placeholder === "string" ? JSON.stringify(option.fallback) : option.fallback;
}
