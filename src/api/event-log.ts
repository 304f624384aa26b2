import { Hub } from "../base/async.ts";
import type { EngineEvent } from "../engine/mod.ts";

/** As many as Docker keeps. */
const kept = 256;

/** What has happened lately, for `docker events`: the last ones by `--since`, the coming ones live. */
export class EventLog {
  readonly #recent: EngineEvent[] = [];
  readonly #hub = new Hub<EngineEvent>();

  publish(event: EngineEvent): void {
    this.#recent.push(event);
    if (this.#recent.length > kept) this.#recent.shift();
    this.#hub.emit(event);
  }

  since(time: Date): readonly EngineEvent[] {
    return this.#recent.filter((event) => event.timeMs >= time.getTime());
  }

  listen(listener: (event: EngineEvent) => void): Disposable {
    return this.#hub.listen(listener);
  }

  get listeners(): number {
    return this.#hub.size;
  }
}
