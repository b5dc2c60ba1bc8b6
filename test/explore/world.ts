import { subscribe } from "node:diagnostics_channel";
import { CacheFenceError, RecomputeError, RecomputeTimeoutError } from "../../src/errors.js";
import type { CachedEntry } from "../../src/call/definition.js";
import type { RecomputeContext } from "../../src/call/recompute.js";
import type { CacheFenceOptions, GetOrSetOptions } from "../../src/options.js";
import { CacheFence } from "../../src/cache-fence.js";
import type { Runtime } from "../../src/runtime.js";
import type { Fence, LedgerCall, Note, Run } from "./ledger.js";
import { Ledger, Violation } from "./ledger.js";
import type { Delivery, ModelSubscriber, Word } from "./model.js";
import { parseRun, textOf } from "./model-scripts.js";
import { ModelClient, ModelServer } from "./model.js";
import type { Setting } from "./setting.js";

interface Timer {
  dueMs: number;
  /** Runs for ever, every half a second: nothing waits for it. */
  readonly isHeartbeat: boolean;
  readonly run: () => void;
}

interface Gate {
  readonly run: Run;
  readonly open: (value: unknown) => void;
  readonly fail: (error: Error) => void;
}

interface Call extends LedgerCall {
  readonly label: string;
  readonly controller: AbortController | undefined;
}

/** One process. */
interface Host {
  readonly index: number;
  readonly client: ModelClient;
  readonly cache: CacheFence;
  /** Earliest first. */
  readonly timers: Timer[];
  readonly gates: Set<Gate>;
  readonly calls: Set<Call>;
  readonly clock: { wallOffsetMs: number; monotonicOffsetMs: number };
  isDead: boolean;
  /** It has seen Redis failing, or not answering in time. */
  hadFault: boolean;
  /** A connection was lost, and what was sent on it is not sent again. */
  losesCommands: boolean;
  /** Fences whose command is still to be sent, in the order of their calls; and those of what was sent, by name. */
  readonly fences: { readonly key: string; readonly isSet: boolean; readonly fence: Fence }[];
  readonly fenceOf: Map<string, Fence>;
  /** Of scripts that were answered NOSCRIPT, to be sent again in this turn. */
  readonly toBeSentAgain: Note[];
}

/** How the key is asked for. */
interface Wish {
  readonly ttl?: number | (() => number);
  readonly hasSignal?: boolean;
  readonly by?: "list" | "definition";
  readonly options?: GetOrSetOptions;
}

interface Action {
  readonly weight: number;
  readonly label: string;
  readonly host: Host | undefined;
  readonly run: () => void | Promise<void>;
}

const KEY = "k";
/** In lists beside the key that is watched: it is there, and without tags. */
const NEIGHBOUR = "neighbour";
const TAG = "t";
const HEARTBEAT_MS = 500;
const SUSPENDED_MS = 3000;
const MEMORY_LEASE_MS = 1000;
const MOST_ROUND_TRIPS = 6;
// A fence is told, and confirmed.
const MOST_HOPS = 3;
// How long calls take besides their patience, where everybody answers at once.
const REST_MS = 100;
const REDIS_TIMEOUT_MS = 1000;
const EPOCH_MS = 1_800_000_000_000;
const HOUR_MS = 3_600_000;
// A sleeper polls within a second, and then waits for one reply, or for two one after the other.
const LONGEST_WAIT_IN_SILENCE_MS = 4 * REDIS_TIMEOUT_MS;
// The sweep over unanswered commands, which runs once more when all are answered.
const SWEEP_MS = 100;
const MOST_TURNS_TO_REST = 3000;

// Published right before the recompute is called: it tells that what it is for. A list calls its own a little later, when it
// knows of all its items.
interface Announcement {
  readonly isLocked: boolean;
  readonly isRefresh: boolean;
}
const announced: Announcement[] = [];
let isRefreshAnnounced = false;
subscribe("cachefence:early-refresh", (event) => {
  if ((event as { key: string }).key === KEY) isRefreshAnnounced = true;
});
subscribe("cachefence:rebuild-start", (event) => {
  const { key, locked } = event as { key: string; locked: boolean };
  if (key !== KEY) return;
  announced.push({ isLocked: locked, isRefresh: isRefreshAnnounced });
  isRefreshAnnounced = false;
});

let current: World | undefined;
process.on("unhandledRejection", (reason) => current?.fail(new Violation(`unhandled rejection: ${String(reason)}`)));

/** Everything that the library has set off in this turn of the event loop has happened after it. */
function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

