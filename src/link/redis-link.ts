import { RedisUnavailableError } from "../errors.js";
import { FanOut } from "../fan-out.js";
import type { RedisClient } from "./redis-client.js";
import type { Runtime } from "../runtime.js";

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

  /** What a caller is shown. */
  toError(key: string): unknown {
    return this.reply ?? new RedisUnavailableError(`${this.message}; key ${JSON.stringify(key)}`, key);
  }
}

/** True for what Redis answered: it begins with an upper-case code. The client's own errors ("Connection is closed.") do not. */
export function isReply(error: unknown): boolean {
  return error instanceof Error && /^-?[A-Z]{2,}\b/.test(error.message);
}

/** The commands sent in one turn of the event loop: they share one deadline, and callers of one key share one read. */
export interface Tick {
  readonly number: number;
  readonly sentMs: number;
  deadlineMs: number;
  /** Key -> its read of this tick. */
  readonly reads: Map<string, Promise<unknown>>;
  /** Ends a command's wait. Those that are answered stay in it until all are, and calling theirs does nothing. */
  readonly giveUp: ((reason: RedisFault) => void)[];
  unanswered: number;
}

// "NOPERM ..." and the two forms in which a script reports the same; "WRONGTYPE ...", also from inside a script.
export function concernsTheKey(error: Error): boolean {
  return /^NOPERM|WRONGTYPE|can't (?:run this command|access at least one of the keys)/.test(error.message);
}

const clientsReady = new FanOut<RedisClient>(
  (client, listener) => client.once("ready", listener),
  (client, listener) => client.off("ready", listener),
);
// Not by nextTick or queueMicrotask, which fake timers replace.
const microtask = Promise.resolve();
const PROBE_INTERVAL_MS = 1000;
const LONGEST_SWEEP_MS = 100;

/**
 * The way to Redis, with a deadline on each reply and an end to waiting during an outage.
 *
 * The client's own patience may be minutes or endless, and neither a timer nor an object per read is affordable: one
 * sweep looks at all ticks with unanswered commands, and runs only while there are any.
 *
 * Two kinds of outage, told apart because they end differently:
 * - lost: the client has been ready once and is not now. Nobody waits; its status alone ends it.
 * - silent: it says "ready", but a whole tick got no answer, nor did anything sent after it. Commands are refused but
 *   for a probe a second. Any reply ends it, however late, or a new connection.
 */
export class RedisLink {
  readonly client: RedisClient;
  readonly #runtime: Runtime;
  readonly #probe: () => Promise<unknown>;
  readonly #timeoutMs: number;
  readonly #sweepMs: number;
  /** Called when an outage ends: Redis may be another host by now. */
  onRecovery: () => void = () => undefined;

  // The tick in which commands are being sent now. Ended by nextTick, that is before any other callback runs, and by the
  // first of its replies, which a client in memory (ioredis-mock) gives within it.
  #tick: Tick | undefined;
  #ticks = 0;
  // The socket that holds back what is sent. Let go by the next microtask, and by whatever is no read: a store or a fence
  // must not wait while the event loop is busy. A read that leaves later than it was sent is only the fresher for it.
  #corked: RedisClient["stream"];
  // Ticks with commands neither answered nor given up, oldest first.
  readonly #open = new Set<Tick>();
  #isSweeping = false;

