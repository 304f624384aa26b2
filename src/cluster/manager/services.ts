import { create } from "@bufbuild/protobuf";
import { Code, ConnectError, type ConnectRouter, type HandlerContext } from "@connectrpc/connect";
import {
  CA,
  GetRootCACertificateResponseSchema,
  GetUnlockKeyResponseSchema,
  NodeCA,
} from "../../wire/gen/swarm_ca_pb.ts";
import { Dispatcher as DispatcherRpc } from "../../wire/gen/swarm_dispatcher_pb.ts";
import {
  Health,
  HealthCheckResponse_ServingStatus,
  HealthCheckResponseSchema,
} from "../../wire/gen/swarm_health_pb.ts";
import { LogBroker } from "../../wire/gen/swarm_logbroker_pb.ts";
import { ResourceAllocator } from "../../wire/gen/swarm_resource_pb.ts";
import type { Identity } from "../ca/model.ts";
import type { Dispatcher } from "../dispatcher/dispatcher.ts";
import type { ObjectStore } from "../state/objects.ts";
import type { Attachments } from "./attachments.ts";
import { callerKey } from "./authorization.ts";
import type { Certificates } from "./certificates.ts";

/** Request header by which our own agents are known; a dockerd manager ignores it. */
export const agentHeader = "weft-agent";

export interface ManagerParts {
  readonly objects: ObjectStore;
  readonly certificates: Certificates;
  readonly dispatcher: Dispatcher;
  readonly attachments: Attachments;
}

/** The services on port 2377 that nodes need. Who may call what is decided before (authorization.ts). */
export function registerServices(router: ConnectRouter, parts: ManagerParts): void {
  const { objects, certificates, dispatcher, attachments } = parts;
  router.service(CA, {
    getRootCACertificate: () => create(GetRootCACertificateResponseSchema, { certificate: certificates.rootPem() }),
    getUnlockKey: () => {
      const { version } = objects.cluster().meta ?? {};
      return create(GetUnlockKeyResponseSchema, version === undefined ? {} : { version });
    },
  });
  router.service(NodeCA, {
    issueNodeCertificate: (request, context) => certificates.issue(request, context.values.get(callerKey)),
    nodeCertificateStatus: (request, context) => certificates.status(request.nodeId, context.signal),
  });
  router.service(DispatcherRpc, {
    session: (request, context) => {
      const { address } = context.values.get(callerKey);
      const isOurs = context.requestHeader.has(agentHeader);
      return dispatcher.session({ nodeId: callerOf(context).nodeId, address, isOurs }, request, context.signal);
    },
    heartbeat: (request, context) => dispatcher.heartbeat(callerOf(context).nodeId, request.sessionId),
    updateTaskStatus: (request, context) => {
      dispatcher.updateTaskStatus(callerOf(context).nodeId, request);
      return {};
    },
    // `tasks` is only for agents that find `assignments` missing, and volumes come with their own service.
    assignments: ({ sessionId }, context) => {
      const isOurs = context.requestHeader.has(agentHeader);
      return dispatcher.assignments({ nodeId: callerOf(context).nodeId, sessionId, isOurs }, context.signal);
    },
  });
  router.service(ResourceAllocator, {
    attachNetwork: async (request, context) => ({
      attachmentId: await attachments.attach(callerOf(context).nodeId, request),
    }),
    detachNetwork: async ({ attachmentId }, context) => {
      await attachments.detach(callerOf(context).nodeId, attachmentId);
      return {};
    },
  });
  router.service(LogBroker, {
    // Stays open: its end would end the whole session (T19).
    listenSubscriptions: async function* (_request, context) {
      await new Promise<void>((resolve) => {
        context.signal.addEventListener("abort", () => resolve(), { once: true });
      });
    },
  });
  router.service(Health, {
    check: ({ service }) => {
      if (service !== "Raft") throw new ConnectError(`unknown service ${service}`, Code.NotFound);
      return create(HealthCheckResponseSchema, { status: HealthCheckResponse_ServingStatus.SERVING });
    },
  });
}

function callerOf(context: HandlerContext): Identity {
  const { identity } = context.values.get(callerKey);
  if (identity === undefined) throw new ConnectError("the caller has no certificate", Code.PermissionDenied);
  return identity;
}
