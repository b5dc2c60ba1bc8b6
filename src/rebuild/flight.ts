import type { Recomputed } from "../call/recompute.js";
import type { StoredValue } from "../call/stored-value.js";
import { Withdrawn } from "../errors.js";
import type { Reporter } from "../events.js";
import { RedisFault } from "../link/redis-link.js";
import { wholeMs } from "../options.js";
import type { Way } from "../protocol/conversation.js";
import type { Entry, StoredEntry } from "../protocol/entry.js";
import { isSameEntry } from "../protocol/entry.js";
import type { KeyNames } from "../protocol/key-names.js";
import type { Mailbox } from "../protocol/mailbox.js";
import type { Message, ToldEntry } from "../protocol/messages.js";
import type { Reader } from "../protocol/reader.js";
import type { Claim, HeldLock, RebuildLock } from "../protocol/rebuild-lock.js";
import { holderOf, isOfLine } from "../protocol/token.js";
import type { Purpose } from "../protocol/steps.js";
import type { CancelTimer, Runtime } from "../runtime.js";
import type { Outcome } from "./outcome.js";
import { standsFor } from "./outcome.js";
import { Patience, joinableMs } from "./patience.js";

/** What a flight needs of its cache. */
export interface FlightTools {
  readonly lock: RebuildLock;
  readonly reader: Reader<StoredValue>;
  readonly open: (key: string, bytes: Buffer) => StoredValue;
  readonly way: Way;
  readonly mailbox: Mailbox;
  readonly runtime: Runtime;
  readonly reporter: Reporter;
  readonly waitForLockMs: number;
  readonly throwsOnRedisError: boolean;
  /** False once the cache is closed: its flights look instead of listening. */
  readonly mayListen: () => boolean;
  /** The moment now, on the one line on which calls begin too. */
  readonly moment: () => number;
  /** A newer entry is known: a copy in memory is older. */
  readonly onNewEntry: (names: KeyNames) => void;
}

/** A call aboard. */
export interface Passenger {
  /** The moment at which it began. */
  readonly began: number;
  readonly askedMs: number;
  /** When it will wait no longer for others, by the monotonic clock. */
  readonly givesUpMs: number;
  /** It has something to serve: it is here for a refresh, and waits for nobody else's. */
  readonly isServed: boolean;
  /** What it has read, due, stale, or unreadable: finding that again is no answer. */
  readonly atHand: Entry<StoredValue> | undefined;
  /** What its tags stood at after it had begun; undefined if Redis did not tell. */
  readonly tags: string | undefined;
  /** Why it did not. */
  readonly fault: unknown;
  readonly retryAfterMs: number;
  /** Until when the value at hand may be served, in server time; 0 if there is none. */
  readonly servableUntilSeconds: number;
  /** undefined: many callers in one, who leave the rebuild to others while those are aboard, and then board one by one. */
  readonly recompute: (() => Promise<Recomputed>) | undefined;
  /** Called before a claim is sent for it: others of its list are sent at the same time. */
  readonly beforeClaim?: (() => void) | undefined;
  /** Called when its value has been stored: the states of its tags must outlast it. */
  readonly onStored?: ((keepMs: number) => void) | undefined;
  /** Called as soon as it is known that its own recompute is not called now. */
  readonly onWaiting?: (() => void) | undefined;
}

export interface FlightListener {
  /** It takes nobody any more: it has landed, lost its lock, or takes too long. */
  closed(): void;
  /** No refresh is tried before that, by the monotonic clock. */
  paused(untilMs: number): void;
  /** A refresh has found this holder silent, and does not wait for the second look: the next may be it. */
  silent(silence: Silence): void;
}

/** A holder whose mailbox was gone, and since when that is known, by the monotonic clock. */
export interface Silence {
  readonly lock: string;
  readonly sinceMs: number;
}

/** One whose recompute may be called. */
type Owner = Passenger & { readonly recompute: () => Promise<Recomputed> };

