/**
 * Containers, images, volumes, exec and logs on this host. containerd runs the processes, so they outlive weftd; this room
 * decides what they look like and follows their lives. Networking is asked of `network/`.
 */
export type * from "./engine.ts";
export type * from "./model.ts";
