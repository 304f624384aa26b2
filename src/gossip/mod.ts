/**
 * Who is there and what each node says about its endpoints: memberlist's failure detector and NetworkDB, on the wire as
 * dockerd speaks them. Decides membership and table contents; knows nothing of VXLAN, names or tasks.
 */
export type * from "./gossip.ts";
export { type GossipDeps, type OpenGossipOptions, openGossip } from "./open.ts";
export type { DelegateVersions } from "./swim/model.ts";
