import type { Instant } from "../../base/clock.ts";
import { assertNever } from "../../base/errors.ts";
import { type Random, shuffled } from "../../base/random.ts";
import { BroadcastQueue } from "../broadcast-queue.ts";
import {
  type Alive,
  type Dead,
  encodeMessage,
  type IndirectPing,
  type PacketMessage,
  type Ping,
  type PingSource,
  type PushPull,
  type Suspect,
} from "./codec.ts";
import {
  type DelegateVersions,
  type Endpoint,
  formatEndpoint,
  isSameEndpoint,
  type Member,
  type Versions,
} from "./model.ts";
import { compoundPartBytes } from "./packet.ts";
import { confirm, deadlineOf, type Suspicion, suspect } from "./suspicion.ts";
import { incompatibility, isSane, ownVersions } from "./versions.ts";

// SWIM with Lifeguard as memberlist does it (reference: network-data-plane 5.8). A member's life:
//
//            suspect message, failed probe           deadline, dead message
//    alive ------------------------------> suspect ------------------------> dead
//      ^  ^------ newer alive --------------- |                               |
//      |                                      | dead with From = Node         | dead or left for 30 s,
//      +------------- newer alive ----------- left <--- (from any)            v end of a round: forgotten
//
// A member refutes what is said about itself by being alive with a higher incarnation.

export const timing = {
  probeIntervalMs: 1000,
  probeTimeoutMs: 500,
  gossipIntervalMs: 200,
  pushPullIntervalMs: 30_000,
  /** Dead members still hear gossip so long, then they are forgotten. */
  gossipToTheDeadMs: 30_000,
} as const;

const indirectChecks = 3;
const gossipNodes = 3;
const awarenessMax = 8;
const pushPullScaleThreshold = 32;
/** Our own coming, refutation and leaving go to so many members at once; the rest hear of it by gossip. */
const eagerMembers = 16;
const userHeaderBytes = 1;

/** The application beside the failure detector: NetworkDB. */
export interface SwimDelegate {
  hasBroadcasts(): boolean;
  /** Queued messages to spread to the whole cluster, each costing its length and `overheadBytes`. */
  takeBroadcasts(overheadBytes: number, limitBytes: number): Uint8Array[];
  /** User state of a push/pull. */
  localState(isJoin: boolean): Uint8Array;
}

export interface SwimConfig {
  readonly name: string;
  readonly advertise: Endpoint;
  readonly delegateVersions: DelegateVersions;
  /** What is left of a packet for a compound's parts. */
  readonly partsBudgetBytes: number;
  readonly random: Random;
  readonly delegate: SwimDelegate;
}

type MemberState =
  | { readonly kind: "alive" | "dead" | "left"; readonly since: Instant }
  | { readonly kind: "suspect"; readonly since: Instant; readonly suspicion: Suspicion };

interface MemberRecord extends Omit<Member, "state"> {
  readonly state: MemberState;
}

type Probe =
  | {
      readonly kind: "direct";
      readonly target: string;
      readonly sequence: number;
      readonly deadline: Instant;
      readonly indirectAt: Instant;
    }
  | {
      readonly kind: "indirect";
      readonly target: string;
      readonly sequence: number;
      readonly deadline: Instant;
      readonly expectedNacks: number;
      readonly nacks: number;
      readonly isReachedByStream: boolean;
    };

/** A ping sent on another's behalf, by our own sequence number. */
interface Relay {
  readonly requester: Endpoint;
  readonly sequence: number;
  readonly wantsNack: boolean;
  readonly deadline: Instant;
}

/** Mutable; changed only by `step`. */
export interface Swim {
  readonly config: SwimConfig;
  readonly versions: Versions;
  readonly members: Map<string, MemberRecord>;
  readonly broadcasts: BroadcastQueue;
  readonly relays: Map<number, Relay>;
  probeOrder: string[];
  probe: Probe | undefined;
  sequence: number;
  awareness: number;
  hasLeft: boolean;
  probeAt: Instant;
  gossipAt: Instant;
  pushPullAt: Instant;
}

export type SwimInput =
  | { readonly kind: "tick" }
  | { readonly kind: "packet"; readonly from: Endpoint; readonly message: PacketMessage }
  /** A TCP ping of ours was answered. */
  | { readonly kind: "stream-ack"; readonly sequence: number }
  /** Another node's push/pull; the reply comes before what the merge brings about. */
  | { readonly kind: "push-pull-request"; readonly message: PushPull }
  /** The answer to ours. */
  | { readonly kind: "push-pull-answer"; readonly message: PushPull; readonly isJoin: boolean }
  | { readonly kind: "join"; readonly to: Endpoint }
  | { readonly kind: "send-user"; readonly to: string; readonly payload: Uint8Array; readonly withAlive: boolean }
  | { readonly kind: "leave" };

