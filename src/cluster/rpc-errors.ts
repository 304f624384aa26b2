import { Code, ConnectError } from "@connectrpc/connect";
import { EngineError, type ErrorCode } from "../base/errors.ts";

// How a gRPC code reaches the user (reference: swarm-control-plane 13.4); codes that are not named are the server's fault.
const codes: Readonly<Partial<Record<Code, ErrorCode>>> = {
  [Code.InvalidArgument]: "invalid",
  [Code.FailedPrecondition]: "invalid",
  [Code.OutOfRange]: "invalid",
  [Code.NotFound]: "not-found",
  [Code.AlreadyExists]: "conflict",
  [Code.PermissionDenied]: "forbidden",
  [Code.Unauthenticated]: "unauthenticated",
  [Code.Unimplemented]: "unsupported",
  [Code.Unavailable]: "unavailable",
};

/** `rpc error: code = NotFound desc = …`, as the docker CLI shows what came over gRPC. */
export function rpcText(error: ConnectError): string {
  return `rpc error: code = ${Code[error.code]} desc = ${error.rawMessage}`;
}

/** A gRPC failure as the refusal the API answers with; anything else stays what it is. */
export function fromRpc(error: unknown): unknown {
  if (!(error instanceof ConnectError)) return error;
  return new EngineError(codes[error.code] ?? "internal", rpcText(error), { cause: error });
}

export async function translatingRpc<T>(act: () => Promise<T> | T): Promise<T> {
  try {
    return await act();
  } catch (error) {
    throw fromRpc(error);
  }
}
