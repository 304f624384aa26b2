import { connect as connectSocket } from "node:net";
import { type Client, Code, ConnectError, createClient, type Interceptor } from "@connectrpc/connect";
import { createGrpcTransport, Http2SessionManager } from "@connectrpc/connect-node";
import { messageOf } from "../../base/errors.ts";
import { Containers } from "../../wire/gen/github.com/containerd/containerd/api/services/containers/v1/containers_pb.ts";
import { Content } from "../../wire/gen/github.com/containerd/containerd/api/services/content/v1/content_pb.ts";
import { Diff } from "../../wire/gen/github.com/containerd/containerd/api/services/diff/v1/diff_pb.ts";
import { Events } from "../../wire/gen/github.com/containerd/containerd/api/services/events/v1/events_pb.ts";
import { Images } from "../../wire/gen/github.com/containerd/containerd/api/services/images/v1/images_pb.ts";
import { Introspection } from "../../wire/gen/github.com/containerd/containerd/api/services/introspection/v1/introspection_pb.ts";
import { Leases } from "../../wire/gen/github.com/containerd/containerd/api/services/leases/v1/leases_pb.ts";
import { Namespaces } from "../../wire/gen/github.com/containerd/containerd/api/services/namespaces/v1/namespace_pb.ts";
import { Snapshots } from "../../wire/gen/github.com/containerd/containerd/api/services/snapshots/v1/snapshots_pb.ts";
import { Tasks } from "../../wire/gen/github.com/containerd/containerd/api/services/tasks/v1/tasks_pb.ts";
import { Version } from "../../wire/gen/github.com/containerd/containerd/api/services/version/v1/version_pb.ts";

/** containerd's services, seen in one containerd namespace, over one warm HTTP/2 connection. */
export interface Containerd extends AsyncDisposable {
  readonly namespace: string;
  readonly containers: Client<typeof Containers>;
  readonly content: Client<typeof Content>;
  readonly diff: Client<typeof Diff>;
  readonly events: Client<typeof Events>;
  readonly images: Client<typeof Images>;
  readonly introspection: Client<typeof Introspection>;
  readonly leases: Client<typeof Leases>;
  readonly namespaces: Client<typeof Namespaces>;
  readonly snapshots: Client<typeof Snapshots>;
  readonly tasks: Client<typeof Tasks>;
  readonly version: Client<typeof Version>;
  /** The same services under a lease: what is made through them is kept from garbage collection until the lease is deleted. */
  withLease(leaseId: string): Containerd;
}

export interface ContainerdOptions {
  readonly socketPath: string;
  readonly namespace: string;
}

/** Connects lazily and again after containerd was restarted; a call that was under way then fails with `Unavailable`. */
export function openContainerd(options: ContainerdOptions): Containerd {
  const session = new Http2SessionManager(
    // The authority is never looked up: createConnection decides.
    "http://containerd",
    {},
    {
      createConnection: () => connectSocket(options.socketPath),
      settings: { initialWindowSize: 4 << 20 },
    },
  );
  return clientsOver(session, options.namespace, undefined);
}

function clientsOver(session: Http2SessionManager, namespace: string, leaseId: string | undefined): Containerd {
  const transport = createGrpcTransport({
    baseUrl: "http://containerd",
    sessionManager: session,
    interceptors: [headers(namespace, leaseId)],
  });
  return {
    namespace,
    containers: createClient(Containers, transport),
    content: createClient(Content, transport),
    diff: createClient(Diff, transport),
    events: createClient(Events, transport),
    images: createClient(Images, transport),
    introspection: createClient(Introspection, transport),
    leases: createClient(Leases, transport),
    namespaces: createClient(Namespaces, transport),
    snapshots: createClient(Snapshots, transport),
    tasks: createClient(Tasks, transport),
    version: createClient(Version, transport),
    withLease: (lease) => clientsOver(session, namespace, lease),
    async [Symbol.asyncDispose]() {
      session.abort();
    },
  };
}

function headers(namespace: string, leaseId: string | undefined): Interceptor {
  return (next) => (request) => {
    request.header.set("containerd-namespace", namespace);
    if (leaseId !== undefined) request.header.set("containerd-lease", leaseId);
    return next(request);
  };
}

/** containerd's word for "there is no such thing". */
export function isNotFound(error: unknown): boolean {
  return error instanceof ConnectError && error.code === Code.NotFound;
}

export function isAlreadyExists(error: unknown): boolean {
  return error instanceof ConnectError && error.code === Code.AlreadyExists;
}

/** Process already finished, task not in a state for the call. */
export function isFailedPrecondition(error: unknown): boolean {
  return error instanceof ConnectError && error.code === Code.FailedPrecondition;
}

/** The connection broke: containerd is down or being restarted. */
export function isUnavailable(error: unknown): boolean {
  if (!(error instanceof ConnectError)) return false;
  return error.code === Code.Unavailable || error.code === Code.Aborted || error.code === Code.Internal;
}

/** containerd's message without connect's `[code]` in front. */
export function rawMessage(error: unknown): string {
  return error instanceof ConnectError ? error.rawMessage : messageOf(error);
}