export type SwimOutput =
  | { readonly kind: "packet"; readonly to: Endpoint; readonly parts: readonly Uint8Array[]; readonly withCrc: boolean }
  | { readonly kind: "stream-ping"; readonly to: Endpoint; readonly message: Ping; readonly timeoutMs: number }
  | { readonly kind: "push-pull"; readonly to: Endpoint; readonly message: PushPull }
  | { readonly kind: "push-pull-reply"; readonly message: PushPull }
  | { readonly kind: "member-joined"; readonly member: Member }
  | { readonly kind: "member-gone"; readonly member: Member }
  /** A member answered under its name at its address. */
  | { readonly kind: "member-confirmed"; readonly name: string }
  | { readonly kind: "user"; readonly payload: Uint8Array }
  | { readonly kind: "remote-state"; readonly state: Uint8Array; readonly isJoin: boolean }
  | {
      readonly kind: "note";
      readonly level: "debug" | "warn";
      readonly message: string;
      readonly facts: Readonly<Record<string, unknown>>;
    };

export function createSwim(config: SwimConfig, now: Instant): Swim {
  const self: MemberRecord = {
    ...config.advertise,
    name: config.name,
    meta: new Uint8Array(),
    versions: ownVersions(config.delegateVersions),
    incarnation: 1,
    state: { kind: "alive", since: now },
  };
  const stagger = (intervalMs: number) => now + config.random.below(intervalMs);
  return {
    config,
    versions: ownVersions(config.delegateVersions),
    members: new Map([[config.name, self]]),
    broadcasts: new BroadcastQueue(),
    relays: new Map(),
    probeOrder: [],
    probe: undefined,
    sequence: config.random.below(1 << 16),
    awareness: 0,
    hasLeft: false,
    probeAt: stagger(timing.probeIntervalMs),
    gossipAt: now,
    pushPullAt: stagger(timing.pushPullIntervalMs),
  };
}

/** Next time `step` has something to do if nothing arrives. */
export function nextDeadline(swim: Swim): Instant {
  const deadlines = [Math.max(swim.probeAt, swim.probe?.deadline ?? swim.probeAt), swim.pushPullAt];
  if (swim.probe?.kind === "direct") deadlines.push(swim.probe.indirectAt);
  if (swim.broadcasts.length > 0 || swim.config.delegate.hasBroadcasts()) deadlines.push(swim.gossipAt);
  for (const relay of swim.relays.values()) deadlines.push(relay.deadline);
  for (const { state } of swim.members.values()) {
    if (state.kind === "suspect") deadlines.push(deadlineOf(state.suspicion));
  }
  return Math.min(...deadlines);
}

/** Advances the machine by one input; changes `swim` and returns what shall be done, in order. */
export function step(swim: Swim, input: SwimInput, now: Instant): SwimOutput[] {
  const turn: Turn = { swim, now, out: [] };
  switch (input.kind) {
    case "tick":
      tick(turn);
      break;
    case "packet":
      receive(turn, input.message, input.from);
      break;
    case "stream-ack":
      streamAck(turn, input.sequence);
      break;
    case "push-pull-request":
      turn.out.push({ kind: "push-pull-reply", message: localState(swim, input.message.isJoin) });
      merge(turn, input.message);
      break;
    case "push-pull-answer":
      merge(turn, input.message);
      if (input.isJoin) sendEagerly(turn, encodeMessage(aliveOf(self(swim))));
      break;
    case "join":
      turn.out.push({ kind: "push-pull", to: input.to, message: localState(swim, true) });
      break;
    case "send-user":
      sendUser(turn, input);
      break;
    case "leave":
      leave(turn);
      break;
    default:
      assertNever(input);
  }
  return turn.out;
}

export function membersOf(swim: Swim): Member[] {
  return [...swim.members.values()].map(memberOf);
}

interface Turn {
  readonly swim: Swim;
  readonly now: Instant;
  readonly out: SwimOutput[];
}

