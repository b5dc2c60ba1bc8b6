import { RedisUnavailableError } from "../errors.js";
import { FanOut } from "../fan-out.js";
import type { Runtime } from "../runtime.js";
import { detached } from "../runtime.js";
import { HeldWrites } from "./held-writes.js";
import { OwnConnectionError } from "./own-connection.js";
import type { RedisClient } from "./redis-client.js";
import { concernsTheKey, isReply, withoutPrefix } from "./replies.js";

/**
 * A failure of Redis that says nothing about the key: unreachable, too slow, or refusing work (read-only, out of memory,
 * loading). Every other rejection of the link concerns the key or its permissions, and must reach the caller as it is.
 */
export class RedisFault extends Error {
  /** The client's own error. None if the link gave up by itself: then the message tells why. */
  readonly reply: unknown;

  constructor(message: string, reply?: unknown) {
    super(message);
    this.reply = reply;
  }

  /** What a caller is shown: what Redis answered, or words of ours for what the client came to. */
  toError(key: string): unknown {
    if (isReply(this.reply)) return this.reply;
    return new RedisUnavailableError(`${this.message}; key ${JSON.stringify(key)}`, key, { cause: this.reply });
  }
}

/** The commands sent in one turn of the event loop: they share one deadline, and callers of one key share one read. */
export interface Tick {
  readonly number: number;
  readonly sentMs: number;
  /** Commands that were unanswered when they were sent, their own among them. */
  ahead: number;
  /** Time in which this process could read no reply. */
  stalledMs: number;
  /** Key -> its read of this tick. */
  readonly reads: Map<string, Promise<unknown>>;
  /** Ends a command's wait. Those that are answered stay in it until all are, and calling theirs does nothing. */
  readonly giveUp: ((reason: RedisFault) => void)[];
  unanswered: number;
}

/**
 * What this link knows of the connection:
 * - connecting: it was never ready. That is waited for, within the deadline. `error`: what the client last came to.
 * - ready.
 * - lost: it has been ready and is not now. Nobody waits; its status alone ends it.
 * - silent: nothing is answered, though the client says that it is ready, or has never come so far. Commands are refused but
 *   for a probe a second. Any reply ends it, however late, or a new connection.
 */
type State =
  | { readonly kind: "connecting"; error: Error | undefined }
  | { readonly kind: "ready" }
  | { readonly kind: "lost" }
  | { readonly kind: "silent"; readonly wasReady: boolean; nextProbeMs: number; error: Error | undefined };

const clientsReady = new FanOut<RedisClient>(
  (client, listener) => client.once("ready", listener),
  (client, listener) => client.off("ready", listener),
);
const PROBE_INTERVAL_MS = 1000;
const LONGEST_SWEEP_MS = 100;
const RETRY_MS = 100;
// What a command of this process' own backlog takes at the most, on a machine that is slow.
const BACKLOG_MS = 0.25;

/**
 * The way to Redis, with a deadline on each reply and an end to waiting during an outage.
 *
 * The client's own patience may be minutes or endless, and neither a timer nor an object per read is affordable: one
 * sweep looks at all ticks with unanswered commands, and runs only while there are any.
 *
 * A deadline counts from the sending. Where this process has sent many commands at once, those behind wait for their own: a
 * backlog is no outage, and while replies keep arriving each command ahead gives some time more.
 */
export class RedisLink {
  readonly client: RedisClient;
  readonly #runtime: Runtime;
  readonly #probe: () => Promise<unknown>;
  readonly #timeoutMs: number;
  readonly #sweepMs: number;
  readonly #held: HeldWrites;
  /** Called when an outage ends: Redis may be another host by now. */
  onRecovery: () => void = () => undefined;

  // The tick in which commands are being sent now. Ended by nextTick, that is before any other callback runs, and by the
  // first of its replies, which a client in memory (ioredis-mock) gives within it.
  #tick: Tick | undefined;
  #ticks = 0;
  // Ticks with commands neither answered nor given up, oldest first.
  readonly #open = new Set<Tick>();
  #unanswered = 0;
  #isSweeping = false;
  #latestAnswered = 0;
  #lastReplyMs = -Infinity;

