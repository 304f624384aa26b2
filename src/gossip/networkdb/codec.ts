import { create, type DescMessage, fromBinary, type MessageShape, toBinary } from "@bufbuild/protobuf";
import { DecodeError, messageOf } from "../../base/errors.ts";
import {
  BulkSyncMessageSchema,
  CompoundMessageSchema,
  GossipMessageSchema,
  MessageType,
  NetworkEvent_Type,
  NetworkEventSchema,
  NetworkPushPullSchema,
  NodeEvent_Type,
  NodeEventSchema,
  TableEvent_Type,
  TableEventSchema,
} from "../../wire/gen/networkdb_pb.ts";

/** Every message is `GossipMessage{type, data}` around the inner one (reference: network-data-plane 4.3). */
export interface NodeEvent {
  readonly kind: "node";
  readonly change: "join" | "leave";
  readonly time: bigint;
  readonly node: string;
}
export interface NetworkEvent extends Omit<NodeEvent, "kind"> {
  readonly kind: "network";
  readonly networkId: string;
}
export interface TableMessage {
  readonly kind: "table";
  readonly change: "create" | "update" | "delete";
  readonly time: bigint;
  /** The owner. */
  readonly node: string;
  readonly networkId: string;
  readonly table: string;
  readonly key: string;
  readonly value: Uint8Array;
  /** Seconds a tombstone has left; 0 for live entries, and from engines that don't say. */
  readonly residualSeconds: number;
}
export interface Attachment {
  readonly networkId: string;
  readonly node: string;
  readonly time: bigint;
  readonly isLeaving: boolean;
}
export interface NetworkPushPull {
  readonly kind: "push-pull";
  readonly time: bigint;
  readonly node: string;
  readonly attachments: readonly Attachment[];
}
export interface BulkSync {
  readonly kind: "bulk-sync";
  readonly time: bigint;
  /** Asks for the receiver's own entries in return. */
  readonly isRequest: boolean;
  readonly node: string;
  readonly networkIds: readonly string[];
  /** Encoded messages, not decoded yet. */
  readonly messages: readonly Uint8Array[];
}
/** NetworkDB's own compound, a different layer than memberlist's; may hold any message. */
export interface Compound {
  readonly kind: "compound";
  readonly messages: readonly Uint8Array[];
}

export type DbMessage = NodeEvent | NetworkEvent | TableMessage | NetworkPushPull | BulkSync | Compound;

const nodeChanges = { join: NodeEvent_Type.JOIN, leave: NodeEvent_Type.LEAVE } as const;
const networkChanges = { join: NetworkEvent_Type.JOIN, leave: NetworkEvent_Type.LEAVE } as const;
const tableChanges = {
  create: TableEvent_Type.CREATE,
  update: TableEvent_Type.UPDATE,
  delete: TableEvent_Type.DELETE,
} as const;

export function encodeDbMessage(message: DbMessage): Uint8Array {
  switch (message.kind) {
    case "node": {
      const { change, time, node } = message;
      const body = create(NodeEventSchema, { type: nodeChanges[change], lTime: time, nodeName: node });
      return wrap(MessageType.NODE_EVENT, NodeEventSchema, body);
    }
    case "network": {
      const { change, time, node, networkId } = message;
      const body = create(NetworkEventSchema, { type: networkChanges[change], lTime: time, nodeName: node, networkId });
      return wrap(MessageType.NETWORK_EVENT, NetworkEventSchema, body);
    }
    case "table": {
      const body = create(TableEventSchema, {
        type: tableChanges[message.change],
        lTime: message.time,
        nodeName: message.node,
        networkId: message.networkId,
        tableName: message.table,
        key: message.key,
        value: message.value,
        residualReapTime: message.residualSeconds,
      });
      return wrap(MessageType.TABLE_EVENT, TableEventSchema, body);
    }
    case "push-pull": {
      const networks = message.attachments.map(({ networkId, node, time, isLeaving }) => ({
        networkId,
        nodeName: node,
        lTime: time,
        leaving: isLeaving,
      }));
      const body = create(NetworkPushPullSchema, { lTime: message.time, nodeName: message.node, networks });
      return wrap(MessageType.PUSH_PULL, NetworkPushPullSchema, body);
    }
    case "bulk-sync": {
      const body = create(BulkSyncMessageSchema, {
        lTime: message.time,
        unsolicited: message.isRequest,
        nodeName: message.node,
        networks: [...message.networkIds],
        payload: encodeCompound(message.messages),
      });
      return wrap(MessageType.BULK_SYNC, BulkSyncMessageSchema, body);
    }
    case "compound":
      return encodeCompound(message.messages);
  }
}

