import { inspect } from "node:util";

/** A key, token or credential. Prints as `[secret]` everywhere; `reveal` is the only way to the value. */
export class Secret<T extends string | Uint8Array> {
  readonly #value: T;

  constructor(value: T) {
    this.#value = value;
  }

  reveal(): T {
    return this.#value;
  }

  toString(): string {
    return "[secret]";
  }

  toJSON(): string {
    return "[secret]";
  }

  [inspect.custom](): string {
    return "[secret]";
  }
}
