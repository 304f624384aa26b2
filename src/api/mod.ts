/**
 * The Docker Engine API over HTTP: what clients may ask, in Docker's JSON and words. Parses requests into the rooms' own
 * models and shows their records as Docker does; decides nothing about containers, networks or the swarm itself.
 */
export { EventLog } from "./event-log.ts";
export type { Listener, TlsFiles } from "./listener.ts";
export type { ApiSettings, HostFacts, Rooms } from "./rooms.ts";
export { type Api, type ApiOptions, openApi } from "./server.ts";
export { currentVersion, formatVersion } from "./version.ts";
