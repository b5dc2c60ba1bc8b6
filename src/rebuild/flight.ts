import type { Entry } from "../protocol/entry.js";
import { isSameEntry } from "../protocol/entry.js";
import type { EntryReader } from "../protocol/entry-reader.js";
import type { Reporter } from "../events.js";
import type { KeyNames } from "../protocol/key-names.js";
import { wholeMs } from "../options.js";
import type { RebuildLock, Token } from "../protocol/rebuild-lock.js";
import type { Recomputed } from "../call/recompute.js";
import { RedisFault } from "../link/redis-link.js";
import type { CancelTimer, Runtime } from "../runtime.js";
import type { ServerClock } from "../link/server-clock.js";
import type { Ear, WakeUp } from "../protocol/wake-up.js";

/** What a flight needs of its `CacheFence`. */
export interface FlightTools {
  readonly lock: RebuildLock;
  readonly reader: EntryReader;
  readonly clock: ServerClock;
  readonly wakeUp: WakeUp;
  readonly runtime: Runtime;
  readonly reporter: Reporter;
  readonly waitForLockMs: number;
  readonly throwsOnRedisError: boolean;
  /** The moment now, on the one line on which calls begin too. */
  moment(): number;
}

/**
 * How a flight ended: with a value or a failure, and the latest moment that it stands for. A call may use it iff it began
 * by then, for whatever was invalidated before that call began was gone by that moment. That is:
 * - the start of the recompute, always;
 * - the sending of its store (of the lock's release, if nothing is stored), if that was accepted: nobody had fenced the
 *   key until Redis ran it;
 * - the sending of the look that found the value in Redis.
 */
export interface Outcome {
  /** undefined: the rebuild failed. */
  readonly entry: Entry | undefined;
  readonly failure?: unknown;
  readonly asOf: number;
  /** Made by this process, not found in Redis. */
  readonly isOwn: boolean;
}

/** Nothing could be served, or an entry at hand is due. A refresh never waits: without the lock it ends with nothing. */
export type Purpose = "fill" | "refresh";

export interface FlightRequest {
  readonly purpose: Purpose;
  /** The entry at hand, stale, due, or unreadable: finding it again is no answer. */
  readonly known: Entry | undefined;
  /** When the first of the callers asked, by the monotonic clock. */
  readonly askedMs: number;
  readonly staleForSeconds: number;
  readonly recompute: () => Promise<Recomputed>;
  /** Called when new callers must no longer join: the rebuild has lost its lock, or takes too long. */
  readonly closeToJoiners: () => void;
}

/** Leave to rebuild: the lock's token, or none while Redis is failing. */
interface Turn {
  readonly token: Token | undefined;
  /** Taken from a holder that may still be at work. */
  readonly isTaken: boolean;
}

/**
 * One key's rebuild, or the wait for somebody else's, on behalf of all callers of one process.
 *
 * Claim the lock; as holder, rebuild; as waiter, listen until the value is there, the lock is free (claim it), or the
 * patience is over (take it over). Redis failing on the way: rebuild without lock, and store nothing.
 */
export class Flight {
  /** What the caller gets that launched it. undefined: nothing for anybody (a refresh that lost its claim). */
  readonly outcome: Promise<Outcome | undefined>;
  /** What the callers get that joined it: the same, but they give a rebuild up `2 * waitForLock` after it began. */
  readonly forJoiners: Promise<Outcome | undefined>;

  /** When nothing of it runs any more: a rebuild may go on after another holder's value has answered its callers. */
  readonly end: Promise<void>;

  readonly #tools: FlightTools;
  readonly #names: KeyNames;
  readonly #request: FlightRequest;

  // The wait, over all holders that are waited for one after the other. Times are monotonic.
  readonly #givesUpMs: number;
  #awaited: string | undefined;
  #patienceEndsMs = Infinity;
  #ear: Ear | undefined;

  #otherOutcome: Promise<Outcome> | undefined;
  #isOver = false;
  // What may outlast the outcome: the rebuild, and the freeing of the lock.
  readonly #unfinished: Promise<unknown>[] = [];
  #giveUpJoiners: () => void = () => undefined;
  #cancelPatienceOfJoiners: CancelTimer | undefined;

