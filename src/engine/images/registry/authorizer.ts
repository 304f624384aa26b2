import { z } from "zod";
import type { RegistryAuth } from "../../engine.ts";
import { type Challenge, parseChallenges } from "./challenge.ts";
import { decodeRegistryError, TransportError } from "./errors.ts";
import { type HttpTransport, readAll } from "./transport.ts";

const maxTokenBytes = 1 << 20;
const clientId = "docker";
const tokenAnswer = z.object({ token: z.string().optional(), access_token: z.string().optional() });

/** Turns a registry's challenge and the user's credentials into an `Authorization` header. */
export class Authorizer {
  readonly #transport: HttpTransport;
  readonly #auth: RegistryAuth | undefined;
  readonly #scope: string;
  #challenge: Challenge | undefined;
  /** One request for a token at a time, shared by the layers that wait for it. */
  #token: Promise<string> | undefined;

  constructor(options: { transport: HttpTransport; auth: RegistryAuth | undefined; scope: string }) {
    this.#transport = options.transport;
    this.#auth = options.auth;
    this.#scope = options.scope;
  }

  /** Takes a `WWW-Authenticate` value and forgets the token it had. False: trying again would change nothing. */
  learn(header: string | string[] | undefined): boolean {
    const challenges = [header ?? []].flat().flatMap(parseChallenges);
    const known = this.#challenge;
    this.#challenge =
      challenges.find(({ scheme }) => scheme === "bearer") ?? challenges.find(({ scheme }) => scheme === "basic");
    const hadToken = this.#token !== undefined;
    this.#token = undefined;
    if (this.#challenge?.scheme === "bearer") return known === undefined || hadToken;
    return known === undefined && this.#challenge !== undefined;
  }

  /** @throws {TransportError} `no basic auth credentials`; {RegistryError} when the token server refuses. */
  async header(
    request: { readonly method: string; readonly url: string },
    signal: AbortSignal,
  ): Promise<string | undefined> {
    if (this.#challenge === undefined) return undefined;
    if (this.#challenge.scheme === "bearer") {
      this.#token ??= this.#fetchToken(this.#challenge, signal);
      const token = this.#token;
      try {
        return `Bearer ${await token}`;
      } catch (error) {
        // A failure is not remembered: the next request asks again.
        if (this.#token === token) this.#token = undefined;
        throw error;
      }
    }
    const basic = this.#basic();
    if (basic === undefined) {
      const verb = request.method[0] + request.method.slice(1).toLowerCase();
      throw new TransportError(`${verb} "${request.url}": no basic auth credentials`, false);
    }
    return basic;
  }

  #basic(): string | undefined {
    const { username = "", password = "" } = this.#auth ?? {};
    if (username === "" && password === "") return undefined;
    return `Basic ${Buffer.from(`${username}:${password}`).toString("base64")}`;
  }

  /** GET with basic credentials or none; POST with a refresh token when the user logged in with one (distribution, token). */
  async #fetchToken(challenge: Challenge, signal: AbortSignal): Promise<string> {
    const { realm = "", service = "" } = challenge.parameters;
    if (!/^https?:\/\//.test(realm)) throw new TransportError(`no usable realm in the registry's challenge`, false);
    const identityToken = this.#auth?.identityToken ?? "";
    const basic = this.#basic();
    const url = new URL(realm);
    const answer = await this.#transport.ask(
      identityToken === ""
        ? tokenByGet(url, { service, scope: this.#scope, account: this.#auth?.username ?? "", basic })
        : tokenByPost(url, { service, scope: this.#scope, identityToken }),
      signal,
    );
    const body = (await readAll(answer, maxTokenBytes)).toString("utf8");
    if (answer.status !== 200) throw decodeRegistryError(answer.status, body);
    const parsed = tokenAnswer.parse(JSON.parse(body));
    const token = parsed.token ?? parsed.access_token;
    if (token === undefined)
      throw new TransportError("authorization server did not include a token in the response", false);
    return token;
  }
}

function tokenByGet(
  url: URL,
  asked: { service: string; scope: string; account: string; basic: string | undefined },
): { method: "GET"; url: string; headers: Record<string, string> } {
  if (asked.service !== "") url.searchParams.set("service", asked.service);
  url.searchParams.set("scope", asked.scope);
  if (asked.account !== "" && asked.basic !== undefined) url.searchParams.set("account", asked.account);
  return { method: "GET", url: url.href, headers: asked.basic === undefined ? {} : { authorization: asked.basic } };
}

function tokenByPost(
  url: URL,
  asked: { service: string; scope: string; identityToken: string },
): { method: "POST"; url: string; headers: Record<string, string>; body: string } {
  const form = new URLSearchParams({
    grant_type: "refresh_token",
    service: asked.service,
    scope: asked.scope,
    client_id: clientId,
    refresh_token: asked.identityToken,
  });
  return {
    method: "POST",
    url: url.href,
    headers: { "content-type": "application/x-www-form-urlencoded" },
    body: form.toString(),
  };
}
