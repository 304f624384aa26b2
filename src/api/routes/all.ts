import type { Route } from "../call.ts";
import { containerAttachRoutes } from "./containers-attach.ts";
import { containerCreateRoutes } from "./containers-create.ts";
import { containerInspectRoutes } from "./containers-inspect.ts";
import { containerLifecycleRoutes } from "./containers-lifecycle.ts";
import { containerListRoutes } from "./containers-list.ts";
import { containerLogsRoutes } from "./containers-logs.ts";
import { containerTopRoutes } from "./containers-top.ts";
import { containerWaitRoutes } from "./containers-wait.ts";
import { eventRoutes } from "./events.ts";
import { execRoutes } from "./exec.ts";
import { imageRoutes } from "./images.ts";
import { imageCreateRoutes } from "./images-create.ts";
import { networkRoutes } from "./networks.ts";
import { nodeRoutes } from "./nodes.ts";
import { swarmRoutes } from "./swarm.ts";
import { systemRoutes } from "./system.ts";
import { unsupportedRoutes } from "./unsupported.ts";
import { volumeRoutes } from "./volumes.ts";

/** Every endpoint. A new one is a file beside this one and a line here; earlier lines win where paths overlap. */
export const allRoutes: readonly Route[] = [
  ...systemRoutes,
  ...eventRoutes,
  ...containerListRoutes,
  ...containerCreateRoutes,
  ...containerInspectRoutes,
  ...containerLifecycleRoutes,
  ...containerWaitRoutes,
  ...containerAttachRoutes,
  ...containerLogsRoutes,
  ...containerTopRoutes,
  ...execRoutes,
  ...imageCreateRoutes,
  ...imageRoutes,
  ...networkRoutes,
  ...volumeRoutes,
  ...swarmRoutes,
  ...nodeRoutes,
  ...unsupportedRoutes,
];