/** How a call aboard is told of the end. */
interface Seat {
  readonly land: (outcome: Outcome | undefined) => void;
  readonly fail: (error: unknown) => void;
}

/** The lock as it was last seen, and the moment at which that look was sent. */
interface Sighting {
  readonly lock: string;
  readonly asOf: number;
}

// A look is due in 0.4 s, for 2.5 commands a second; one that found silence is repeated after 60 ms. So whoever dies is
// replaced within half a second.
const LOOK_MS = 390;
const LOOK_SPREAD_MS = 15;
const SILENCE_MS = 60;
const FASTEST_POLL_MS = 10;
const SLOWEST_POLL_MS = 50;
const POLL_GROWTH = 1.5;

/**
 * One key's rebuild, or the wait for somebody else's, on behalf of the calls aboard.
 *
 * While somebody is aboard: claim. Found: that is it. Mine: rebuild. Held: a refresh ends with nothing; whoever has nothing to
 * serve sleeps until told, until the next look, or until patience is over. Claiming is looking: there is no other look.
 *
 * A value inside a message may be older than a fence that has resolved, for messages are late. It is used only if the lock
 * that this flight's last answered claim found begins with the storer's token. Then no fence had come between the storer's
 * claim, before its recompute, and that look: a fence drops the lock, and no token comes back under which a recompute has
 * begun. So the value is good for every call that began before that look was sent; it stands for its moment.
 */
export class Flight {
  readonly #tools: FlightTools;
  readonly #names: KeyNames;
  readonly #tell: FlightListener;
  readonly #aboard = new Map<Passenger, Seat>();
  readonly #patience: Patience;
  #isClosed = false;
  // Set when the recompute is called.
  #rebuild:
    | {
        readonly owner: Owner;
        readonly beganMs: number;
        readonly startedAt: number;
        readonly lock: HeldLock | undefined;
      }
    | undefined;
  // What may outlast the landing: the freeing of the lock.
  readonly #unfinished: Promise<unknown>[] = [];

  // The wait for other holders.
  #sighting: Sighting | undefined;
  #silence: Silence | undefined;
  #unlisten: (() => boolean) | undefined;
  #told: ToldEntry | undefined;
  #isTold = false;
  #isStored = false;
  #wake: (() => void) | undefined;
  // What its last claim has found cannot be read: the next is to pass over it.
  #isUnreadable = false;
  // What its last claim was for. Only a fill is told: a refresh that somebody with nothing has boarded meanwhile claims again.
  #lastPurpose: Purpose = "fill";
  // Its last claim was to take over.
  #hasOutwaited = false;
  #isListeningForOther = false;
  #waitBeganMs: number | undefined;
  #pollMs = FASTEST_POLL_MS;
  // When the next of those who wait for its rebuild gives up.
  #giveUpMs = Infinity;
  #cancelGiveUp: CancelTimer | undefined;

  /** @param silence - what the last refresh has found */
  constructor(tools: FlightTools, names: KeyNames, silence: Silence | undefined, tell: FlightListener) {
    this.#tools = tools;
    this.#names = names;
    this.#silence = silence;
    this.#tell = tell;
    this.#patience = new Patience(tools.waitForLockMs, this.#aboard);
  }

  /** How long its recompute has been running; 0 before that. */
  get rebuildingMs(): number {
    return this.#rebuild === undefined ? 0 : this.#tools.runtime.monotonicMs() - this.#rebuild.beganMs;
  }