/** Runs one schedule, each choice from 0 to 65,535 deciding the next step, then lets everything come to rest. */
export async function explore(
  setting: Setting,
  choices: readonly number[],
  onStep?: (label: string) => void,
): Promise<World> {
  const world = new World(setting);
  if (onStep !== undefined) world.onStep = onStep;
  current = world;
  announced.length = 0;
  isRefreshAnnounced = false;
  const { stackTraceLimit } = Error;
  // Many errors are made here, nearly all of them expected, and what leads to one is told by the trace of the world.
  Error.stackTraceLimit = 0;
  try {
    for (const choice of choices) await world.step(choice);
    await world.comeToRest();
  } catch (error) {
    world.fail(error);
  } finally {
    Error.stackTraceLimit = stackTraceLimit;
    current = undefined;
  }
  if (world.failure !== undefined) {
    throw new Violation(`${world.failure.message}\n  ${world.trace.join("\n  ")}`, { cause: world.failure });
  }
  return world;
}

/** Several processes, one server, and whoever decides what happens next. */
export class World {
  readonly trace: string[] = [];
  /** For whoever follows a failing schedule step by step. */
  onStep: (label: string) => void = () => undefined;
  failure: Error | undefined;
  readonly #setting: Setting;
  readonly #server = new ModelServer(EPOCH_MS);
  readonly #ledger: Ledger;
  readonly #hosts: Host[] = [];
  readonly #answers = new WeakSet();
  #tokens = 0;
  // The error of each recompute that has failed -> that recompute.
  readonly #failedRuns = new Map<unknown, Run>();
  #callsLeft = 12;
  #fencesLeft = 4;
  #deathsLeft = 1;
  #cutsLeft = 2;
  #suspensionsLeft = 1;
  #evictionsLeft = 1;

  constructor(setting: Setting) {
    this.#setting = setting;
    this.#ledger = new Ledger(this.#server, KEY, setting.waitForLock * 1000, setting.hostCount);
    for (let index = 0; index < setting.hostCount; index++) this.#hosts.push(this.#startHost(index));
    if (setting.isBrisk) {
      this.#callsLeft = 24;
      this.#fencesLeft = 6;
    }
    if (setting.start !== "empty") this.#storeFirst(setting.start === "valid" ? 20_000 : -1000);
    const expirySeconds = String(EPOCH_MS / 1000 + 1e6);
    this.#server.execute("hset", [NEIGHBOUR, "v", JSON.stringify(NEIGHBOUR), "delta", "0", "expiry", expirySeconds]);
  }