  #state: State;
  #expectsRecovery = false;
  #hearsErrors = false;

  /** @param probe - asks whatever is answered by the server that this link leads to */
  constructor(
    client: RedisClient,
    timeoutMs: number,
    runtime: Runtime,
    probe: () => Promise<unknown> = () => client.time(),
  ) {
    this.client = client;
    this.#probe = probe;
    this.#timeoutMs = timeoutMs;
    this.#sweepMs = Math.min(LONGEST_SWEEP_MS, timeoutMs / 4);
    this.#runtime = runtime;
    this.#held = new HeldWrites(client);
    const isReady = client.status === undefined || client.status === "ready";
    this.#state = isReady ? { kind: "ready" } : { kind: "connecting", error: undefined };
  }

  /** For whoever asks how Redis is: still connecting for the first time is like being lost. */
  get state(): "ready" | "lost" | "silent" {
    const { kind } = this.#look();
    return kind === "connecting" ? "lost" : kind;
  }

  /** The tick of the commands being sent now. */
  tick(): Tick {
    if (this.#tick === undefined) {
      this.#tick = {
        number: ++this.#ticks,
        sentMs: this.#runtime.monotonicMs(),
        ahead: 0,
        stalledMs: 0,
        reads: new Map(),
        giveUp: [],
        unanswered: 0,
      };
      process.nextTick(this.#endTick);
    }
    return this.#tick;
  }