function tick(turn: Turn): void {
  const { swim, now } = turn;
  for (const record of [...swim.members.values()]) {
    if (record.state.kind === "suspect" && deadlineOf(record.state.suspicion) <= now) {
      note(turn, "debug", "marking a member as failed", { member: record.name });
      dead(turn, { kind: "dead", incarnation: record.incarnation, node: record.name, from: swim.config.name });
    }
  }
  for (const [sequence, relay] of [...swim.relays]) {
    if (relay.deadline > now) continue;
    swim.relays.delete(sequence);
    if (relay.wantsNack) sendWithGossip(turn, relay.requester, { kind: "nack", sequence: relay.sequence });
  }
  if (swim.probe?.kind === "direct" && swim.probe.indirectAt <= now) probeIndirectly(turn, swim.probe);
  if (swim.probe !== undefined && swim.probe.deadline <= now) probeFailed(turn, swim.probe);
  if (swim.probe === undefined && swim.probeAt <= now) {
    swim.probeAt = now + timing.probeIntervalMs;
    probeNext(turn);
  }
  if (swim.pushPullAt <= now) {
    swim.pushPullAt = now + pushPullIntervalMs(swim.members.size);
    const [peer] = pick(turn, 1, (record) => record.state.kind === "alive");
    if (peer !== undefined) turn.out.push({ kind: "push-pull", to: peer, message: localState(swim, false) });
  }
  if (swim.gossipAt <= now) gossip(turn);
}

export function pushPullIntervalMs(members: number): number {
  if (members <= pushPullScaleThreshold) return timing.pushPullIntervalMs;
  return timing.pushPullIntervalMs * (Math.ceil(Math.log2(members) - Math.log2(pushPullScaleThreshold)) + 1);
}

function gossip(turn: Turn): void {
  const { swim, now } = turn;
  if (swim.broadcasts.length === 0 && !swim.config.delegate.hasBroadcasts()) return;
  swim.gossipAt = now + timing.gossipIntervalMs;
  const canHear = ({ state }: MemberRecord) =>
    isUp(state) || (state.kind === "dead" && now - state.since <= timing.gossipToTheDeadMs);
  for (const peer of pick(turn, gossipNodes, canHear)) {
    const parts = takeBroadcasts(swim, swim.config.partsBudgetBytes);
    if (parts.length === 0) return;
    turn.out.push({ kind: "packet", to: peer, parts, withCrc: understandsCrc(peer) });
  }
}

function probeNext(turn: Turn): void {
  const { swim, now } = turn;
  const target = nextTarget(turn);
  if (target === undefined) return;
  const sequence = nextSequence(swim);
  const ping: Ping = { kind: "ping", sequence, node: target.name, source: sourceOf(swim) };
  const intervalMs = timing.probeIntervalMs * (swim.awareness + 1);
  swim.probe = {
    kind: "direct",
    target: target.name,
    sequence,
    deadline: now + intervalMs,
    indirectAt: now + timing.probeTimeoutMs,
  };
  if (target.state.kind === "alive") {
    sendWithGossip(turn, target, ping);
    return;
  }
  // The accused hears of the suspicion together with the ping, so that it can refute at once.
  const accusation = encodeMessage({
    kind: "suspect",
    incarnation: target.incarnation,
    node: target.name,
    from: swim.config.name,
  });
  const parts = [encodeMessage(ping), accusation];
  turn.out.push({ kind: "packet", to: target, parts, withCrc: understandsCrc(target) });
}

/** Walks a shuffled list of all members; at its end those long dead are forgotten and a new round begins. */
function nextTarget(turn: Turn): MemberRecord | undefined {
  const { swim } = turn;
  for (let round = 0; round < 2; round++) {
    for (let name = swim.probeOrder.pop(); name !== undefined; name = swim.probeOrder.pop()) {
      const record = swim.members.get(name);
      if (record !== undefined && name !== swim.config.name && isUp(record.state)) return record;
    }
    forgetTheDead(turn);
    swim.probeOrder = shuffled([...swim.members.keys()], swim.config.random);
  }
  return undefined;
}

function forgetTheDead({ swim, now }: Turn): void {
  for (const { name, state } of [...swim.members.values()]) {
    const isGone = !isUp(state) && now - state.since > timing.gossipToTheDeadMs;
    if (isGone && name !== swim.config.name) swim.members.delete(name);
  }
}

