import type { Route } from "./call.ts";

interface Compiled {
  readonly route: Route;
  readonly pattern: RegExp;
  readonly names: readonly string[];
}

/** Finds routes by method and path. Routes of one method are tried in the order of the list. */
export class Router {
  readonly #byMethod = new Map<string, Compiled[]>();

  constructor(routes: readonly Route[]) {
    for (const route of routes) {
      const names: string[] = [];
      const source = route.path.replace(/\{(\w+)(\.\.\.)?\}/g, (_whole, name: string, rest: string | undefined) => {
        names.push(name);
        return rest === undefined ? "([^/]+)" : "(.+)";
      });
      const list = this.#byMethod.get(route.method) ?? [];
      list.push({ route, pattern: new RegExp(`^${source}$`), names });
      this.#byMethod.set(route.method, list);
    }
  }

  find(
    method: string,
    path: string,
  ): { readonly route: Route; readonly params: Readonly<Record<string, string>> } | undefined {
    for (const { route, pattern, names } of this.#byMethod.get(method) ?? []) {
      const match = pattern.exec(path);
      if (match === null) continue;
      const params: Record<string, string> = {};
      for (const [i, name] of names.entries()) {
        const value = decode(match[i + 1] as string);
        if (value === undefined) return undefined;
        params[name] = value;
      }
      return { route, params };
    }
    return undefined;
  }
}

function decode(text: string): string | undefined {
  try {
    return decodeURIComponent(text);
  } catch {
    return undefined;
  }
}