  #storeFirst(remainingMs: number): void {
    const value = JSON.stringify({ version: this.#ledger.newVersion("r").name });
    const expirySeconds = (this.#server.nowMs + remainingMs) / 1000;
    this.#server.execute("hset", [KEY, "v", value, "delta", "2", "expiry", String(expirySeconds)]);
    this.#server.execute("pexpire", [KEY, String(remainingMs + 30_000)]);
  }

  /** What the schedule has led to, over all processes: the proof that it was not idle. */
  happened(): Record<string, number> {
    const { silences, growths, afterEviction } = this.#ledger;
    const sums: Record<string, number> = { silences, growths, afterEviction };
    for (const { cache } of this.#hosts) {
      const { redis: _, ...counts } = cache.stats();
      for (const [name, count] of Object.entries(counts)) sums[name] = (sums[name] ?? 0) + count;
    }
    return sums;
  }

  fail(error: unknown): void {
    this.failure ??= error instanceof Error ? error : new Error(String(error));
  }

  #startHost(index: number): Host {
    const { lockTimeout, waitForLock, staleFor, earlyRefresh, recomputeTimeout, onRedisError } = this.#setting;
    const { resends, allowsPubSub, hasSkewedClocks, isEager } = this.#setting;
    const client = new ModelClient(this.#server, resends, allowsPubSub);
    const timers: Timer[] = [];
    const clock = { wallOffsetMs: hasSkewedClocks ? index * HOUR_MS : 0, monotonicOffsetMs: 1000 * index };
    const runtime: Runtime = {
      wallClockMs: () => this.#server.nowMs + clock.wallOffsetMs,
      monotonicMs: () => this.#server.nowMs - EPOCH_MS + clock.monotonicOffsetMs,
      random: () => (isEager ? 1e-12 : 1),
      memberId: () => String(index).padStart(16, "0"),
      nonce: () => String(++this.#tokens).padStart(12, "0"),
      startTimer: (delayMs, ref, run) => {
        const isHeartbeat = !ref && delayMs === HEARTBEAT_MS;
        const timer = { dueMs: this.#server.nowMs + delayMs, isHeartbeat, run };
        const at = timers.findIndex(({ dueMs }) => dueMs > timer.dueMs);
        timers.splice(at === -1 ? timers.length : at, 0, timer);
        return () => {
          const there = timers.indexOf(timer);
          if (there !== -1) timers.splice(there, 1);
        };
      },
    };
    const redisTimeout = REDIS_TIMEOUT_MS / 1000;
    const serve = { staleFor, earlyRefresh, recomputeTimeout };
    const memory = this.#setting.hasMemory && index < this.#setting.hostCount - 1 ? new Map() : undefined;
    const options: CacheFenceOptions = { memory, lockTimeout, waitForLock, redisTimeout, onRedisError, ...serve };
    const host: Host = {
      index,
      client,
      cache: new CacheFence(client, options, runtime),
      timers,
      gates: new Set(),
      calls: new Set(),
      clock,
      isDead: false,
      hadFault: false,
      losesCommands: false,
      fences: [],
      fenceOf: new Map(),
      toBeSentAgain: [],
    };
    client.onSend = (name: string, args: readonly Word[]): Note => {
      const isScript = name === "eval" || name === "evalsha";
      const fence = isScript ? this.#fenceOf(host, args) : undefined;
      const before = name === "eval" ? host.toBeSentAgain.shift() : undefined;
      return { fence, sinceMs: before?.sinceMs ?? this.#server.nowMs };
    };
    return host;
  }

  /** Whose script this is: that of the first call which has sent none, or, sent again, the same as before. */
  #fenceOf(host: Host, args: readonly Word[]): Fence | undefined {
    const run = parseRun(args);
    if (run.name !== "fence") return undefined;
    const name = textOf(run.args[1]!);
    const known = host.fenceOf.get(name);
    if (known !== undefined) return known;
    // A set may have to wait before it is sent: its value tells whose it is.
    const value = run.args[3];
    const own = value === undefined ? undefined : this.#ledger.fenceIn(textOf(value));
    const at = host.fences.findIndex(({ key, fence, isSet }) =>
      own === undefined ? key === run.keys[1] && !isSet : fence === own,
    );
    const [first] = host.fences.splice(at, 1);
    host.fenceOf.set(name, first!.fence);
    return first!.fence;
  }

  /** One step: of all that may happen now, what the choice falls on. */
  async step(choice: number): Promise<void> {
    const actions = this.#actions();
    let at = (choice / 65_536) * actions.reduce((sum, { weight }) => sum + weight, 0);
    const action = actions.find(({ weight }) => (at -= weight) < 0) ?? actions.at(-1)!;
    this.#tell(action.host === undefined ? action.label : `${action.label} (process ${action.host.index})`);
    await action.run();
    await this.#settle();
  }

  /** Whatever this process sends is executed and answered, until it sends nothing more. Messages may be late all the same. */
  async #answerAtOnce(host: Host): Promise<void> {
    const { client } = host;
    await this.#settle();
    for (let trips = 0; trips < MOST_ROUND_TRIPS; trips++) {
      const subscriber = client.subscribers.at(-1);
      const isSubscribing = subscriber !== undefined && subscriber.outbound.length > 0;
      if (client.outbound.length + client.inbound.length === 0 && !isSubscribing) return;
      if (isSubscribing) drain(subscriber);
      while (client.outbound.length > 0) this.#execute(host);
      while (client.inbound.length > 0) this.#deliver(host);
      await this.#settle();
    }
  }

  /** Messages arrive, and what processes send because of them is executed; replies are late. */
  async #passMessages(live: readonly Host[]): Promise<void> {
    for (let hops = 0; hops < MOST_HOPS; hops++) {
      for (const host of live) {
        const { client } = host;
        for (const subscriber of client.subscribers) drain(subscriber);
        if (client.status === "ready") while (client.outbound.length > 0) this.#execute(host);
      }
      await this.#settle();
    }
  }

  #tell(label: string): void {
    this.trace.push(label);
    this.onStep(label);
  }

  async #settle(): Promise<void> {
    await turn();
    if (this.failure !== undefined) throw this.failure;
  }

