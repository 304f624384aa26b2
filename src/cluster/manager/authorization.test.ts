import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { create } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import { CA, NodeCA } from "../../wire/gen/swarm_ca_pb.ts";
import { Dispatcher } from "../../wire/gen/swarm_dispatcher_pb.ts";
import { Health } from "../../wire/gen/swarm_health_pb.ts";
import { LogBroker, Logs } from "../../wire/gen/swarm_logbroker_pb.ts";
import { ClusterSchema } from "../../wire/gen/swarm_objects_pb.ts";
import { ResourceAllocator } from "../../wire/gen/swarm_resource_pb.ts";
import { authorize, type Caller } from "./authorization.ts";

const cluster = create(ClusterSchema, { id: "us", blacklistedCertificates: { removed: {} } });
const caller = (role: "worker" | "manager", clusterId = "us", nodeId = "n"): Caller => ({
  identity: { nodeId, role, clusterId },
  address: "",
});
const callers: Readonly<Record<string, Caller>> = {
  nobody: { identity: undefined, address: "" },
  worker: caller("worker"),
  manager: caller("manager"),
  stranger: caller("manager", "them"),
  removed: caller("worker", "us", "removed"),
};

describe("authorize()", () => {
  it("every method by every caller", () => {
    const table: string[] = [];
    for (const service of [CA, NodeCA, Dispatcher, ResourceAllocator, LogBroker, Logs, Health]) {
      for (const method of service.methods) {
        const may = Object.entries(callers).filter(([, who]) => {
          try {
            authorize(method, who, cluster);
            return true;
          } catch (error) {
            assert.ok(error instanceof ConnectError && error.code === Code.PermissionDenied);
            return false;
          }
        });
        table.push(`${service.name}.${method.name}: ${may.map(([name]) => name).join(" ")}`);
      }
    }
    const everybody = "nobody worker manager stranger removed";
    assert.deepEqual(table, [
      `CA.GetRootCACertificate: ${everybody}`,
      "CA.GetUnlockKey: manager",
      `NodeCA.IssueNodeCertificate: ${everybody}`,
      `NodeCA.NodeCertificateStatus: ${everybody}`,
      "Dispatcher.Session: worker manager",
      "Dispatcher.Heartbeat: worker manager",
      "Dispatcher.UpdateTaskStatus: worker manager",
      "Dispatcher.UpdateVolumeStatus: worker manager",
      "Dispatcher.Tasks: worker manager",
      "Dispatcher.Assignments: worker manager",
      "ResourceAllocator.AttachNetwork: worker manager",
      "ResourceAllocator.DetachNetwork: worker manager",
      "LogBroker.ListenSubscriptions: worker manager",
      "LogBroker.PublishLogs: worker manager",
      "Logs.SubscribeLogs: ",
      "Health.Check: manager",
    ]);
  });

  it("refuses with the texts that operators know", () => {
    const session = Dispatcher.method.session;
    const refusal = (who: keyof typeof callers) => {
      try {
        authorize(session, callers[who] as Caller, cluster);
        return "";
      } catch (error) {
        return (error as ConnectError).rawMessage;
      }
    };
    assert.match(refusal("nobody"), /remote certificate not part of OUs: \[swarm-worker swarm-manager\]/);
    assert.match(refusal("stranger"), /remote certificate not part of organization: us/);
    assert.match(refusal("removed"), /node removed was removed from swarm/);
  });
});