function probeIndirectly(turn: Turn, probe: Extract<Probe, { kind: "direct" }>): void {
  const { swim, now } = turn;
  const target = swim.members.get(probe.target);
  if (target === undefined) {
    swim.probe = undefined;
    return;
  }
  let expectedNacks = 0;
  const helpers = pick(turn, indirectChecks, ({ name, state }) => name !== target.name && state.kind === "alive");
  for (const helper of helpers) {
    const wantsNack = protocolMax(helper) >= 4;
    if (wantsNack) expectedNacks += 1;
    const request: IndirectPing = {
      kind: "indirect-ping",
      sequence: probe.sequence,
      target: { address: target.address, portHostOrder: target.portHostOrder },
      node: target.name,
      wantsNack,
      source: sourceOf(swim),
    };
    sendWithGossip(turn, helper, request);
  }
  if (protocolMax(target) >= 3) {
    const message: Ping = { kind: "ping", sequence: probe.sequence, node: target.name, source: sourceOf(swim) };
    turn.out.push({ kind: "stream-ping", to: target, message, timeoutMs: Math.max(1, probe.deadline - now) });
  }
  const { target: name, sequence, deadline } = probe;
  swim.probe = {
    kind: "indirect",
    target: name,
    sequence,
    deadline,
    expectedNacks,
    nacks: 0,
    isReachedByStream: false,
  };
}

function probeFailed(turn: Turn, probe: Probe): void {
  const { swim } = turn;
  swim.probe = undefined;
  const target = swim.members.get(probe.target);
  if (target === undefined || !isUp(target.state)) return;
  if (probe.kind === "indirect") {
    if (probe.isReachedByStream) {
      note(turn, "warn", "a member answers over TCP only: UDP may be blocked", { member: target.name });
      return;
    }
    const missing = probe.expectedNacks - probe.nacks;
    adjustAwareness(swim, probe.expectedNacks > 0 ? missing : 1);
  }
  note(turn, "debug", "a member does not answer", { member: target.name });
  accuse(turn, { kind: "suspect", incarnation: target.incarnation, node: target.name, from: swim.config.name });
}

function probeAnswered(turn: Turn, probe: Probe): void {
  turn.swim.probe = undefined;
  adjustAwareness(turn.swim, -1);
  turn.out.push({ kind: "member-confirmed", name: probe.target });
}

function streamAck({ swim }: Turn, sequence: number): void {
  if (swim.probe?.kind !== "indirect" || swim.probe.sequence !== sequence) return;
  swim.probe = { ...swim.probe, isReachedByStream: true };
}

function receive(turn: Turn, message: PacketMessage, from: Endpoint): void {
  const { swim } = turn;
  switch (message.kind) {
    case "ping":
      if (message.node !== "" && message.node !== swim.config.name) {
        // How the old name of a restarted node is noticed: nobody answers to it.
        note(turn, "debug", "got a ping for another node", { wanted: message.node, from: formatEndpoint(from) });
        return;
      }
      sendWithGossip(turn, message.source ?? from, { kind: "ack", sequence: message.sequence });
      return;
    case "indirect-ping":
      relay(turn, message, from);
      return;
    case "ack":
      acked(turn, message.sequence);
      return;
    case "nack":
      if (swim.probe?.kind === "indirect" && swim.probe.sequence === message.sequence) {
        swim.probe = { ...swim.probe, nacks: swim.probe.nacks + 1 };
      }
      return;
    case "suspect":
      accuse(turn, message);
      return;
    case "alive":
      alive(turn, message);
      return;
    case "dead":
      dead(turn, message);
      return;
    case "user":
      turn.out.push({ kind: "user", payload: message.payload });
      return;
    default:
      assertNever(message);
  }
}

function relay(turn: Turn, request: IndirectPing, from: Endpoint): void {
  const { swim, now } = turn;
  const sequence = nextSequence(swim);
  swim.relays.set(sequence, {
    requester: request.source ?? from,
    sequence: request.sequence,
    wantsNack: request.wantsNack,
    deadline: now + timing.probeTimeoutMs,
  });
  sendWithGossip(turn, request.target, { kind: "ping", sequence, node: request.node, source: sourceOf(swim) });
}

function acked(turn: Turn, sequence: number): void {
  const { swim } = turn;
  const relayed = swim.relays.get(sequence);
  if (relayed !== undefined) {
    swim.relays.delete(sequence);
    sendWithGossip(turn, relayed.requester, { kind: "ack", sequence: relayed.sequence });
  } else if (swim.probe?.sequence === sequence) {
    probeAnswered(turn, swim.probe);
  }
}

