// Medians and spreads, and the table of ratios.

export interface Row {
  readonly name: string;
  readonly unit: string;
  /** What is better, so that the table can say who won. */
  readonly better: "less" | "more";
  readonly weft: number[];
  readonly docker: number[];
  /** Bare hosts, where that is measured. */
  readonly bare?: number[];
  /** Ratio weft/docker that must hold. */
  readonly bar?: number;
}

export function quantile(values: readonly number[], q: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  const at = (sorted.length - 1) * q;
  const low = sorted[Math.floor(at)] ?? Number.NaN;
  const high = sorted[Math.ceil(at)] ?? Number.NaN;
  return low + (high - low) * (at - Math.floor(at));
}

const number = (value: number) => (Math.abs(value) >= 100 ? value.toFixed(0) : value.toPrecision(3));
const figure = (values: readonly number[]) =>
  values.length === 0
    ? "-"
    : `${number(quantile(values, 0.5))} (${number(Math.min(...values))}..${number(Math.max(...values))})`;

/** Markdown: median (least..most) of each, and the ratio of the medians against its bar. */
export function table(rows: readonly Row[]): string {
  const lines = ["| what | unit | weft | docker 28 | bare | weft/docker | bar |", "|---|---|---|---|---|---|---|"];
  for (const row of rows) {
    const ratio = quantile(row.weft, 0.5) / quantile(row.docker, 0.5);
    const sign = row.better === "less" ? "at most" : "at least";
    const held = row.bar === undefined || (row.better === "less" ? ratio <= row.bar : ratio >= row.bar);
    const bar = row.bar === undefined ? "" : `${sign} ${row.bar}: ${held ? "held" : "MISSED"}`;
    lines.push(
      `| ${row.name} | ${row.unit} | ${figure(row.weft)} | ${figure(row.docker)} | ${figure(row.bare ?? [])} | ${ratio.toFixed(2)} | ${bar} |`,
    );
  }
  return lines.join("\n");
}
