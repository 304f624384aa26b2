import { invalid } from "./errors.ts";

/** The `filters` parameter: values of one name are alternatives, different names must all hold. */
export class Filters {
  readonly #values: ReadonlyMap<string, readonly string[]>;

  private constructor(values: ReadonlyMap<string, readonly string[]>) {
    this.#values = values;
  }

  /**
   * Reads both forms: `{"name":["a"]}` and, before API 1.22, `{"name":{"a":true}}`.
   * @throws {EngineError} `invalid`, in Docker's words, for what is no filter or is not `accepted`.
   */
  static parse(text: string, accepted: readonly string[]): Filters {
    const values = new Map<string, readonly string[]>();
    if (text === "") return new Filters(values);
    for (const [name, value] of Object.entries(parseObject(text))) {
      // compat: "invalid filter 'x'" is what clients print.
      if (!accepted.includes(name)) throw invalid(`invalid filter '${name}'`);
      values.set(name, parseValues(value));
    }
    return new Filters(values);
  }

  get(name: string): readonly string[] {
    return this.#values.get(name) ?? [];
  }

  /** True when the filter is absent or `test` takes one of its values. */
  any(name: string, test: (value: string) => boolean): boolean {
    const values = this.get(name);
    return values.length === 0 || values.some(test);
  }

  exact(name: string, value: string): boolean {
    return this.any(name, (wanted) => wanted === value);
  }

  /** Docker's fuzzy match of ids: by prefix. */
  prefix(name: string, value: string): boolean {
    return this.any(name, (wanted) => value.startsWith(wanted));
  }

  /** Docker's match of names: a regular expression, or its literal text where it is none. */
  match(name: string, value: string): boolean {
    return this.any(name, (wanted) => value === wanted || safePattern(wanted).test(value));
  }

  /** Every given `key` or `key=value` must be there. `label!` is the opposite. */
  labels(labels: Readonly<Record<string, string>>, name = "label"): boolean {
    const holds = (wanted: string) => {
      const at = wanted.indexOf("=");
      if (at < 0) return Object.hasOwn(labels, wanted);
      return labels[wanted.slice(0, at)] === wanted.slice(at + 1);
    };
    return this.get(name).every(holds) && !this.get(`${name}!`).some(holds);
  }

  /** @throws {EngineError} `invalid` when the value is not one of Docker's spellings of a truth value. */
  truth(name: string): boolean | undefined {
    const values = this.get(name);
    if (values.length === 0) return undefined;
    const isTrue = values.some((value) => ["1", "true"].includes(value));
    const isFalse = values.some((value) => ["0", "false"].includes(value));
    if (isTrue === isFalse || values.length > 1) {
      throw invalid(`invalid filter '${name}=[${values.join(" ")}]'`);
    }
    return isTrue;
  }
}

function parseObject(text: string): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === "object" && value !== null && !Array.isArray(value)) return value as Record<string, unknown>;
  } catch {
    // Falls through to the refusal.
  }
  throw invalid("invalid filter");
}

function parseValues(value: unknown): readonly string[] {
  if (Array.isArray(value) && value.every((item) => typeof item === "string")) return value;
  if (typeof value === "object" && value !== null && !Array.isArray(value)) {
    return Object.entries(value)
      .filter(([, on]) => on === true)
      .map(([name]) => name);
  }
  throw invalid("invalid filter");
}

/** Names are short and patterns come from whoever may start containers as root: only the syntax is a concern here. */
function safePattern(text: string): RegExp {
  try {
    return new RegExp(text);
  } catch {
    return new RegExp(text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"));
  }
}
