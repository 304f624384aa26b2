import type { IpAddress } from "../../base/ip.ts";
import { isNotFound } from "../kernel.ts";
import type { NetlinkSocket } from "../netlink/socket.ts";
import { type Connection, decodeConnection, deleteConnection, dumpConnections, protocolNumbers } from "./codec.ts";

export interface ConntrackMatch {
  readonly protocol: "tcp" | "udp";
  /** The port the client sent to, before any translation. */
  readonly originalDestinationPort?: number;
  /** The address that answers, after translation: the backend. */
  readonly replySource?: IpAddress;
}

/** Deletes the entries that match; returns how many were there. */
export function flushConnections(socket: NetlinkSocket, match: ConntrackMatch): number {
  const found = socket
    .dump("list connections", dumpConnections)
    .map(decodeConnection)
    .filter((connection) => connection !== undefined)
    .filter((connection) => matches(connection, match));
  let deleted = 0;
  for (const connection of found) {
    try {
      socket.request("delete connection", deleteConnection(connection));
      deleted += 1;
    } catch (error) {
      // It ended by itself meanwhile.
      if (!isNotFound(error)) throw error;
    }
  }
  return deleted;
}

export function matches({ original, reply }: Connection, match: ConntrackMatch): boolean {
  const { originalDestinationPort: port, replySource } = match;
  return (
    original.protocol === protocolNumbers[match.protocol] &&
    (port === undefined || original.destinationPort === port) &&
    (replySource === undefined || reply.source === replySource)
  );
}
