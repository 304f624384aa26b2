import { invalid } from "./errors.ts";

/** Query parameters, read as Go's HTTP layer reads them. */
export class Query {
  readonly #values: URLSearchParams;

  constructor(values: URLSearchParams) {
    this.#values = values;
  }

  text(name: string): string {
    return this.#values.get(name) ?? "";
  }

  all(name: string): readonly string[] {
    return this.#values.getAll(name);
  }

  has(name: string): boolean {
    return this.#values.has(name);
  }

  /** Docker's BoolValue: everything but empty, 0, no, false and none is true. */
  flag(name: string): boolean {
    return !["", "0", "no", "false", "none"].includes(this.text(name).toLowerCase().trim());
  }

  flagOr(name: string, fallback: boolean): boolean {
    return this.has(name) ? this.flag(name) : fallback;
  }

  /** @throws {EngineError} `invalid` when it is there and no whole number. */
  integer(name: string): number | undefined {
    const text = this.text(name);
    if (text === "") return undefined;
    if (!/^-?\d{1,15}$/.test(text)) throw invalid(`strconv.Atoi: parsing ${JSON.stringify(text)}: invalid syntax`);
    return Number(text);
  }

  /** `since` and `until`: seconds with a fraction, or RFC 3339. */
  time(name: string): Date | undefined {
    const text = this.text(name);
    if (text === "") return undefined;
    const ms = /^\d+(\.\d+)?$/.test(text) ? Number(text) * 1000 : Date.parse(text);
    if (!Number.isFinite(ms)) throw invalid(`invalid value for "${name}": ${JSON.stringify(text)}`);
    return new Date(ms);
  }
}