  #wasReady = false;
  #isSilent = false;
  #expectsRecovery = false;
  #nextProbeMs = 0;
  #latestAnswered = 0;

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
    this.#wasReady = client.status === "ready";
  }

  /** The tick of the commands being sent now. */
  tick(): Tick {
    if (this.#tick === undefined) {
      const nowMs = this.#runtime.monotonicMs();
      this.#tick = {
        number: ++this.#ticks,
        sentMs: nowMs,
        deadlineMs: nowMs + this.#timeoutMs,
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
    const sent = command(this.client);
    this.#uncork();
    return this.#await(sent, same);
  }

  /**
   * Likewise a read, and decodes its reply. A write to the socket is half of what a hit costs, so the reads of callers that
   * run one after the other make two: the first leaves at once, to be served while the others are made, and those leave
   * together, before anything is awaited.
   */
  read<T, R>(command: (client: RedisClient) => Promise<T>, decode: (reply: T) => R): Promise<R> {
    const refusal = this.#refusal();
    if (refusal !== undefined) return Promise.reject(refusal);
    const sent = command(this.client);
    this.#cork();
    return this.#await(sent, decode);
  }

  /**
   * Hands a command to the client whatever its state, to be run once Redis is back; waits for the reply only where
   * {@link send} would. For what must not be left undone, and is safe to happen late: `onFailed` is called when the client
   * gives it up unanswered, however late.
   */
  deliver<T>(command: (client: RedisClient) => Promise<T>, onFailed: () => void): Promise<T> {
    const refusal = this.#refusal();
    const sent = command(this.client);
    this.#uncork();
    sent.catch((error: unknown) => {
      if (!isReply(error)) onFailed();
    });
    const reply = this.#await(sent, same);
    if (refusal === undefined) return reply;
    // The caller is told of the outage; the reply, or the client's own error, has nobody to go to.
    reply.catch(() => undefined);
    return Promise.reject(refusal);
  }

  #await<T, R>(reply: Promise<T>, decode: (reply: T) => R): Promise<R> {
    const tick = this.tick();
    if (tick.unanswered++ === 0) this.#watch(tick);
    return new Promise<R>((resolve, reject) => {
      tick.giveUp.push(reject);
      reply.then(
        (value) => {
          this.#answered(tick);
          try {
            resolve(decode(value));
          } catch (error) {
            // No reply to this command: the application has a transaction open on the connection.
            reject(asError(error));
          }
        },
        (error: unknown) => {
          reject(this.#failed(tick, error));
        },
      );
    });
  }

  #cork(): void {
    const { status, stream } = this.client;
    if (this.#corked !== undefined || status !== "ready") return;
    if (stream?.cork === undefined || stream.uncork === undefined) return;
    this.#corked = stream;
    stream.cork();
    void microtask.then(this.#uncork);
  }

  readonly #uncork = (): void => {
    const corked = this.#corked;
    this.#corked = undefined;
    corked?.uncork?.();
  };

  /** Leaves nothing on the caller's client. */
  close(): void {
    this.#expectsRecovery = false;
    clientsReady.remove(this.client, this.#recovered);
  }

  // A reply, in time or not: Redis is there. Runs before anything that waits for the reply.
  #answered(tick: Tick): void {
    if (tick.number > this.#latestAnswered) this.#latestAnswered = tick.number;
    if (tick === this.#tick) this.#tick = undefined;
    if (--tick.unanswered === 0) this.#forget(tick);
    if (this.#isSilent) this.#recovered();
  }

  // Emptied, as its reads are in endTick: a tick that was old when it was answered is collected late, values and all.
  #forget(tick: Tick): void {
    this.#open.delete(tick);
    tick.giveUp.length = 0;
  }

  #failed(tick: Tick, thrown: unknown): Error {
    const error = asError(thrown);
    if (isReply(error)) {
      this.#answered(tick);
    } else {
      // The client gave up before this link did (`commandTimeout`).
      if (--tick.unanswered === 0) this.#forget(tick);
      if (!this.#isLost() && this.#latestAnswered < tick.number) this.#beginSilence();
    }
    return concernsTheKey(error) ? error : new RedisFault(error.message, error);
  }

  /** Why nothing may be sent now, or undefined. */
  #refusal(): RedisFault | undefined {
    if (this.#isLost()) return this.#lostFault();
    if (!this.#isSilent) return undefined;
    const nowMs = this.#runtime.monotonicMs();
    if (nowMs >= this.#nextProbeMs) {
      this.#nextProbeMs = nowMs + PROBE_INTERVAL_MS;
      // Its reply ends the silence; its failure only means that the silence goes on.
      this.#await(this.#probe(), same).catch(() => undefined);
    }
    return this.#timeoutFault();
  }

  #isLost(): boolean {
    const { status } = this.client;
    if (status === undefined) return false;
    if (status === "ready") {
      this.#wasReady = true;
      return false;
    }
    // A client that was never ready is still making its first connection: that is waited for, within the deadline.
    if (this.#wasReady && status !== "end") this.#expectRecovery();
    return this.#wasReady;
  }

  #watch(tick: Tick): void {
    this.#open.add(tick);
    if (this.#isSweeping) return;
    this.#isSweeping = true;
    this.#startSweep();
  }

  // The caller's own socket keeps the process alive while a reply is due, so this timer need not.
  #startSweep(): void {
    const dueMs = this.#runtime.monotonicMs() + this.#sweepMs;
    this.#runtime.startTimer(this.#sweepMs, false, () => {
      this.#sweep(Math.max(0, this.#runtime.monotonicMs() - dueMs));
      this.#isSweeping = this.#open.size > 0;
      if (this.#isSweeping) this.#startSweep();
    });
  }

  #sweep(lateMs: number): void {
    const isLost = this.#isLost();
    const nowMs = this.#runtime.monotonicMs();
    for (const tick of this.#open) {
      // A process that was stopped, or whose event loop was blocked, could read no reply in that time; and the first timer to
      // fire afterwards comes before the sockets.
      tick.deadlineMs += Math.min(lateMs, nowMs - tick.sentMs);
      if (!isLost && nowMs < tick.deadlineMs) continue;
      if (!isLost && this.#latestAnswered < tick.number) this.#beginSilence();
      const fault = isLost ? this.#lostFault() : this.#timeoutFault();
      for (const giveUp of tick.giveUp) giveUp(fault);
      this.#forget(tick);
    }
  }

  #beginSilence(): void {
    if (this.#isSilent) return;
    this.#isSilent = true;
    this.#nextProbeMs = this.#runtime.monotonicMs() + PROBE_INTERVAL_MS;
    this.#expectRecovery();
  }

  // The listener is there only during an outage: the caller's client keeps none of ours.
  #expectRecovery(): void {
    if (this.#expectsRecovery) return;
    this.#expectsRecovery = true;
    clientsReady.add(this.client, this.#recovered);
  }

  readonly #recovered = (): void => {
    this.#expectsRecovery = false;
    clientsReady.remove(this.client, this.#recovered);
    this.#isSilent = false;
    this.onRecovery();
  };

  #lostFault(): RedisFault {
    return new RedisFault(`The client has lost its connection to Redis (status ${String(this.client.status)})`);
  }

  #timeoutFault(): RedisFault {
    return new RedisFault(`Redis did not answer within redisTimeout (${String(this.#timeoutMs / 1000)} s)`);
  }
}

function same<T>(reply: T): T {
  return reply;
}

function asError(thrown: unknown): Error {
  return thrown instanceof Error ? thrown : new Error(String(thrown));
}