  constructor(tools: FlightTools, names: KeyNames, request: FlightRequest) {
    this.#tools = tools;
    this.#names = names;
    this.#request = request;
    this.#givesUpMs = request.askedMs + 2 * tools.waitForLockMs;
    const givenUp = new Promise<undefined>((resolve) => {
      this.#giveUpJoiners = () => {
        resolve(undefined);
      };
    });
    this.outcome = this.#run();
    this.forJoiners = Promise.race([this.outcome, givenUp]);
    // Whoever awaits either gets the error. A flight whose callers have all left (aborted, background) fails for nobody,
    // and its failure is an event.
    this.end = this.outcome.then(
      () => this.#finish(),
      () => this.#finish(),
    );
    this.forJoiners.catch(() => undefined);
  }

  /** Never rejects. */
  async #finish(): Promise<void> {
    let count: number;
    do {
      count = this.#unfinished.length;
      await Promise.allSettled(this.#unfinished);
    } while (this.#unfinished.length > count);
  }

  async #run(): Promise<Outcome | undefined> {
    try {
      const turn = await this.#getTurn();
      if (turn === undefined || !("token" in turn)) return turn;
      if (turn.token === undefined) return await this.#rebuild(undefined);
      const rebuilt = this.#rebuildHolding(turn.token);
      return await (turn.isTaken ? Promise.race([rebuilt, this.#outcomeOfOther()]) : rebuilt);
    } finally {
      this.#isOver = true;
      this.#ear?.close();
      this.#cancelPatienceOfJoiners?.();
    }
  }

  /** The lock, or an outcome without it. Redis failing: a turn without lock, but never for an entry that is still good. */
  async #getTurn(): Promise<Outcome | Turn | undefined> {
    try {
      return await this.#claimOrWait();
    } catch (error) {
      const { key } = this.#names;
      const shown = error instanceof RedisFault ? error.toError(key) : error;
      this.#tools.reporter.report("cachefence:redis-error", { key, error: shown });
      if (!(error instanceof RedisFault)) throw error;
      if (this.#request.purpose === "refresh") return undefined;
      if (this.#tools.throwsOnRedisError) throw shown;
      return { token: undefined, isTaken: false };
    }
  }

  async #claimOrWait(): Promise<Outcome | Turn | undefined> {
    const { lock, runtime, reporter } = this.#tools;
    for (;;) {
      const asOf = this.#tools.moment();
      const { token, held, entry } = await lock.claim(this.#names);
      const isHolder = held === token;
      if (this.#answers(entry)) {
        // An earlier holder has just finished.
        if (isHolder) void this.#release(token);
        return { entry, asOf, isOwn: false };
      }
      if (isHolder) return { token, isTaken: false };
      if (this.#request.purpose === "refresh") return undefined;
      const turn = held === undefined ? "free" : await this.#waitForTurn(held);
      if (turn === "free") continue;
      if (typeof turn !== "string") return turn;
      const seconds = secondsSince(this.#request.askedMs, runtime);
      reporter.report("cachefence:takeover", { key: this.#names.key, seconds });
      return { token: turn, isTaken: true };
    }
  }

  /** Waits for the holder, until there is a value (its outcome), the lock is free, or it is taken over (our token). */
  async #waitForTurn(holder: string): Promise<Outcome | Token | "free"> {
    const { lock, reader, runtime, reporter } = this.#tools;
    const { key, entry: entryKey } = this.#names;
    const beganMs = runtime.monotonicMs();
    const ear = this.#listen();
    let leaseEndsMs = Infinity;
    let successor: Token | undefined;
    let pauseMs = 0;
    this.#awaitHolder(holder);
    try {
      for (;;) {
        const untilMs = Math.min(this.#patienceEndsMs, leaseEndsMs);
        const news = await ear.sleep(Math.max(pauseMs, untilMs - runtime.monotonicMs()), lock.publishes(holder));
        pauseMs = 0;
        if (news === "freed") return "free";
        const asOf = this.#tools.moment();
        if (news === "stored") {
          const stored = await reader.read(entryKey);
          if (this.#answers(stored)) return { entry: stored, asOf, isOwn: false };
        }
        const { held, leaseLeftMs, entry } = await lock.look(this.#names);
        if (this.#answers(entry)) return { entry, asOf, isOwn: false };
        if (held === undefined) return "free";
        // A takeover whose reply was lost was sent again, and refused for finding our own token.
        if (held === successor) return successor;
        holder = held;
        this.#awaitHolder(holder);
        leaseEndsMs = runtime.monotonicMs() + leaseLeftMs + 1;
        if (runtime.monotonicMs() < this.#patienceEndsMs) continue;
        // Of all waiters whose patience is over one gets it; the others find a new holder.
        successor = lock.successorOf(holder);
        if (await lock.takeOver(this.#names, holder, successor)) return successor;
        // Where many have lost all patience at once, they come back one after the other.
        pauseMs = LONGEST_PAUSE_MS * runtime.random();
      }
    } finally {
      reporter.report("cachefence:wait", { key, seconds: secondsSince(beganMs, runtime) });
    }
  }

  /** A new holder gets new patience, within that for all of them. */
  #awaitHolder(held: string): void {
    if (held === this.#awaited) return;
    this.#awaited = held;
    const { runtime, waitForLockMs } = this.#tools;
    this.#patienceEndsMs = Math.min(runtime.monotonicMs() + waitForLockMs, this.#givesUpMs);
  }

  #listen(): Ear {
    return (this.#ear ??= this.#tools.wakeUp.listen(this.#names.channel));
  }

  /** True if the entry is what this flight is to get: valid, and not the one it started from. */
  #answers(entry: Entry | undefined): entry is Entry {
    if (entry === undefined || this.#tools.clock.nowSeconds() >= entry.expirySeconds) return false;
    const { known } = this.#request;
    return known === undefined || !isSameEntry(entry, known);
  }

  /** Alone with the lock, until a renewal finds that it no longer is: from then on whoever stores first answers. */
  #rebuildHolding(token: Token): Promise<Outcome> {
    const { lock, clock, reporter } = this.#tools;
    const { purpose, known, closeToJoiners } = this.#request;
    if (purpose === "refresh" && known !== undefined) {
      const remaining = known.expirySeconds - clock.nowSeconds();
      reporter.report("cachefence:early-refresh", { key: this.#names.key, remaining, delta: known.deltaSeconds });
    }
    return new Promise((resolve, reject) => {
      const stopKeeping = lock.keep(this.#names, token, () => {
        closeToJoiners();
        void this.#outcomeOfOther().then(resolve);
      });
      const rebuilt = this.#rebuild(token).finally(stopKeeping);
      this.#unfinished.push(rebuilt);
      rebuilt.then(resolve, reject);
    });
  }

  /** Resolves when somebody else has stored a value while this flight is under way. Never rejects. */
  #outcomeOfOther(): Promise<Outcome> {
    return (this.#otherOutcome ??= this.#listenForOther());
  }

  async #listenForOther(): Promise<Outcome> {
    while (!this.#isOver) {
      await this.#listen().sleep(Infinity, true);
      const asOf = this.#tools.moment();
      // Redis failing here takes nothing away: the rebuild of our own goes on.
      const entry = await this.#tools.reader.read(this.#names.entry).catch(() => undefined);
      if (this.#answers(entry)) return { entry, asOf, isOwn: false };
    }
    return new Promise(() => undefined);
  }

  /** Recomputes, and stores under the lock; without one (Redis is failing) there is nothing to store to. */
  async #rebuild(token: Token | undefined): Promise<Outcome> {
    const { reporter, runtime, clock } = this.#tools;
    const { key } = this.#names;
    const beganMs = runtime.monotonicMs();
    const asOfStart = this.#tools.moment();
    this.#limitPatienceOfJoiners();
    reporter.report("cachefence:rebuild-start", { key, locked: token !== undefined });
    try {
      const { value, deltaSeconds, ttlSeconds } = await this.#request.recompute();
      const entry = { value, deltaSeconds, expirySeconds: clock.expiryAfter(ttlSeconds) };
      const asOf = this.#tools.moment();
      const isFenceKept = token !== undefined && (await this.#conclude(token, entry, ttlSeconds));
      const stored = isFenceKept && ttlSeconds > 0;
      reporter.report("cachefence:rebuild-end", { key, seconds: secondsSince(beganMs, runtime), stored });
      return { entry, asOf: isFenceKept ? asOf : asOfStart, isOwn: true };
    } catch (failure) {
      // The lock is freed before any caller learns of the failure: whoever tries next finds it free.
      const asOf = this.#tools.moment();
      const isFenceKept = token !== undefined && (await this.#release(token));
      const seconds = secondsSince(beganMs, runtime);
      reporter.report("cachefence:rebuild-end", { key, seconds, stored: false, error: failure });
      return { entry: undefined, failure, asOf: isFenceKept ? asOf : asOfStart, isOwn: true };
    }
  }

  /** Stores, or only frees the lock where nothing is to be cached. True: until then, nobody had fenced the key. */
  async #conclude(token: Token, entry: Entry, ttlSeconds: number): Promise<boolean> {
    const { lock, reporter, throwsOnRedisError } = this.#tools;
    const { key } = this.#names;
    try {
      if (ttlSeconds === 0) return await lock.release(this.#names, token);
      const isStored = await lock.store(this.#names, token, entry, wholeMs(ttlSeconds + this.#request.staleForSeconds));
      if (!isStored) reporter.report("cachefence:refused-store", { key, seconds: entry.deltaSeconds });
      return isStored;
    } catch (error) {
      if (!(error instanceof RedisFault)) throw error;
      reporter.report("cachefence:redis-error", { key, error: error.toError(key) });
      if (throwsOnRedisError) throw error.toError(key);
      // The store may never run, and the lock must not stay for that. Nobody waits for it.
      void this.#release(token);
      return false;
    }
  }

  /** True if the lock was still ours. Never rejects: if it fails, the lock is freed later, or its lease ends it. */
  #release(token: Token): Promise<boolean> {
    const released = this.#tools.lock.release(this.#names, token).catch(() => false);
    this.#unfinished.push(released);
    return released;
  }

  #limitPatienceOfJoiners(): void {
    const { runtime, waitForLockMs } = this.#tools;
    // A caller that waits has something of its own that keeps the process alive; this timer need not.
    this.#cancelPatienceOfJoiners = runtime.startTimer(2 * waitForLockMs, false, () => {
      this.#request.closeToJoiners();
      this.#giveUpJoiners();
    });
  }
}

const LONGEST_PAUSE_MS = 50;

function secondsSince(beganMs: number, runtime: Runtime): number {
  return (runtime.monotonicMs() - beganMs) / 1000;
}