function alive(turn: Turn, message: Alive): void {
  const { swim, now } = turn;
  const isSelf = message.node === swim.config.name;
  if (isSelf && swim.hasLeft) return;
  if (!isSane(message.versions)) {
    note(turn, "warn", "a member announces protocol versions that make no sense", { member: message.node });
    return;
  }
  const known = swim.members.get(message.node);
  if (known !== undefined && !isSameEndpoint(known, message) && known.state.kind !== "left") {
    const facts = { member: message.node, known: formatEndpoint(known), claimed: formatEndpoint(message) };
    note(turn, "warn", "Conflicting address for a member", facts);
    return;
  }
  if (isSelf) {
    const me = self(swim);
    if (message.incarnation < me.incarnation) return;
    if (message.incarnation === me.incarnation && isSameClaim(me, message)) return;
    refute(turn, message.incarnation);
    return;
  }
  const movedAfterLeaving = known !== undefined && !isSameEndpoint(known, message);
  if (known !== undefined && message.incarnation <= known.incarnation && !movedAfterLeaving) return;
  const wasUp = known !== undefined && isUp(known.state);
  const record: MemberRecord = {
    address: message.address,
    portHostOrder: message.portHostOrder,
    name: message.node,
    meta: message.meta,
    versions: message.versions ?? known?.versions,
    incarnation: message.incarnation,
    state: known?.state.kind === "alive" ? known.state : { kind: "alive", since: now },
  };
  swim.members.set(message.node, record);
  swim.broadcasts.add(message.node, encodeMessage(message));
  if (known === undefined) {
    // A random place in the current round keeps the time to the first probe short on average.
    swim.probeOrder.splice(swim.config.random.below(swim.probeOrder.length + 1), 0, message.node);
  }
  if (!wasUp) turn.out.push({ kind: "member-joined", member: memberOf(record) });
}

function accuse(turn: Turn, message: Suspect): void {
  const { swim, now } = turn;
  const known = swim.members.get(message.node);
  if (known === undefined || message.incarnation < known.incarnation) return;
  if (known.state.kind === "suspect") {
    const suspicion = confirm(known.state.suspicion, message.from);
    if (suspicion === undefined) return;
    swim.members.set(known.name, { ...known, state: { ...known.state, suspicion } });
    swim.broadcasts.add(known.name, encodeMessage(message));
    return;
  }
  if (known.state.kind !== "alive") return;
  if (known.name === swim.config.name) {
    if (!swim.hasLeft) refute(turn, message.incarnation);
    return;
  }
  const suspicion = suspect(message.from, swim.members.size, timing.probeIntervalMs, now);
  const state: MemberState = { kind: "suspect", since: now, suspicion };
  swim.members.set(known.name, { ...known, incarnation: message.incarnation, state });
  swim.broadcasts.add(known.name, encodeMessage(message));
}

function dead(turn: Turn, message: Dead): void {
  const { swim, now } = turn;
  const known = swim.members.get(message.node);
  if (known === undefined || message.incarnation < known.incarnation || !isUp(known.state)) return;
  const isSelf = known.name === swim.config.name;
  if (isSelf && !swim.hasLeft) {
    refute(turn, message.incarnation);
    return;
  }
  const kind = message.node === message.from ? "left" : "dead";
  const record: MemberRecord = { ...known, incarnation: message.incarnation, state: { kind, since: now } };
  swim.members.set(known.name, record);
  swim.broadcasts.add(known.name, encodeMessage(message));
  if (!isSelf) turn.out.push({ kind: "member-gone", member: memberOf(record) });
}

function refute(turn: Turn, accusedIncarnation: number): void {
  const { swim } = turn;
  const me = self(swim);
  const refuted = { ...me, incarnation: Math.max(me.incarnation, accusedIncarnation) + 1 };
  swim.members.set(me.name, refuted);
  adjustAwareness(swim, 1);
  const message = encodeMessage(aliveOf(refuted));
  swim.broadcasts.add(me.name, message);
  sendEagerly(turn, message);
}

function leave(turn: Turn): void {
  const { swim } = turn;
  if (swim.hasLeft) return;
  swim.hasLeft = true;
  const me = self(swim);
  const message: Dead = { kind: "dead", incarnation: me.incarnation, node: me.name, from: me.name };
  dead(turn, message);
  sendEagerly(turn, encodeMessage(message));
}

