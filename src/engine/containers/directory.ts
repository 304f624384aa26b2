import { EngineError } from "../../base/errors.ts";
import type { LiveContainer } from "../lifecycle/container.ts";

/** The containers of this host by id and by name. Names are without the slash that Docker shows. */
export class ContainerDirectory {
  readonly #byId = new Map<string, LiveContainer>();
  /** Also names of creations that are under way. */
  readonly #names = new Map<string, string>();

  all(): readonly LiveContainer[] {
    return [...this.#byId.values()];
  }

  get(id: string): LiveContainer | undefined {
    return this.#byId.get(id);
  }

  /** Full id, then name, then unique prefix of an id. @throws {EngineError} `not-found`, `invalid`. */
  find(term: string): LiveContainer {
    const name = term.startsWith("/") ? term.slice(1) : term;
    const exact = this.#byId.get(term) ?? this.#byId.get(this.#names.get(name) ?? "");
    if (exact !== undefined) return exact;
    const matches = /^[0-9a-f]+$/.test(term) ? this.all().filter(({ id }) => id.startsWith(term)) : [];
    const [only, another] = matches;
    // compat:
    if (another !== undefined) throw new EngineError("invalid", `Multiple IDs found with provided prefix: ${term}`);
    if (only === undefined) throw new EngineError("not-found", `No such container: ${term}`);
    return only;
  }

  /** As `find`, but undefined for what is not there or not clear. */
  lookUp(term: string): LiveContainer | undefined {
    try {
      return this.find(term);
    } catch (error) {
      if (error instanceof EngineError) return undefined;
      throw error;
    }
  }

  ownerOf(name: string): string | undefined {
    return this.#names.get(name);
  }

  /** Holds a name for an id before the container is there. */
  reserve(name: string, id: string): void {
    this.#names.set(name, id);
  }

  release(name: string): void {
    this.#names.delete(name);
  }

  /** Takes its name too, unless somebody has it: one that is being removed may be outlived by its successor. */
  add(container: LiveContainer): void {
    this.#byId.set(container.id, container);
    const { name } = container.record;
    if (!this.#names.has(name)) this.#names.set(name, container.id);
  }

  remove(container: LiveContainer): void {
    this.#byId.delete(container.id);
    if (this.#names.get(container.record.name) === container.id) this.#names.delete(container.record.name);
  }
}
