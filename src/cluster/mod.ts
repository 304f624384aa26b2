/**
 * The swarm: certificate authority, join tokens, the manager's store, allocator and dispatcher, and the agent that every
 * node runs. Speaks swarmkit's gRPC on 2377. Decides who is in, which addresses and networks there are and what runs where.
 */
export type * from "./swarm.ts";