  readonly #endTick = (): void => {
    this.#tick?.reads.clear();
    this.#tick = undefined;
  };

  /** Sends one command and waits for its reply until the deadline. During an outage it sends nothing and rejects at once. */
  send<T>(command: (client: RedisClient) => Promise<T>): Promise<T> {
    const refusal = this.#refusal();
    if (refusal !== undefined) return Promise.reject(refusal);
    const sent = this.#call(command);
    this.#held.release();
    return this.#await(sent, same);
  }

  /**
   * Likewise a read, and decodes its reply. The reads of callers that run one after the other make two writes: the first
   * leaves at once, to be served while the others are made, and those leave together, before anything is awaited.
   */
  read<T, R>(command: (client: RedisClient) => Promise<T>, decode: (reply: T) => R): Promise<R> {
    const refusal = this.#refusal();
    if (refusal !== undefined) return Promise.reject(refusal);
    const sent = this.#call(command);
    this.#held.hold();
    return this.#await(sent, decode);
  }

  /** What is sent from now on, until all that is ready to run has run, leaves in one write. For lists of keys. */
  holdForTurn(): void {
    this.#held.holdForTurn();
  }

  /**
   * Hands a command to the client whatever its state, to be run once Redis is back; waits for the reply only where
   * {@link send} would. For what must not be left undone, and is safe to happen late: where it fails for a reason that
   * passes, or the client gives it up, it is tried again now and then, until that time by the monotonic clock.
   */
  deliver<T>(command: (client: RedisClient) => Promise<T>, untilMs: number): Promise<T> {
    const refusal = this.#refusal();
    const sent = this.#call(command);
    this.#held.release();
    sent.catch((error: unknown) => {
      if (concernsTheKey(error) || this.#runtime.monotonicMs() + RETRY_MS > untilMs) return;
      this.#runtime.startTimer(RETRY_MS, false, () => {
        // Whoever has asked for it has been told of the first failure.
        this.deliver(command, untilMs).catch(() => undefined);
      });
    });
    const reply = this.#await(sent, same);
    if (refusal === undefined) return reply;
    // The caller is told of the outage; the reply, or the client's own error, has nobody to go to.
    reply.catch(() => undefined);
    return Promise.reject(refusal);
  }

  // Whatever a client does when it is called is a failure of the client: some throw where others reject.
  #call<T>(command: (client: RedisClient) => Promise<T>): Promise<T> {
    try {
      return Promise.resolve(command(this.client));
    } catch (error) {
      return Promise.reject(new RedisFault(`The client failed: ${asError(error).message}`, error));
    }
  }

  #await<T, R>(reply: Promise<T>, decode: (reply: T) => R): Promise<R> {
    const tick = this.tick();
    if (tick.unanswered++ === 0) this.#watch(tick);
    tick.ahead = ++this.#unanswered;
    return new Promise<R>((resolve, reject) => {
      tick.giveUp.push(reject);
      reply.then(
        (value) => {
          this.#answered(tick);
          if (value === "QUEUED") {
            reject(
              new RedisFault("The application has a transaction open on this connection (multi without pipeline)"),
            );
            return;
          }
          try {
            resolve(decode(value));
          } catch (error) {
            reject(asError(error));
          }
        },
        (error: unknown) => {
          reject(this.#failed(tick, error));
        },
      );
    });
  }

  /** Leaves nothing on the caller's client. */
  close(): void {
    this.#expectsRecovery = false;
    clientsReady.remove(this.client, this.#recovered);
    this.#stopHearingErrors();
  }

  // A reply, in time or not: Redis is there. Runs before anything that waits for the reply.
  #answered(tick: Tick): void {
    if (tick.number > this.#latestAnswered) this.#latestAnswered = tick.number;
    this.#lastReplyMs = this.#runtime.monotonicMs();
    if (tick === this.#tick) this.#tick = undefined;
    this.#settled(tick);
    if (this.#state.kind === "silent") this.#recovered();
  }

  #settled(tick: Tick): void {
    this.#unanswered--;
    if (--tick.unanswered === 0) this.#forget(tick);
  }

  // Emptied, as its reads are in endTick: a tick that was old when it was answered is collected late, values and all.
  #forget(tick: Tick): void {
    this.#open.delete(tick);
    tick.giveUp.length = 0;
  }

  #failed(tick: Tick, thrown: unknown): Error {
    const error = withoutPrefix(asError(thrown));
    if (isReply(error)) {
      this.#answered(tick);
    } else {
      this.#settled(tick);
      // A deadline of the client's own (`commandTimeout`) tells as much as this link's. Errors of its code, and those of
      // connections that are ours, say nothing of the caller's connection.
      const isOurs = error instanceof RedisFault || error instanceof OwnConnectionError || error instanceof TypeError;
      if (!isOurs && this.#look().kind === "ready" && this.#latestAnswered < tick.number) this.#beginSilence();
    }
    if (error instanceof RedisFault || concernsTheKey(error)) return error;
    return new RedisFault(error.message, error);
  }

  /** Why nothing may be sent now, or undefined. */
  #refusal(): RedisFault | undefined {
    const state = this.#look();
    if (state.kind === "lost") return this.#lostFault();
    if (state.kind !== "silent") return undefined;
    const nowMs = this.#runtime.monotonicMs();
    if (nowMs >= state.nextProbeMs) {
      state.nextProbeMs = nowMs + PROBE_INTERVAL_MS;
      // Its reply ends the silence; its failure only means that the silence goes on.
      this.#await(this.#call(this.#probe), same).catch(() => undefined);
    }
    return this.#timeoutFault();
  }

  /** The state, as the client's status has it by now. */
  #look(): State {
    const { status } = this.client;
    if (status === undefined) return this.#state;
    if (status === "ready") {
      if (this.#state.kind === "connecting" || this.#state.kind === "lost") this.#state = { kind: "ready" };
      this.#stopHearingErrors();
    } else if (this.#state.kind === "connecting") {
      this.#hearErrors();
    } else if (this.#state.kind !== "silent" || this.#state.wasReady) {
      this.#state = { kind: "lost" };
      if (status !== "end") this.#expectRecovery();
    }
    return this.#state;
  }

  #watch(tick: Tick): void {
    this.#open.add(tick);
    if (this.#isSweeping) return;
    this.#isSweeping = true;
    this.#startSweep();
  }

  #deadlineOf(tick: Tick): number {
    const startMs = tick.sentMs + tick.stalledMs;
    const patientMs = startMs + this.#timeoutMs + tick.ahead * BACKLOG_MS;
    return Math.min(patientMs, Math.max(startMs, this.#lastReplyMs) + this.#timeoutMs);
  }

  // The caller's own socket keeps the process alive while a reply is due, so this timer need not.
  #startSweep(): void {
    const nowMs = this.#runtime.monotonicMs();
    // Its lateness must not add to the wait: it is there when the first deadline is over.
    let dueMs = nowMs + this.#sweepMs;
    for (const tick of this.#open) {
      dueMs = Math.min(dueMs, Math.max(nowMs, this.#deadlineOf(tick)));
      break;
    }
    this.#runtime.startTimer(dueMs - nowMs, false, () => {
      this.#sweep(Math.max(0, this.#runtime.monotonicMs() - dueMs));
      this.#isSweeping = this.#open.size > 0;
      if (this.#isSweeping) this.#startSweep();
      else this.#stopHearingErrors();
    });
  }

  #sweep(lateMs: number): void {
    const isLost = this.#look().kind === "lost";
    const nowMs = this.#runtime.monotonicMs();
    for (const tick of this.#open) {
      // A process that was stopped, or whose event loop was blocked, could read no reply in that time; and the first timer to
      // fire afterwards comes before the sockets.
      if (lateMs >= 1) tick.stalledMs += Math.min(lateMs, nowMs - tick.sentMs);
      if (!isLost && nowMs < this.#deadlineOf(tick)) continue;
      if (!isLost && this.#latestAnswered < tick.number) this.#beginSilence();
      const fault = isLost ? this.#lostFault() : this.#timeoutFault();
      for (const giveUp of tick.giveUp) giveUp(fault);
      this.#forget(tick);
    }
  }

  #beginSilence(): void {
    const { kind } = this.#state;
    if (kind === "silent") return;
    const error = this.#state.kind === "connecting" ? this.#state.error : undefined;
    const nextProbeMs = this.#runtime.monotonicMs() + PROBE_INTERVAL_MS;
    this.#state = { kind: "silent", wasReady: kind !== "connecting", nextProbeMs, error };
    this.#expectRecovery();
  }

  // The listener is there only during an outage: the caller's client keeps none of ours.
  #expectRecovery(): void {
    if (this.#expectsRecovery) return;
    this.#expectsRecovery = true;
    detached(() => {
      clientsReady.add(this.client, this.#recovered);
    });
  }

  readonly #recovered = (): void => {
    this.#expectsRecovery = false;
    clientsReady.remove(this.client, this.#recovered);
    this.#state = { kind: "ready" };
    this.#look();
    this.onRecovery();
  };

  // While the first connection is waited for: its errors are what a caller is to be told.
  #hearErrors(): void {
    if (this.#hearsErrors) return;
    this.#hearsErrors = true;
    this.client.on("error", this.#heardError);
  }

  #stopHearingErrors(): void {
    if (!this.#hearsErrors) return;
    this.#hearsErrors = false;
    this.client.off("error", this.#heardError);
  }

  readonly #heardError = (error: unknown): void => {
    if ("error" in this.#state) this.#state.error = asError(error);
  };

  #lostFault(): RedisFault {
    return new RedisFault(`The client has lost its connection to Redis (status ${String(this.client.status)})`);
  }

  #timeoutFault(): RedisFault {
    const { error } = { error: undefined, ...this.#state };
    const seconds = String(this.#timeoutMs / 1000);
    if (error !== undefined) {
      return new RedisFault(`No connection to Redis within redisTimeout (${seconds} s): ${wordsOf(error)}`, error);
    }
    return new RedisFault(`Redis did not answer within redisTimeout (${seconds} s)`);
  }
}

// The errors of a refused connection to a name with several addresses are inside.
function wordsOf(error: Error): string {
  const { code } = error as { code?: unknown };
  return error.message === "" ? (typeof code === "string" ? code : error.name) : error.message;
}

function same<T>(reply: T): T {
  return reply;
}

function asError(thrown: unknown): Error {
  return thrown instanceof Error ? thrown : new Error(String(thrown));
}