  /**
   * Resolves with the outcome, if it stands for this passenger; undefined: there is nothing for it, and it is to ask again.
   * Rejects where the key itself cannot be used.
   */
  board(passenger: Passenger, onBoarded?: (leave: () => void) => void): Promise<Outcome | undefined> {
    return new Promise((resolve, reject) => {
      this.#aboard.set(passenger, { land: resolve, fail: reject });
      onBoarded?.(() => {
        this.#aboard.delete(passenger);
        resolve(undefined);
        // A rebuild that has begun goes on for the others; a wait for nobody ends.
        if (!this.#hasOwner) this.#wake?.();
      });
      if (this.#rebuild !== undefined) {
        passenger.onWaiting?.();
        if (this.#patienceOf(passenger) < this.#giveUpMs) this.#watchPatience();
      } else if (this.#wake !== undefined) {
        passenger.onWaiting?.();
        // It may have less patience left than those aboard.
        if (passenger.givesUpMs <= this.#tools.runtime.monotonicMs()) this.#wake();
      }
    });
  }

  /** Flies; resolves when nothing of it runs any more, the freeing of its lock among it. Never rejects. */
  async fly(): Promise<void> {
    try {
      await this.#untilLanded();
    } catch (error) {
      for (const seat of this.#aboard.values()) seat.fail(error);
      this.#aboard.clear();
    } finally {
      this.#unlisten?.();
      this.#cancelGiveUp?.();
      this.#reportWait();
      this.#close();
    }
    await Promise.all(this.#unfinished);
  }

  async #untilLanded(): Promise<void> {
    while (!this.#isDeserted()) {
      const claim = await this.#claim();
      if (claim === "for nobody") return;
      if (claim === "without Redis") return this.#rebuildWith(undefined);
      if (claim.kind === "mine") {
        this.#reportWait();
        if (this.#isDeserted()) return void this.#free(claim.lock);
        return this.#rebuildWith(claim.lock, claim.how);
      }
      if (claim.kind === "found") {
        if (await this.#readFound()) return;
      } else if (this.#isRefresh) {
        if (claim.by === "pause") this.#tell.paused(this.#tools.runtime.monotonicMs() + claim.leaseLeftMs);
        if (this.#silence !== undefined) this.#tell.silent(this.#silence);
        this.#landAll(undefined);
        return;
      } else if (this.#lastPurpose === "fill" && (this.#answerTold() || (await this.#sleep(claim)))) {
        return;
      }
    }
  }

  /** All have left who could rebuild. Closed at once, so that nobody boards what ends. */
  #isDeserted(): boolean {
    if (this.#hasOwner) return false;
    this.#landAll(undefined);
    return true;
  }

  /** True if all aboard have something to serve. Whoever boards with nothing makes it a fill. */
  get #isRefresh(): boolean {
    for (const { isServed } of this.#aboard.keys()) if (!isServed) return false;
    return true;
  }

  get #isRedisThere(): boolean {
    return this.#tools.way.links.of(this.#names.entry).state === "ready";
  }

  /** The one whose wish counts: of those who could rebuild, whoever has nothing to serve, else the first. */
  get #first(): Passenger | undefined {
    let first: Passenger | undefined;
    for (const passenger of this.#aboard.keys()) {
      if (!passenger.isServed && isOwner(passenger)) return passenger;
      if (first === undefined || !isOwner(first)) first = passenger;
    }
    return first;
  }

  get #hasOwner(): boolean {
    const first = this.#first;
    return first !== undefined && isOwner(first);
  }

  async #claim(): Promise<Claim | "without Redis" | "for nobody"> {
    const { lock, mailbox, reporter, runtime } = this.#tools;
    try {
      // Without a mailbox nobody would see this process die while it rebuilds. During an outage nobody waits for it.
      if (!mailbox.isLive && this.#tools.mayListen() && this.#isRedisThere) await mailbox.ready();
      // All may have left meanwhile.
      if (this.#isDeserted()) return "for nobody";
      this.#listen();
      this.#isTold = this.#isStored = false;
      const { atHand, tags, fault, beforeClaim } = this.#first!;
      // Nothing could be stored that anybody may read.
      if (tags === undefined) {
        reporter.report("cachefence:redis-error", { key: this.#names.key, error: fault });
        return "without Redis";
      }
      beforeClaim?.();
      const nowMs = runtime.monotonicMs();
      const purpose = this.#isRefresh ? "refresh" : "fill";
      const outwaited = nowMs >= this.#patience.endsMs ? this.#sighting?.lock : undefined;
      const silence = this.#silence;
      const silent = silence !== undefined && nowMs - silence.sinceMs >= SILENCE_MS ? silence.lock : undefined;
      this.#hasOutwaited = outwaited !== undefined;
      this.#lastPurpose = purpose;
      const asOf = this.#tools.moment();
      const isUnreadable = this.#isUnreadable;
      this.#isUnreadable = false;
      const claim = await lock.claim(
        this.#names,
        { purpose, atHand, tags, isUnreadable, outwaited, silent },
        this.#unlisten !== undefined,
      );
      if (claim.kind === "held") this.#sees(claim, asOf);
      // Whose lock it was, if it was taken over, may be first to store: its token is what this one begins with.
      if (claim.kind === "mine") this.#sighting = { lock: claim.lock.token, asOf };
      return claim;
    } catch (error) {
      return this.#failed(error);
    }
  }

  #sees({ lock, by }: Extract<Claim, { kind: "held" }>, asOf: number): void {
    const nowMs = this.#tools.runtime.monotonicMs();
    this.#sighting = { lock, asOf };
    this.#patience.sees(lock, nowMs);
    if (by !== "silent") this.#silence = undefined;
    else if (this.#silence?.lock !== lock) this.#silence = { lock, sinceMs: nowMs };
  }

  /** Redis failing: a rebuild without lock, but never for an entry that is still good. */
  #failed(error: unknown): "without Redis" {
    const { key } = this.#names;
    const { reporter, throwsOnRedisError } = this.#tools;
    const shown = error instanceof RedisFault ? error.toError(key) : error;
    reporter.report("cachefence:redis-error", { key, error: shown });
    if (!(error instanceof RedisFault)) throw error;
    if (this.#aboard.size === 0 || this.#isRefresh) this.#landAll(undefined);
    else if (throwsOnRedisError) throw shown;
    return "without Redis";
  }

  /** An earlier holder has finished. True if that has landed the flight; if not, it is gone again. */
  async #readFound(): Promise<boolean> {
    try {
      const asOf = this.#tools.moment();
      const stored = await this.#tools.reader.read(this.#names);
      this.#isUnreadable = stored === "corrupt";
      return this.#answer(stored, asOf, this.#waitBeganMs === undefined);
    } catch (error) {
      this.#failed(error);
      await this.#rebuildWith(undefined);
      return true;
    }
  }

  /** Lands with an entry from elsewhere, if it is what is wanted: not the one at hand. */
  #answer(entry: StoredEntry<StoredValue>, asOf: number, wasThere = false): boolean {
    if (entry === undefined || entry === "corrupt" || this.#aboard.size === 0) return false;
    const { atHand, tags } = this.#first!;
    if (entry.tags !== tags || (atHand !== undefined && isSameEntry(entry, atHand))) return false;
    this.#tools.onNewEntry(this.#names);
    this.#landAll({ entry, tags: entry.tags, startedAt: -Infinity, asOf, madeBy: "another", wasThere });
    return true;
  }

  /** Lands with the value inside the last message, if that is good for the moment of the last look; see above. */
  #answerTold(): boolean {
    const told = this.#told;
    const { open, way } = this.#tools;
    if (told === undefined || this.#sighting === undefined || !isOfLine(this.#sighting.lock, told.token)) return false;
    this.#told = undefined;
    if (way.clock.nowSeconds() >= told.expirySeconds) return false;
    return this.#answer({ ...told, value: open(this.#names.key, told.value) }, this.#sighting.asOf);
  }

  #listen(): void {
    if (this.#unlisten !== undefined || !this.#tools.mayListen()) return;
    this.#unlisten = this.#tools.mailbox.listen(this.#names.redisKey, (message) => {
      this.#hear(message);
    });
  }

  /** The cache is closed: from now on it looks, and is told nothing. */
  async stopListening(): Promise<void> {
    if (this.#unlisten === undefined) return;
    const isLast = this.#unlisten();
    this.#unlisten = undefined;
    this.#wake?.();
    if (isLast) await this.#tools.lock.leaveAudience(this.#names);
  }

  #hear(message: Message | undefined): void {
    this.#isTold = true;
    // The mailbox has gone, or is live.
    if (message === undefined) this.#rebuild?.lock?.showLife();
    if (message?.kind === "stored") {
      this.#told = message.told;
      this.#isStored = message.told === undefined;
    }
    this.#wake?.();
  }

  /** Until told, the next look, or the end of patience. True if what it was told has landed the flight. */
  async #sleep({ lock, leaseLeftMs, by }: Extract<Claim, { kind: "held" }>): Promise<boolean> {
    const { runtime } = this.#tools;
    this.#waitBeganMs ??= runtime.monotonicMs();
    for (const { onWaiting } of this.#aboard.keys()) onWaiting?.();
    // A message may have come before the answer to the claim did, and an outwaited lock may have found another taker: of many
    // that have lost all patience at once, one after the other comes back.
    const nowMs = runtime.monotonicMs();
    const patienceMs = this.#patience.endsMs - nowMs;
    const pauseMs = this.#hasOutwaited ? LONGEST_PAUSE_MS * runtime.random() : 0;
    const longestMs = patienceMs > 0 ? patienceMs : pauseMs;
    const delayMs = Math.min(longestMs, leaseLeftMs + 1, this.#nextLookMs(lock, by));
    if (!this.#isTold && this.#hasOwner) await this.#untilWoken(delayMs);
    if (this.#answerTold()) return true;
    // Stored, and the message does not say what: it is there to be read, and no lock need be taken for it.
    return this.#isStored && this.#readFound();
  }

  #nextLookMs(lock: string, by: "holder" | "silent" | "pause"): number {
    const { mailbox, runtime } = this.#tools;
    if (by === "silent") return SILENCE_MS + 1;
    if (holderOf(lock) !== undefined && mailbox.isLive && this.#unlisten !== undefined) {
      return LOOK_MS + LOOK_SPREAD_MS * runtime.random();
    }
    const pollMs = this.#pollMs;
    this.#pollMs = Math.min(SLOWEST_POLL_MS, pollMs * POLL_GROWTH);
    return pollMs;
  }

  #reportWait(): void {
    if (this.#waitBeganMs === undefined) return;
    const { runtime, reporter } = this.#tools;
    reporter.report("cachefence:wait", { key: this.#names.key, seconds: secondsSince(this.#waitBeganMs, runtime) });
    this.#waitBeganMs = undefined;
  }

  /** Recomputes, and stores under the lock; without one (Redis is failing) there is nothing to store to. */
  async #rebuildWith(lock: HeldLock | undefined, how: "free" | "patience" | "silence" = "free"): Promise<void> {
    if (this.#isDeserted()) return;
    const { reporter, runtime, moment } = this.#tools;
    const { key } = this.#names;
    const owner = this.#first as Owner;
    this.#reportBeginning(owner, how);
    const beganMs = runtime.monotonicMs();
    const startedAt = moment();
    this.#rebuild = { owner, beganMs, startedAt, lock };
    if (how === "free") this.#sighting = undefined;
    else void this.#listenForOther();
    for (const passenger of this.#aboard.keys()) if (passenger !== owner) passenger.onWaiting?.();
    lock?.keep(moment, (takenBy, asOf) => {
      this.#lost(takenBy, asOf);
    });
    this.#watchPatience();
    const madeBy = lock === undefined ? "this process, without Redis" : "this process";
    const common = { tags: owner.tags, startedAt, madeBy } as const;
    reporter.report("cachefence:rebuild-start", { key, locked: lock !== undefined });
    try {
      const made = await owner.recompute();
      const asOf = moment();
      const isFenceKept = lock !== undefined && (await this.#conclude(lock, made, owner));
      const stored = isFenceKept && made.ttlSeconds > 0;
      reporter.report("cachefence:rebuild-end", { key, seconds: secondsSince(beganMs, runtime), stored });
      const entry = this.#entryOf(made, owner);
      this.#landAll({ ...common, entry, asOf: isFenceKept ? asOf : startedAt });
    } catch (failure) {
      // The lock is freed before any call learns of the failure: whoever tries next finds it free. Under a value that is
      // still served it is left as a pause.
      const asOf = moment();
      const isServed = owner.servableUntilSeconds > this.#tools.way.clock.nowSeconds();
      const hasBegun = !(failure instanceof Withdrawn);
      const pauseMs = isServed && hasBegun ? owner.retryAfterMs : 0;
      if (pauseMs > 0) this.#tell.paused(runtime.monotonicMs() + pauseMs);
      const isFenceKept = lock !== undefined && (await this.#free(lock, pauseMs));
      const seconds = secondsSince(beganMs, runtime);
      reporter.report("cachefence:rebuild-end", { key, seconds, stored: false, error: failure });
      // Who has boarded one that did not begin asks again.
      this.#landAll(
        hasBegun ? { ...common, entry: undefined, failure, asOf: isFenceKept ? asOf : startedAt } : undefined,
      );
    }
  }

  #reportBeginning(owner: Owner, how: "free" | "patience" | "silence"): void {
    const { reporter, runtime, way } = this.#tools;
    const { key } = this.#names;
    if (how !== "free") {
      reporter.report("cachefence:takeover", { key, seconds: secondsSince(owner.askedMs, runtime) });
    }
    if (owner.isServed && owner.atHand !== undefined) {
      const remaining = owner.atHand.expirySeconds - way.clock.nowSeconds();
      reporter.report("cachefence:early-refresh", { key, remaining, delta: owner.atHand.deltaSeconds });
    }
  }

  #entryOf(made: Recomputed, owner: Owner): Entry<StoredValue> {
    const { open, way } = this.#tools;
    return {
      value: open(this.#names.key, made.value),
      deltaSeconds: made.deltaSeconds,
      expirySeconds: way.clock.expiryAfter(made.ttlSeconds),
      tags: owner.tags ?? "",
    };
  }

  /** Stores, or only frees the lock where nothing is to be cached. True: until then, nobody had fenced the key. */
  async #conclude(lock: HeldLock, made: Recomputed, owner: Owner): Promise<boolean> {
    const { reporter, throwsOnRedisError } = this.#tools;
    const { key } = this.#names;
    if (made.ttlSeconds === 0) return this.#free(lock);
    try {
      const entry = this.#entryOf(made, owner);
      const keepMs = wholeMs(made.ttlSeconds + made.staleForSeconds);
      const answer = await lock.store({ ...entry, value: made.value, keepMs });
      const isStored = answer !== "refused";
      // It says why it may not be freed.
      if (answer === "locked") await this.#free(lock);
      if (isStored) {
        this.#tools.onNewEntry(this.#names);
        owner.onStored?.(keepMs);
      } else reporter.report("cachefence:refused-store", { key, seconds: made.deltaSeconds });
      return isStored;
    } catch (error) {
      if (!(error instanceof RedisFault)) throw error;
      // The store is tried again until the lease ends; nobody waits for it.
      reporter.report("cachefence:redis-error", { key, error: error.toError(key) });
      if (throwsOnRedisError) throw error.toError(key);
      return false;
    }
  }

  #free(lock: HeldLock, pauseMs = 0): Promise<boolean> {
    const { key } = this.#names;
    const freed = lock.free(pauseMs).catch((error: unknown) => {
      this.#tools.reporter.report("cachefence:redis-error", { key, error });
      return false;
    });
    this.#unfinished.push(freed);
    return freed;
  }

  /** Another has the lock, or nobody. Calls that came since the recompute began cannot use what it makes: they ask again. */
  #lost(takenBy: string | undefined, asOf: number): void {
    const { startedAt } = this.#rebuild!;
    if (takenBy !== undefined) this.#sighting = { lock: takenBy, asOf };
    else this.#landThose(({ began }) => began > startedAt);
    this.#close();
    void this.#listenForOther();
  }

  /**
   * Beside its own rebuild: another may be first to store, who has taken over, or was taken over, or has come after a fence.
   * Redis failing here takes nothing away. Never rejects.
   */
  async #listenForOther(): Promise<void> {
    const { moment, reader } = this.#tools;
    // Since its rebuild began, where it took over: there is one sleep at a time to be woken from.
    if (this.#isListeningForOther) return;
    this.#isListeningForOther = true;
    while (this.#aboard.size > 0) {
      if (!this.#isTold) await this.#untilWoken(this.#nextLookMs(this.#sighting?.lock ?? "", "holder"));
      this.#isTold = false;
      if (this.#aboard.size === 0 || this.#answerTold()) return;
      const asOf = moment();
      const entry = await reader.read(this.#names).catch(() => undefined);
      const isValid = typeof entry === "object" && entry.expirySeconds > this.#tools.way.clock.nowSeconds();
      if (isValid) this.#answer(entry, asOf);
    }
  }

  /** Until it is told something, all have left, or that time has passed. */
  async #untilWoken(delayMs: number): Promise<void> {
    const { runtime } = this.#tools;
    await new Promise<void>((resolve) => {
      const cancel = runtime.startTimer(Math.max(0, delayMs), true, resolve);
      this.#wake = () => {
        cancel();
        resolve();
      };
    });
    this.#wake = undefined;
  }

  /** Calls that wait for a rebuild of their own process give it up in time; but for the one whose it is. */
  #watchPatience(): void {
    const { runtime } = this.#tools;
    this.#cancelGiveUp?.();
    this.#cancelGiveUp = undefined;
    this.#giveUpMs = Infinity;
    for (const passenger of this.#aboard.keys()) this.#giveUpMs = Math.min(this.#giveUpMs, this.#patienceOf(passenger));
    if (this.#giveUpMs === Infinity) return;
    // A call that waits has something of its own that keeps the process alive; this timer need not.
    this.#cancelGiveUp = runtime.startTimer(Math.max(0, this.#giveUpMs - runtime.monotonicMs()), false, () => {
      const nowMs = runtime.monotonicMs();
      this.#close();
      this.#landThose((passenger) => this.#patienceOf(passenger) <= nowMs);
      this.#watchPatience();
    });
  }

  /** Until when it waits for the rebuild of its own process. */
  #patienceOf(passenger: Passenger): number {
    const { owner, beganMs } = this.#rebuild!;
    if (passenger === owner) return Infinity;
    return Math.max(passenger.givesUpMs, beganMs + joinableMs(this.#tools.waitForLockMs));
  }

  #landThose(which: (passenger: Passenger) => boolean): void {
    for (const [passenger, seat] of this.#aboard) {
      if (!which(passenger)) continue;
      this.#aboard.delete(passenger);
      seat.land(undefined);
    }
  }

  #landAll(outcome: Outcome | undefined): void {
    // Before anybody knows: who counts waits then finds this one.
    this.#reportWait();
    this.#close();
    for (const [passenger, seat] of this.#aboard) {
      seat.land(outcome !== undefined && standsFor(outcome, passenger) ? outcome : undefined);
    }
    this.#aboard.clear();
    this.#wake?.();
  }

  #close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#tell.closed();
  }
}

const LONGEST_PAUSE_MS = 50;

function isOwner(passenger: Passenger): passenger is Owner {
  return passenger.recompute !== undefined;
}

function secondsSince(beganMs: number, runtime: Runtime): number {
  return (runtime.monotonicMs() - beganMs) / 1000;
}