/** Another's list of members, read as messages; a dead one is only suspected, so that it can still refute. */
function merge(turn: Turn, remote: PushPull): void {
  const { swim } = turn;
  const refusal = incompatibility(membersOf(swim), remote.members);
  if (refusal !== undefined) {
    note(turn, "warn", "push/pull refused", { reason: refusal });
    return;
  }
  for (const member of remote.members) {
    const { name, incarnation, state } = member;
    if (state === "alive") alive(turn, aliveOf(member));
    else if (state === "left") dead(turn, { kind: "dead", incarnation, node: name, from: name });
    else accuse(turn, { kind: "suspect", incarnation, node: name, from: swim.config.name });
  }
  if (remote.userState.length > 0) {
    turn.out.push({ kind: "remote-state", state: remote.userState, isJoin: remote.isJoin });
  }
}

/** A message with as much queued gossip as fits beside it. */
function sendWithGossip(turn: Turn, to: Endpoint, message: PacketMessage): void {
  const bytes = encodeMessage(message);
  const extra = takeBroadcasts(turn.swim, turn.swim.config.partsBudgetBytes - bytes.length);
  turn.out.push({ kind: "packet", to, parts: [bytes, ...extra], withCrc: false });
}

function sendEagerly(turn: Turn, message: Uint8Array): void {
  for (const peer of pick(turn, eagerMembers, ({ state }) => isUp(state))) {
    turn.out.push({ kind: "packet", to: peer, parts: [message], withCrc: understandsCrc(peer) });
  }
}

function sendUser(turn: Turn, { to, payload, withAlive }: Extract<SwimInput, { kind: "send-user" }>): void {
  const member = turn.swim.members.get(to);
  if (member === undefined || !isUp(member.state)) return;
  const parts = [encodeMessage({ kind: "user", payload })];
  if (withAlive) parts.unshift(encodeMessage(aliveOf(self(turn.swim))));
  turn.out.push({ kind: "packet", to: member, parts, withCrc: understandsCrc(member) });
}

function takeBroadcasts(swim: Swim, limitBytes: number): Uint8Array[] {
  const own = swim.broadcasts.take({ overheadBytes: compoundPartBytes, limitBytes, nodes: swim.members.size });
  const left = own.reduce((rest, message) => rest - message.length - compoundPartBytes, limitBytes);
  const overheadBytes = compoundPartBytes + userHeaderBytes;
  if (left <= overheadBytes) return own;
  const users = swim.config.delegate.takeBroadcasts(overheadBytes, left);
  return [...own, ...users.map((payload) => encodeMessage({ kind: "user", payload }))];
}

function localState(swim: Swim, isJoin: boolean): PushPull {
  return { kind: "push-pull", isJoin, members: membersOf(swim), userState: swim.config.delegate.localState(isJoin) };
}

/** Up to `count` random members other than ourselves. */
function pick({ swim }: Turn, count: number, fits: (record: MemberRecord) => boolean): MemberRecord[] {
  const fitting = [...swim.members.values()].filter((record) => record.name !== swim.config.name && fits(record));
  return shuffled(fitting, swim.config.random).slice(0, count);
}

function self(swim: Swim): MemberRecord {
  return swim.members.get(swim.config.name) as MemberRecord;
}

function sourceOf(swim: Swim): PingSource {
  return { ...swim.config.advertise, node: swim.config.name };
}

function aliveOf({ name, address, portHostOrder, meta, versions, incarnation }: Omit<Member, "state">): Alive {
  return { kind: "alive", node: name, address, portHostOrder, meta, versions, incarnation };
}

function memberOf(record: MemberRecord): Member {
  return { ...record, state: record.state.kind };
}

function isUp(state: MemberState): boolean {
  return state.kind === "alive" || state.kind === "suspect";
}

function isSameClaim(me: MemberRecord, message: Alive): boolean {
  return Buffer.compare(me.meta, message.meta) === 0 && String(me.versions) === String(message.versions);
}

function protocolMax(record: MemberRecord): number {
  return record.versions?.[1] ?? 0;
}

function understandsCrc(record: MemberRecord): boolean {
  return protocolMax(record) >= 5;
}

function adjustAwareness(swim: Swim, delta: number): void {
  swim.awareness = Math.min(awarenessMax - 1, Math.max(0, swim.awareness + delta));
}

function nextSequence(swim: Swim): number {
  swim.sequence = (swim.sequence + 1) >>> 0;
  return swim.sequence;
}

function note(turn: Turn, level: "debug" | "warn", message: string, facts: Readonly<Record<string, unknown>>): void {
  turn.out.push({ kind: "note", level, message, facts });
}