  #actions(): Action[] {
    const actions: Action[] = [];
    const add: Add = (weight, label, host, run) => {
      actions.push({ weight, label, host, run });
    };
    const live = this.#hosts.filter(({ isDead }) => !isDead);
    for (const host of this.#hosts) this.#addNetwork(add, host);
    for (const host of live) {
      for (const gate of host.gates) {
        add(1.5, "recompute returns", host, () => this.#endRun(host, gate, undefined));
        add(0.5, "recompute fails", host, () => this.#endRun(host, gate, new Error("source is down")));
        if (this.#setting.isBrisk && host.client.status === "ready") {
          add(3, "recompute returns, answered at once", host, () => {
            this.#endRun(host, gate, undefined);
            return this.#answerAtOnce(host);
          });
        }
      }
      if ((host.timers[0]?.dueMs ?? Infinity) <= this.#server.nowMs) {
        add(4, "timer", host, () => host.timers.shift()!.run());
      }
    }
    for (const host of live) this.#addCalls(add, host);
    this.#addTime(add);
    add(0.1, "scripts are flushed", undefined, () => this.#server.flushScripts());
    if (this.#setting.isBrisk && live.some(({ client }) => (client.subscribers.at(-1)?.inbound.length ?? 0) > 0)) {
      add(2, "messages overtake replies", undefined, () => this.#passMessages(live));
    }
    if (this.#setting.evictsAudiences && this.#evictionsLeft > 0) {
      add(0.3, "the audience is evicted", undefined, () => this.#evictAudience());
    }
    if (this.#setting.hasFaults) {
      for (const host of live) this.#addFaults(add, host, live.length);
      if (this.#server.isOutOfMemory)
        add(1, "memory is back", undefined, () => void (this.#server.isOutOfMemory = false));
      else add(0.05, "out of memory", undefined, () => this.#runOutOfMemory());
    }
    return actions;
  }

  #addNetwork(add: Add, host: Host): void {
    const { client, isDead } = host;
    if (client.outbound.length > 0 && client.status === "ready") {
      add(2, "server executes one", host, () => this.#execute(host));
      add(3, "server executes all", host, () => {
        while (client.outbound.length > 0) this.#execute(host);
      });
    }
    if (isDead) return;
    if (client.inbound.length > 0) {
      add(2, "one reply arrives", host, () => this.#deliver(host));
      add(3, "all replies arrive", host, () => {
        while (client.inbound.length > 0) this.#deliver(host);
      });
    }
    const subscriber = client.subscribers.at(-1);
    if (subscriber === undefined || subscriber.status === "end") return;
    if (subscriber.outbound.length > 0) add(3, "subscription executes", host, () => void subscriber.executeNext());
    if (subscriber.inbound.length > 0) {
      add(3, "subscriber hears", host, () => void subscriber.deliverNext());
      if (subscriber.inbound.some(({ isMessage }) => isMessage)) {
        add(0.3, "message is lost", host, () => subscriber.loseMessage());
      }
    }
    add(0.1, "subscriber is cut", host, () => subscriber.cut());
  }

  #addCalls(add: Add, host: Host): void {
    const { isBrisk } = this.#setting;
    const addCall = (weight: number, label: string, run: () => void): void => {
      // So that not all of them come before the first has got anywhere.
      add(this.#isBusy() ? weight / 2 : weight, label, host, run);
      if (isBrisk && host.client.status === "ready") {
        add(2 * weight, `${label}, answered at once`, host, () => {
          run();
          return this.#answerAtOnce(host);
        });
      }
    };
    if (this.#callsLeft > 0) {
      addCall(1.5, "getOrSet", () => this.#getOrSet(host));
      addCall(0.4, "getOrSet for 1 s", () => this.#getOrSet(host, { ttl: 1 }));
      addCall(0.2, "getOrSet, not cached", () => this.#getOrSet(host, { ttl: () => 0 }));
      addCall(0.3, "getOrSet with a signal", () => this.#getOrSet(host, { hasSignal: true }));
      addCall(0.3, "getOrSet, no stale value", () => this.#getOrSet(host, { options: { staleFor: 0 } }));
      addCall(0.2, "getOrSet, in the background", () =>
        this.#getOrSet(host, { options: { earlyRefresh: "background" } }),
      );
      addCall(0.2, "getOrSetMany", () => this.#getOrSet(host, { by: "list" }));
      addCall(0.1, "get of a definition", () => this.#getOrSet(host, { by: "definition" }));
      addCall(0.1, "peek", () => this.#peek(host));
    }
    if (this.#fencesLeft > 0) {
      // Copies are made at the second read.
      const often = isBrisk ? 0.4 : 1;
      addCall(often * 0.4, "invalidate", () => this.#fence(host, "invalidate", false));
      addCall(often * 0.4, "invalidate, then getOrSet", () => this.#fence(host, "invalidate", true));
      addCall(often * 0.2, "set", () => this.#fence(host, "set", false));
      addCall(often * 0.2, "set, then getOrSet", () => this.#fence(host, "set", true));
      if (this.#setting.isTagged) {
        addCall(often * 0.4, "invalidateTags", () => this.#fence(host, "invalidateTags", false));
        addCall(often * 0.4, "invalidateTags, then getOrSet", () => this.#fence(host, "invalidateTags", true));
      }
    }
    const aborting = [...host.calls].find(({ controller }) => controller !== undefined);
    if (aborting !== undefined) add(0.5, "abort", host, () => aborting.controller!.abort(new Error("left")));
  }

  #isBusy(): boolean {
    return this.#hosts.some(({ client }) => client.inbound.length + client.outbound.length > 0);
  }

  #addTime(add: Add): void {
    const { lockTimeout, waitForLock } = this.#setting;
    // Replies that are late time and again would hide everything else.
    const isBusy = this.#isBusy();
    const addStep = (weight: number, label: string, toMs: number): void => {
      if (toMs !== Infinity) add(isBusy ? weight / 10 : weight, label, undefined, () => this.#advanceTo(toMs));
    };
    const nowMs = this.#server.nowMs;
    addStep(2, "time, to the next event", this.#nextEventMs());
    if (this.#setting.isBrisk) {
      addStep(0.5, "time, 0.1 s", nowMs + 100);
      addStep(0.2, "time, 1 s", nowMs + 1000);
      return;
    }
    addStep(1, "time, 1 s", nowMs + 1000);
    addStep(0.5, "time, waitForLock", nowMs + waitForLock * 1000 + 1);
    addStep(0.5, "time, lockTimeout", nowMs + lockTimeout * 1000 + 1);
    addStep(0.05, "time, 70 s", nowMs + 70_000);
  }

  #addFaults(add: Add, host: Host, liveCount: number): void {
    const { client } = host;
    if (client.status !== "ready") add(2, "reconnects", host, () => client.reconnect());
    else if (this.#cutsLeft > 0 && client.outbound.length + client.inbound.length > 0) {
      add(0.3, "connection is cut", host, () => this.#cut(host));
    }
    if (this.#deathsLeft > 0 && liveCount > 1) add(0.3, "dies", host, () => this.#kill(host));
    add(0.05, "wall clock steps back", host, () => void (host.clock.wallOffsetMs -= HOUR_MS));
    if (this.#suspensionsLeft > 0) add(0.05, "its machine is suspended", host, () => this.#suspend(host));
  }

  #execute(host: Host): void {
    const { command, reply } = host.client.executeNext();
    this.#ledger.executed(host.index, command, reply, host.losesCommands);
  }

  #deliver(host: Host): void {
    const delivery = host.client.deliverNext();
    this.#take(host, delivery);
  }

  #take(host: Host, { command, error }: Delivery): void {
    if (error?.message.startsWith("NOSCRIPT") === true) host.toBeSentAgain.push(command!.note as Note);
  }

  #cut(host: Host): void {
    this.#cutsLeft--;
    host.hadFault = true;
    if (!this.#setting.resends) host.losesCommands = true;
    host.client.cut();
  }

  /** The world goes on for a while, and with it the wall clock; the monotonic one stands still, and timers with it. */
  #suspend(host: Host): void {
    this.#suspensionsLeft--;
    host.hadFault = true;
    host.clock.monotonicOffsetMs -= SUSPENDED_MS;
    for (const timer of host.timers) timer.dueMs += SUSPENDED_MS;
    this.#advanceTo(this.#server.nowMs + SUSPENDED_MS);
  }

  #kill(host: Host): void {
    this.#deathsLeft--;
    host.isDead = true;
    for (const { run } of host.gates) run.isOver = true;
    for (const subscriber of host.client.subscribers) subscriber.leave();
    host.timers.length = 0;
  }

  #evictAudience(): void {
    this.#evictionsLeft--;
    this.#server.execute("del", [`${KEY}:audience`]);
    this.#server.execute("del", [`${TAG}:tag:audience`]);
    this.#ledger.audienceEvicted(MEMORY_LEASE_MS);
  }

  #runOutOfMemory(): void {
    this.#server.isOutOfMemory = true;
    for (const host of this.#hosts) host.hadFault = true;
  }

  #nextEventMs(): number {
    let nextMs = Infinity;
    for (const { timers, isDead } of this.#hosts) {
      const dueMs = timers.find(({ isHeartbeat }) => !isHeartbeat)?.dueMs ?? Infinity;
      if (!isDead && dueMs > this.#server.nowMs) nextMs = Math.min(nextMs, dueMs);
    }
    return nextMs;
  }

  #advanceTo(nowMs: number): void {
    this.#server.nowMs = nowMs;
    this.#ledger.timePassed();
    for (const host of this.#hosts) {
      const { inbound, outbound } = host.client;
      const unanswered = [...inbound.map(({ command }) => command!), ...outbound];
      const isLate = unanswered.some(({ note }) => nowMs - (note as Note).sinceMs >= REDIS_TIMEOUT_MS);
      if (isLate) host.hadFault = true;
    }
  }

  #endRun(host: Host, gate: Gate, error: Error | undefined): void {
    host.gates.delete(gate);
    gate.run.isOver = true;
    if (error === undefined) gate.open({ version: gate.run.version.name });
    else {
      gate.run.hasFailed = true;
      this.#failedRuns.set(error, gate.run);
      gate.fail(error);
    }
  }

  /** The last, but for a list: another process' may have been announced since, so what fits this one's locks comes first. */
  #announcementOf(host: Host, isOfList: boolean): Announcement {
    if (!isOfList) return announced.pop()!;
    const isLocked = this.#ledger.mayRebuildUnderLock(host.index);
    const fitting = announced.findIndex((one) => one.isLocked === isLocked);
    return announced.splice(Math.max(0, fitting), 1)[0]!;
  }

  #recompute(host: Host, signal: AbortSignal, isOfList: boolean): Promise<unknown> {
    const { isLocked, isRefresh } = this.#announcementOf(host, isOfList);
    return new Promise((open, fail) => {
      try {
        const run = this.#ledger.rebuildStarts(host.index, isLocked, isRefresh, host.hadFault);
        const gate = { run, open, fail };
        host.gates.add(gate);
        // Only a time limit aborts it, and a listener costs more than all else that is done here.
        if (this.#setting.recomputeTimeout === undefined) return;
        signal.addEventListener("abort", () => {
          run.isOver = true;
          host.gates.delete(gate);
        });
      } catch (error) {
        // The library would take it for a failure of the source.
        this.fail(error);
      }
    });
  }

  #getOrSet(host: Host, wish: Wish = {}): void {
    this.#callsLeft--;
    const { isTagged } = this.#setting;
    const controller = wish.hasSignal === true ? new AbortController() : undefined;
    const call = { label: "getOrSet", beganMs: this.#server.nowMs, mayRebuild: true, isOver: false, controller };
    const beganAt = this.#ledger.moment();
    this.#watch(host, call, this.#ask(host, wish, controller?.signal), {
      resolved: (answer) => {
        if (this.#answers.has(answer as object)) throw new Violation("two callers got one object");
        this.#answers.add(answer as object);
        this.#ledger.answered(beganAt, answer, isTagged);
      },
      mayReject: (error) =>
        (error instanceof RecomputeError && this.#isFailureOf(error.cause, beganAt)) ||
        (error instanceof RecomputeTimeoutError && this.#setting.recomputeTimeout !== undefined) ||
        controller?.signal.aborted === true ||
        (this.#setting.onRedisError === "throw" && host.hadFault),
    });
  }

  /** The same key, asked for by each of the methods that rebuild. */
  async #ask(host: Host, { ttl = 60, by, options }: Wish, signal: AbortSignal | undefined): Promise<unknown> {
    const { cache } = host;
    const tags = this.#setting.isTagged ? [TAG] : [];
    const recompute = ({ signal }: RecomputeContext): Promise<unknown> =>
      this.#recompute(host, signal, by !== undefined);
    if (by === undefined) return cache.getOrSet(KEY, ttl, recompute, { ...options, signal, tags });
    // Of a list, the neighbour is there: it is recomputed only where Redis cannot be asked.
    const recomputeMany = async (items: string[], context: RecomputeContext): Promise<unknown[]> => {
      const value = items.includes(KEY) ? await recompute(context) : undefined;
      return items.map((item): unknown => (item === KEY ? value : NEIGHBOUR));
    };
    const tagsOf = (item: string): string[] => (item === KEY ? tags : []);
    if (by === "definition") {
      return cache.define({ key: (item: string) => item, ttl, recomputeMany, tags: tagsOf }).get(KEY);
    }
    const values = await cache.getOrSetMany([KEY, NEIGHBOUR], (item) => item, ttl, recomputeMany, { tags: tagsOf });
    if (values.get(NEIGHBOUR) !== NEIGHBOUR) throw new Violation("a list mixed its values up");
    return values.get(KEY);
  }

  /** Waits for nobody, and shows nothing that a fence has removed. */
  #peek(host: Host): void {
    this.#callsLeft--;
    const { isTagged, onRedisError } = this.#setting;
    const call = {
      label: "peek",
      beganMs: this.#server.nowMs,
      mayRebuild: false,
      isOver: false,
      controller: undefined,
    };
    const beganAt = this.#ledger.moment();
    this.#watch(host, call, host.cache.peek(KEY, { tags: isTagged ? [TAG] : [] }), {
      resolved: (shown) => {
        if (shown !== undefined) this.#ledger.answered(beganAt, (shown as CachedEntry<unknown>).value, isTagged);
      },
      mayReject: () => onRedisError === "throw" && host.hadFault,
    });
  }

  /** True if a recompute has failed so; a violation if the call that is told of it should not be. */
  #isFailureOf(cause: unknown, beganAt: number): boolean {
    const run = this.#failedRuns.get(cause);
    if (run !== undefined) this.#ledger.failed(beganAt, run.version, this.#setting.isTagged);
    return run !== undefined;
  }

  #fence(host: Host, kind: "invalidate" | "set" | "invalidateTags", thenGet: boolean): void {
    this.#fencesLeft--;
    const fence = this.#ledger.newFence(kind === "invalidateTags");
    const call = { label: kind, beganMs: this.#server.nowMs, mayRebuild: false, isOver: false, controller: undefined };
    const pending = { key: kind === "invalidateTags" ? `${TAG}:tag` : KEY, isSet: kind === "set", fence };
    host.fences.push(pending);
    const done = this.#raise(host, kind, fence).finally(() => {
      const at = host.fences.indexOf(pending);
      if (at !== -1) host.fences.splice(at, 1);
    });
    this.#watch(host, call, done, {
      resolved: () => {
        if (fence.executedAt === -Infinity) throw new Violation(`${kind} resolved before the server had run it`);
        fence.resolvedAt = this.#ledger.moment();
        if (thenGet) this.#getOrSet(host);
      },
      mayReject: () => host.hadFault,
    });
  }

  #raise({ cache }: Host, kind: "invalidate" | "set" | "invalidateTags", fence: Fence): Promise<void> {
    if (kind === "invalidate") return cache.invalidate(KEY);
    if (kind === "invalidateTags") return cache.invalidateTags(TAG);
    const tags = this.#setting.isTagged ? [TAG] : undefined;
    return cache.set(KEY, 60, { version: this.#ledger.newVersion("s", fence).name }, { tags });
  }

  #watch(host: Host, call: Call, promise: Promise<unknown>, expectation: Expectation): void {
    host.calls.add(call);
    this.#ledger.callsOf[host.index]!.add(call);
    const end = (check: () => void): void => {
      call.isOver = true;
      if (host.isDead) return;
      host.calls.delete(call);
      try {
        check();
      } catch (error) {
        this.fail(error);
      }
    };
    promise.then(
      (value) => {
        end(() => expectation.resolved(value));
      },
      (error: unknown) => {
        end(() => {
          if (!expectation.mayReject(error)) throw new Violation(`${call.label} rejected with ${describe(error)}`);
        });
      },
    );
  }

  /** Redis says nothing any more, the sources do: nobody may wait for it much longer than `redisTimeout`. */
  async #beSilent(): Promise<void> {
    this.#tell("-- Redis is silent");
    const live = this.#hosts.filter(({ isDead }) => !isDead);
    const untilMs = this.#server.nowMs + LONGEST_WAIT_IN_SILENCE_MS;
    while (this.#server.nowMs < untilMs) {
      const hasMoved = live.map((host) => this.#moveAlone(host)).includes(true);
      await this.#settle();
      if (!hasMoved) this.#advanceTo(Math.min(untilMs, this.#nextEventMs()));
    }
    const waiting = this.#whoWaits(live);
    if (waiting !== "") throw new Violation(`waits for a Redis that is silent: ${waiting}`);
  }

  /** Everything answers from now on, and time passes while nothing else does; at the end, nothing may be left. */
  async comeToRest(): Promise<void> {
    if (this.#setting.endsInSilence) await this.#beSilent();
    this.#tell("-- everything comes to rest");
    this.#server.isOutOfMemory = false;
    if (this.#setting.executesLastWords) {
      for (const host of this.#hosts) if (host.isDead) while (host.client.outbound.length > 0) this.#execute(host);
    }
    const live = this.#hosts.filter(({ isDead }) => !isDead);
    let isChecked = false;
    const beganMs = this.#server.nowMs;
    for (let turns = 0; ; turns++) {
      if (turns > MOST_TURNS_TO_REST) throw new Violation(`never comes to rest: ${this.#whoWaits(live)}`);
      const hasMoved = live.map((host) => this.#move(host)).includes(true);
      await this.#settle();
      if (hasMoved) continue;
      if (!isChecked && live.every(({ calls }) => calls.size === 0) && (await this.#areIdle(live))) {
        isChecked = true;
        const lockHost = this.#ledger.lockHost();
        // A release that is lost with the connection, and not sent again, leaves the lock to its lease.
        if (lockHost !== undefined && !this.#hosts[lockHost]!.isDead && !this.#hosts[lockHost]!.losesCommands) {
          throw new Violation(`process ${lockHost} has left its lock behind`);
        }
      }
      const shiftedMs = this.#suspensionsLeft > 0 ? 0 : SUSPENDED_MS;
      for (const host of live) {
        for (const call of host.calls) this.#checkWait(host, call, beganMs + shiftedMs);
      }
      const isTimerLeft = live.some(({ timers }) =>
        timers.some((timer) => !timer.isHeartbeat && timer.dueMs > this.#server.nowMs + SWEEP_MS + shiftedMs),
      );
      if (isChecked && isTimerLeft) throw new Violation(`a timer is left: ${this.#timersLeft(live)}`);
      const nextMs = this.#nextEventMs();
      if (nextMs === Infinity) break;
      this.#advanceTo(nextMs);
    }
    const waiting = this.#whoWaits(live);
    if (waiting !== "") throw new Violation(`waits for ever: ${waiting}`);
    if (!isChecked) throw new Violation("a rebuild never ends");
    for (const { client, index } of live) {
      if (client.listenerCount("ready") > 0) throw new Violation(`process ${index} has left a listener on its client`);
    }
    await this.#closeAll(live);
    // Nothing hears of it; but what died in the middle of something is held by that, and a million worlds would be kept.
    for (const { cache, isDead } of this.#hosts) if (isDead) void cache.close();
    for (const { index } of live) {
      const mailboxes = this.#server.subscribersOf(`cachefence:${String(index).padStart(16, "0")}`);
      if (mailboxes > 0) throw new Violation(`process ${index} has closed its cache, and left ${mailboxes} mailboxes`);
    }
  }

  /** Closed caches leave no mailbox, and no timer that goes on for ever. */
  async #closeAll(live: readonly Host[]): Promise<void> {
    for (const { cache } of live) void cache.close();
    for (let turns = 0; turns < MOST_HOPS; turns++) {
      for (const host of live) this.#move(host);
      await this.#settle();
    }
    for (const { index, timers } of live) {
      if (timers.some(({ isHeartbeat }) => isHeartbeat)) {
        throw new Violation(`process ${index} has closed its cache, and left a timer`);
      }
    }
  }

  /**
   * Nothing can move but time, and sources and Redis answer at once since this moment: a call has waited for others at most
   * `2 * waitForLock` since it began, and a fence for at most a lease.
   */
  #checkWait({ index }: Host, call: Call, restedSinceMs: number): void {
    const patienceMs = 2 * this.#setting.waitForLock * 1000;
    const boundMs = call.mayRebuild
      ? Math.max(restedSinceMs, call.beganMs + patienceMs)
      : restedSinceMs + MEMORY_LEASE_MS;
    const waitsMs = this.#server.nowMs - boundMs;
    if (waitsMs > REST_MS) throw new Violation(`${call.label} (process ${index}) waits ${waitsMs} ms too long`);
  }

  #timersLeft(hosts: readonly Host[]): string {
    const delays = hosts.flatMap(({ timers }) =>
      timers.map(({ dueMs, isHeartbeat }) => [dueMs - this.#server.nowMs, isHeartbeat]),
    );
    return JSON.stringify(delays);
  }

  async #areIdle(hosts: readonly Host[]): Promise<boolean> {
    let idle = 0;
    for (const { cache } of hosts) void cache.idle().then(() => idle++);
    await this.#settle();
    return idle === hosts.length;
  }

  #whoWaits(hosts: readonly Host[]): string {
    return hosts.flatMap(({ index, calls }) => [...calls].map((one) => `${one.label} (process ${index})`)).join(", ");
  }

  /** Whatever can happen in this process without time passing. False if nothing can. Replies come before timers. */
  #move(host: Host): boolean {
    const { client } = host;
    if (client.status !== "ready") client.reconnect();
    let hasMoved = client.outbound.length + client.inbound.length > 0;
    while (client.outbound.length > 0) this.#execute(host);
    while (client.inbound.length > 0) this.#deliver(host);
    for (const subscriber of client.subscribers) hasMoved = drain(subscriber) || hasMoved;
    return hasMoved || this.#moveAlone(host);
  }

  /** The same without Redis. */
  #moveAlone(host: Host): boolean {
    const { timers, gates } = host;
    if (gates.size > 0) {
      for (const gate of [...gates]) this.#endRun(host, gate, undefined);
      return true;
    }
    const nowMs = this.#server.nowMs;
    while (timers[0]?.isHeartbeat === true && timers[0].dueMs <= nowMs) timers.shift()!.run();
    if ((timers[0]?.dueMs ?? Infinity) > nowMs) return false;
    timers.shift()!.run();
    return true;
  }
}

type Add = (weight: number, label: string, host: Host | undefined, run: () => void | Promise<void>) => void;

interface Expectation {
  readonly resolved: (value: unknown) => void;
  readonly mayReject: (error: unknown) => boolean;
}

function drain(subscriber: ModelSubscriber): boolean {
  const hasMoved = subscriber.outbound.length + subscriber.inbound.length > 0;
  while (subscriber.outbound.length > 0) subscriber.executeNext();
  while (subscriber.inbound.length > 0) subscriber.deliverNext();
  return hasMoved;
}

function describe(error: unknown): string {
  if (error instanceof CacheFenceError) return `${error.name}: ${error.message}`;
  return error instanceof Error ? (error.stack ?? error.message) : String(error);
}
