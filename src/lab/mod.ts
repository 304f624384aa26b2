/**
 * Hosts in network namespaces on one bridge, each with a weftd of its own: the lab, the demo in it, and weftd on this very
 * host (`weft up`). For trying and testing; a daemon never imports this room.
 */
export { demo } from "./demo.ts";
export { hostDown, hostStatus, hostUp } from "./host.ts";
export { labDown, labEnv, labStatus, labUp, startHost } from "./lab.ts";
export { type Lab, type LabHost, openLabPaths } from "./model.ts";
export { startDetached } from "./process.ts";