/** @throws {DecodeError} also for what is not NetworkDB's, such as another application's user message. */
export function decodeDbMessage(bytes: Uint8Array): DbMessage {
  const { type, data } = parse("GossipMessage", GossipMessageSchema, bytes);
  switch (type) {
    case MessageType.NODE_EVENT: {
      const body = parse("NodeEvent", NodeEventSchema, data);
      return {
        kind: "node",
        change: changeOf("NodeEvent", nodeChanges, body.type),
        time: body.lTime,
        node: body.nodeName,
      };
    }
    case MessageType.NETWORK_EVENT: {
      const body = parse("NetworkEvent", NetworkEventSchema, data);
      const change = changeOf("NetworkEvent", networkChanges, body.type);
      return { kind: "network", change, time: body.lTime, node: body.nodeName, networkId: body.networkId };
    }
    case MessageType.TABLE_EVENT: {
      const body = parse("TableEvent", TableEventSchema, data);
      return {
        kind: "table",
        change: changeOf("TableEvent", tableChanges, body.type),
        time: body.lTime,
        node: body.nodeName,
        networkId: body.networkId,
        table: body.tableName,
        key: body.key,
        value: body.value,
        residualSeconds: Math.max(0, body.residualReapTime),
      };
    }
    case MessageType.PUSH_PULL: {
      const body = parse("NetworkPushPull", NetworkPushPullSchema, data);
      const attachments = body.networks.map((entry) => ({
        networkId: entry.networkId,
        node: entry.nodeName,
        time: entry.lTime,
        isLeaving: entry.leaving,
      }));
      return { kind: "push-pull", time: body.lTime, node: body.nodeName, attachments };
    }
    case MessageType.BULK_SYNC: {
      const body = parse("BulkSyncMessage", BulkSyncMessageSchema, data);
      const payload = body.payload.length === 0 ? undefined : decodeDbMessage(body.payload);
      if (payload !== undefined && payload.kind !== "compound") {
        throw new DecodeError("BulkSyncMessage payload", 0, `expected a compound, found a ${payload.kind} message`);
      }
      return {
        kind: "bulk-sync",
        time: body.lTime,
        isRequest: body.unsolicited,
        node: body.nodeName,
        networkIds: body.networks,
        messages: payload?.messages ?? [],
      };
    }
    case MessageType.COMPOUND: {
      const body = parse("CompoundMessage", CompoundMessageSchema, data);
      return { kind: "compound", messages: body.messages.map(({ Payload }) => Payload) };
    }
    default:
      throw new DecodeError("GossipMessage type", 0, `unknown type ${type}`);
  }
}

function encodeCompound(messages: readonly Uint8Array[]): Uint8Array {
  const body = create(CompoundMessageSchema, { messages: messages.map((Payload) => ({ Payload })) });
  return wrap(MessageType.COMPOUND, CompoundMessageSchema, body);
}

function wrap<S extends DescMessage>(type: MessageType, schema: S, body: MessageShape<S>): Uint8Array {
  return toBinary(GossipMessageSchema, create(GossipMessageSchema, { type, data: toBinary(schema, body) }));
}

function parse<S extends DescMessage>(field: string, schema: S, bytes: Uint8Array): MessageShape<S> {
  try {
    return fromBinary(schema, bytes, { readUnknownFields: false });
  } catch (error) {
    // The library has no error class of its own and no offset.
    throw new DecodeError(field, 0, messageOf(error));
  }
}

function changeOf<K extends string>(field: string, changes: Readonly<Record<K, number>>, type: number): K {
  for (const change of Object.keys(changes) as K[]) if (changes[change] === type) return change;
  throw new DecodeError(`${field} type`, 0, `unknown type ${type}`);
}
