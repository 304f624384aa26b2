import { Agent as HttpAgent, request as httpRequest, type IncomingMessage } from "node:http";
import { Agent as HttpsAgent, request as httpsRequest } from "node:https";
import { rootCertificates } from "node:tls";
import type { Clock } from "../../../base/clock.ts";
import { messageOf } from "../../../base/errors.ts";
import type { RegistryTls } from "./endpoint.ts";
import { TransportError } from "./errors.ts";

export interface HttpAnswer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  /** Must be read to its end or destroyed. */
  readonly body: IncomingMessage;
}

export interface HttpAsk {
  readonly method: "GET" | "HEAD" | "POST";
  readonly url: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string;
}

const maxRedirects = 10;
const connectTimeoutMs = 30_000;
/** A registry that sends nothing for so long has gone away. */
const idleTimeoutMs = 60_000;

/**
 * Connections to one registry (and where it redirects to), with its own trust. Disposal closes them once the answers under
 * way are read: a layer that another pull waits for too is not cut off with the pull that began it.
 */
export class HttpTransport implements Disposable {
  readonly #http: HttpAgent;
  readonly #https: HttpsAgent;
  readonly #userAgent: string;
  readonly #clock: Clock;
  #answersOpen = 0;
  #closed = false;

  constructor(options: {
    readonly tls: RegistryTls;
    readonly verifyTls: boolean;
    readonly userAgent: string;
    readonly proxyEnv: NodeJS.ProcessEnv;
    readonly clock: Clock;
  }) {
    const { tls } = options;
    const pair = tls.pairs[0];
    const shared = { keepAlive: true, maxSockets: 8, proxyEnv: options.proxyEnv };
    this.#http = new HttpAgent(shared);
    this.#https = new HttpsAgent({
      ...shared,
      rejectUnauthorized: options.verifyTls,
      ...(tls.ca.length === 0 ? {} : { ca: [...rootCertificates, ...tls.ca] }),
      ...(pair === undefined ? {} : pair),
    });
    this.#userAgent = options.userAgent;
    this.#clock = options.clock;
  }

  [Symbol.dispose](): void {
    this.#closed = true;
    this.#closeIfIdle();
  }

  #closeIfIdle(): void {
    if (!this.#closed || this.#answersOpen > 0) return;
    this.#http.destroy();
    this.#https.destroy();
  }

  /**
   * One exchange, redirects followed; credentials are not carried to another origin.
   *
   * @throws {TransportError} when no answer came, in Go's words: `Get "https://…": dial tcp …`.
   */
  async ask(ask: HttpAsk, signal: AbortSignal): Promise<HttpAnswer> {
    let { url } = ask;
    let headers: Record<string, string> = { "user-agent": this.#userAgent, ...ask.headers };
    for (let hops = 0; ; hops++) {
      const answer = await this.#once({ ...ask, url, headers }, signal);
      const location = answer.headers["location"];
      if (answer.status < 300 || answer.status >= 400 || typeof location !== "string") return answer;
      answer.body.resume();
      if (hops === maxRedirects) throw failure(ask.method, ask.url, `stopped after ${maxRedirects} redirects`, false);
      const next = new URL(location, url);
      if (next.origin !== new URL(url).origin) {
        const { authorization: _kept, ...others } = headers;
        headers = others;
      }
      url = next.href;
    }
  }

  #once(ask: HttpAsk, signal: AbortSignal): Promise<HttpAnswer> {
    const { promise, resolve, reject } = Promise.withResolvers<HttpAnswer>();
    const secure = ask.url.startsWith("https:");
    const options = { method: ask.method, headers: ask.headers ?? {}, signal };
    const request = secure
      ? httpsRequest(ask.url, { ...options, agent: this.#https })
      : httpRequest(ask.url, { ...options, agent: this.#http });
    request.setTimeout(idleTimeoutMs, () => request.destroy(new Error("net/http: timeout awaiting response")));
    request.once("socket", (socket) => {
      if (!socket.connecting) return;
      const timer = this.#clock.after(connectTimeoutMs, () => request.destroy(new Error("i/o timeout")));
      socket.once("connect", () => timer[Symbol.dispose]());
      socket.once("close", () => timer[Symbol.dispose]());
    });
    request.once("response", (message) => {
      this.#answersOpen += 1;
      message.once("close", () => {
        this.#answersOpen -= 1;
        this.#closeIfIdle();
      });
      resolve({ status: message.statusCode ?? 0, headers: message.headers, body: message });
    });
    request.once("error", (error) => {
      reject(
        signal.aborted ? signal.reason : failure(ask.method, ask.url, goMessage(error), isRetryable(error), error),
      );
    });
    request.end(ask.body);
    return promise;
  }
}

function failure(method: string, url: string, why: string, retryable: boolean, cause?: unknown): TransportError {
  const verb = method[0] + method.slice(1).toLowerCase();
  return new TransportError(`${verb} "${url}": ${why}`, retryable, { cause });
}

interface SystemError extends Error {
  readonly code?: string;
  readonly hostname?: string;
  readonly address?: string;
  readonly port?: number;
}

/** compat: the words of Go's net package for what Node reports by code. */
function goMessage(error: unknown): string {
  const { code, hostname, address, port } = rootCause(error) as SystemError;
  const dial = `dial tcp ${address?.includes(":") ? `[${address}]` : (address ?? "")}:${port ?? 0}: connect: `;
  switch (code) {
    case "ENOTFOUND":
      return `dial tcp: lookup ${hostname ?? ""}: no such host`;
    case "EAI_AGAIN":
      return `dial tcp: lookup ${hostname ?? ""}: Temporary failure in name resolution`;
    case "ECONNREFUSED":
      return `${dial}connection refused`;
    case "EHOSTUNREACH":
      return `${dial}no route to host`;
    case "ENETUNREACH":
      return `${dial}network is unreachable`;
    case "ETIMEDOUT":
      return `${dial}connection timed out`;
    case "ECONNRESET":
      return "read: connection reset by peer";
    case "EPROTO":
    case "ERR_SSL_WRONG_VERSION_NUMBER":
    case "ERR_SSL_PACKET_LENGTH_TOO_LONG":
      return "http: server gave HTTP response to HTTPS client";
    case "DEPTH_ZERO_SELF_SIGNED_CERT":
    case "SELF_SIGNED_CERT_IN_CHAIN":
    case "UNABLE_TO_GET_ISSUER_CERT_LOCALLY":
    case "UNABLE_TO_VERIFY_LEAF_SIGNATURE":
      return "tls: failed to verify certificate: x509: certificate signed by unknown authority";
    case "CERT_HAS_EXPIRED":
      return "tls: failed to verify certificate: x509: certificate has expired or is not yet valid";
    default:
      return messageOf(error);
  }
}

function isRetryable(error: unknown): boolean {
  const { code } = rootCause(error) as SystemError;
  return code === "ECONNRESET" || code === "EPIPE" || code === "ETIMEDOUT" || code === "EAI_AGAIN";
}

/** Happy eyeballs reports one error for each address; the first says enough. */
function rootCause(error: unknown): unknown {
  return error instanceof AggregateError && error.errors.length > 0 ? error.errors[0] : error;
}

/** Reads a body whole. @throws {TransportError} past `maxBytes`. */
export async function readAll(answer: HttpAnswer, maxBytes: number): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of answer.body as AsyncIterable<Buffer>) {
    length += chunk.length;
    if (length > maxBytes) throw new TransportError(`answer is longer than ${maxBytes} bytes`, false);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks, length);
}
