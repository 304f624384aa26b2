import { connect, createServer, type Socket } from "node:net";
import type { Log } from "../../base/log.ts";

export interface Relay extends Disposable {}

/**
 * Copies TCP connections from a listening socket to a container: only for IPv6 clients of an IPv4-only container, which no
 * kernel NAT can serve (docs: decisions, "the kernel carries the packets"). Disposing closes the socket and its connections.
 */
export function startRelay(options: {
  readonly descriptor: number;
  readonly to: { readonly host: string; readonly port: number };
  readonly log: Log;
}): Relay {
  const open = new Set<Socket>();
  const server = createServer({ allowHalfOpen: true, pauseOnConnect: true }, (client) => {
    const target = connect({ ...options.to, allowHalfOpen: true });
    for (const [socket, other] of [
      [client, target],
      [target, client],
    ] as const) {
      open.add(socket);
      socket.on("error", (error) => {
        options.log.debug("a relayed connection broke", { to: options.to, error: error.message });
        other.destroy();
      });
      socket.on("close", () => open.delete(socket));
    }
    client.pipe(target);
    target.pipe(client);
  });
  server.on("error", (error) => options.log.warn("a relay stopped", { to: options.to, error: error.message }));
  server.listen({ fd: options.descriptor });
  server.unref();
  return {
    [Symbol.dispose]() {
      server.close();
      for (const socket of open) socket.destroy();
    },
  };
}
