import type { Entry } from "./protocol/entry.js";
import type { StoredEntry } from "./protocol/entry-reader.js";
import { EntryReader } from "./protocol/entry-reader.js";
import { shouldRefreshEarly } from "./call/early-refresh.js";
import { CacheFenceError } from "./errors.js";
import type { CacheFenceStats } from "./events.js";
import { Reporter } from "./events.js";
import type { FlightTools, Outcome, Purpose } from "./rebuild/flight.js";
import { Flight } from "./rebuild/flight.js";
import { GuardedWriter } from "./protocol/guarded-writer.js";
import type { KeyNames } from "./protocol/key-names.js";
import { KeyNaming } from "./protocol/key-names.js";
import type { CacheFenceOptions, GetOrSetOptions, ResolvedCallOptions, ResolvedOptions } from "./options.js";
import {
  checkClient,
  checkKey,
  checkLifetime,
  checkRecompute,
  checkTtl,
  resolveCallOptions,
  resolveOptions,
  wholeMs,
} from "./options.js";
import { RebuildLock } from "./protocol/rebuild-lock.js";
import type { RecomputeContext, Source } from "./call/recompute.js";
import { recompute } from "./call/recompute.js";
import type { RedisClient } from "./link/redis-client.js";
import { RedisFault } from "./link/redis-link.js";
import { RedisLinks } from "./link/redis-links.js";
import type { Runtime } from "./runtime.js";
import { systemRuntime } from "./runtime.js";
import { ServerClock } from "./link/server-clock.js";
import { untilAborted } from "./call/until-aborted.js";
import type { ValueCodec } from "./call/value-codec.js";
import { createValueCodec } from "./call/value-codec.js";
import { WakeUp } from "./protocol/wake-up.js";

/** One `getOrSet` under way. */
interface Call {
  readonly key: string;
  readonly ttl: Source["ttl"];
  readonly recompute: Source["recompute"];
  readonly options: ResolvedCallOptions;
  /** When it began, on the line of moments. */
  readonly began: number;
  /** When it first found nothing to serve, by the monotonic clock: its patience counts from there. */
  askedMs: number | undefined;
}

/** An entry that may be served, with this caller's own copy of the value. */
interface Found {
  readonly entry: Entry;
  readonly value: unknown;
}

/**
 * Cache-aside for Redis without the stampede: when a hot key expires, one caller in the whole fleet rebuilds it.
 *
 * @example
 * ```ts
 * const cache = new CacheFence(new Redis(), { namespace: "app:" });
 * const user = await cache.getOrSet(`user:${id}`, 60, () => loadUser(id)); // fresh for 60 seconds
 * await cache.invalidate(`user:${id}`);
 * ```
 */
export class CacheFence {
  readonly #options: ResolvedOptions;
  readonly #naming: KeyNaming;
  readonly #codec: ValueCodec;
  readonly #runtime: Runtime;
  readonly #reporter = new Reporter();
  readonly #links: RedisLinks;
  readonly #clock: ServerClock;
  readonly #reader: EntryReader;
  readonly #writer: GuardedWriter;
  readonly #wakeUp: WakeUp;
  readonly #lock: RebuildLock;
  readonly #tools: FlightTools;

  // The line of moments: calls begin on it, and what they are served with stands for a moment on it. See Outcome.
  #moment = 0;
  // Key -> the flight that a call may join. Added in the turn in which it begins; removed when it has ended, lost its
  // lock, or outlasted the patience of its joiners, and only by itself.
  readonly #flights = new Map<string, Flight>();
  // Everything under way, joinable or not.
  readonly #underWay = new Set<Flight>();

  /**
   * @param redis - an ioredis `Redis` or `Cluster` (5 or 6), or a client with the same commands. It is never changed;
   * connections of the library's own are duplicates of it.
   * @throws TypeError or RangeError that names the option, what is allowed, and what came.
   */
  constructor(redis: RedisClient, options?: CacheFenceOptions);
  /** @internal */
  constructor(redis: RedisClient, options: CacheFenceOptions | undefined, runtime: Runtime);
  constructor(redis: RedisClient, options?: CacheFenceOptions, runtime: Runtime = systemRuntime) {
    checkClient(redis);
    this.#options = resolveOptions(options);
    const { namespace, serializer, deserializer, redisTimeoutMs, leaseMs } = this.#options;
    this.#runtime = runtime;
    this.#naming = new KeyNaming(redis, namespace);
    this.#codec = createValueCodec(serializer, deserializer);
    this.#links = new RedisLinks(redis, redisTimeoutMs, runtime, () => {
      this.#clock.distrust();
    });
    this.#clock = new ServerClock(this.#links.any, runtime);
    this.#reader = new EntryReader(this.#links, this.#clock, this.#naming);
    this.#writer = new GuardedWriter(redis, redisTimeoutMs, runtime);
    this.#wakeUp = new WakeUp(redis, redisTimeoutMs, runtime);
    this.#lock = new RebuildLock(this.#links, this.#writer, this.#reader, runtime, leaseMs);
    this.#tools = {
      lock: this.#lock,
      reader: this.#reader,
      clock: this.#clock,
      wakeUp: this.#wakeUp,
      runtime,
      reporter: this.#reporter,
      waitForLockMs: this.#options.waitForLockMs,
      throwsOnRedisError: this.#options.throwsOnRedisError,
      moment: () => this.#moment,
    };
  }

  /**
   * The cached value, or the one that `recompute` makes.
   *
   * - Hit: the stored value, after one round trip.
   * - Early refresh (XFetch: the value is valid, but not for long): one caller in the fleet recomputes and gets the new
   *   value (with `earlyRefresh: "background"` the old one at once); all others get the old one at once.
   * - Stale (past its expiry, within `staleFor`): the same.
   * - Miss: one caller in the fleet recomputes, the others wait for it, at most `2 * waitForLock` from when they asked,
   *   and then take over. Callers in one process wait as one. If the recompute fails, its lock is freed first (at most
   *   `redisTimeout`), and one waiter of another process tries next.
   * - Redis down: see {@link CacheFenceOptions.onRedisError}.
   *
   * A recompute must not ask for its own key: it would wait for itself.
   *
   * Every caller gets an object of its own, read back from the stored form, whether it was a hit or a miss.
   *
   * @param key - non-empty; stored under `namespace + key`
   * @param ttl - lifetime in seconds, > 0, at most 1e11; or a function that takes it from the value, where 0 means: do
   * not cache this one (it still serves everybody who joined)
   * @param recompute - makes the value; its `signal` aborts at `recomputeTimeout`
   * @throws RecomputeError if `recompute` failed (also that of an early refresh, unless `staleFor` or `"background"`
   * applies); RecomputeTimeoutError; SerializationError; CacheFenceError if the key or its lock's name holds something
   * that is not cachefence's; the Redis error under `onRedisError: "throw"`, and where an ACL denies the key;
   * TypeError or RangeError for bad arguments, before anything is sent, and the same for what a `ttl` function returned;
   * the `signal`'s reason.
   */
  getOrSet<T>(
    key: string,
    ttl: number | ((value: T) => number),
    recompute: (context: RecomputeContext) => T | Promise<T>,
    options?: GetOrSetOptions,
  ): Promise<T> {
    let call: Call;
    try {
      checkKey(key);
      checkTtl(ttl);
      checkRecompute(recompute);
      const resolved = resolveCallOptions(options, this.#options.perCall);
      call = { key, ttl, recompute, options: resolved, began: ++this.#moment, askedMs: undefined };
    } catch (error) {
      return Promise.reject(error instanceof Error ? error : new Error(String(error)));
    }
    const { signal } = call.options;
    const answer = signal === undefined ? this.#answer(call) : untilAborted(signal, () => this.#answer(call));
    return answer as Promise<T>;
  }

  // The algorithm. A call comes back here when the flight that it joined ended with nothing that it may use.
  async #answer(call: Call): Promise<unknown> {
    try {
      const stored = await this.#reader.readInTick(call.key);
      if (!this.#clock.isSettled) await this.#clock.settle();
      // A caller that has left meanwhile wants no rebuild. Nobody hears of it: its promise is settled.
      call.options.signal?.throwIfAborted();
      const nowSeconds = this.#clock.nowSeconds();
      const found = this.#servable(call, stored, nowSeconds);
      if (found === undefined) return await this.#fill(call, stored === "corrupt" ? undefined : stored);
      if (!shouldRefreshEarly(found.entry, call.options.beta, nowSeconds, this.#runtime.random())) {
        return this.#serve(call, found, nowSeconds);
      }
      return await this.#refresh(call, found);
    } catch (error) {
      // Only the read fails so: a flight goes on without Redis by itself.
      if (error instanceof RedisFault) return this.#answerWithoutRedis(call, error);
      throw await this.#explain(error, call.key);
    }
  }

  /** Redis failing is like finding nothing, unless callers are to know. */
  #answerWithoutRedis(call: Call, fault: RedisFault): Promise<unknown> {
    // Not reported here: the flight meets the same failure.
    if (!this.#options.throwsOnRedisError) return this.#fill(call, undefined);
    const error = fault.toError(call.key);
    this.#reporter.report("cachefence:redis-error", { key: call.key, error });
    throw error;
  }

  /** The value, if it can be read and is not too old even for this call's `staleFor`. */
  #servable({ key, options }: Call, stored: StoredEntry, nowSeconds: number): Found | undefined {
    if (stored === undefined) return undefined;
    try {
      if (stored === "corrupt") throw new TypeError("delta or expiry is no number");
      if (nowSeconds >= stored.expirySeconds + options.staleForSeconds) return undefined;
      return { entry: stored, value: this.#codec.decode(key, stored.value) };
    } catch (error) {
      this.#reporter.report("cachefence:corrupt-entry", { key, error });
      return undefined;
    }
  }

  #serve({ key }: Call, { entry, value }: Found, nowSeconds = this.#clock.nowSeconds()): unknown {
    const remaining = entry.expirySeconds - nowSeconds;
    if (remaining > 0) this.#reporter.hit(key, remaining, entry.deltaSeconds);
    else this.#reporter.report("cachefence:stale-serve", { key, age: -remaining });
    return value;
  }

  /** Nothing to serve: joins the flight of this process, or launches one. */
  async #fill(call: Call, known: Entry | undefined): Promise<unknown> {
    if (call.askedMs === undefined) {
      call.askedMs = this.#runtime.monotonicMs();
      this.#reporter.report("cachefence:miss", { key: call.key });
    }
    const flight = this.#flights.get(call.key);
    if (flight === undefined) return this.#land(call, await this.#launch(call, "fill", known).outcome);
    this.#reporter.coalesced();
    return this.#land(call, await flight.forJoiners);
  }

  /** The value at hand is due: one caller in the fleet rebuilds it, the others keep it. */
  async #refresh(call: Call, found: Found): Promise<unknown> {
    if (this.#flights.has(call.key)) return this.#serve(call, found);
    const flight = this.#launch(call, "refresh", found.entry);
    if (call.options.refreshesInBackground) return this.#serve(call, found);
    try {
      const outcome = await flight.outcome;
      return outcome === undefined ? this.#serve(call, found) : await this.#land(call, outcome);
    } catch (error) {
      const { staleForSeconds } = call.options;
      const isTooOld = this.#clock.nowSeconds() >= found.entry.expirySeconds + staleForSeconds;
      if (staleForSeconds === 0 || isTooOld) throw error;
      return this.#serve(call, found);
    }
  }

  /** A flight's outcome, if this call may use it and can read it. If not, it asks again. */
  async #land(call: Call, outcome: Outcome | undefined): Promise<unknown> {
    if (outcome === undefined || call.began > outcome.asOf) return this.#answer(call);
    if (outcome.entry === undefined) throw outcome.failure;
    try {
      return this.#codec.decode(call.key, outcome.entry.value);
    } catch (error) {
      if (outcome.isOwn) throw error;
      // Stored by another process, in a form that this one does not know.
      return this.#answer(call);
    }
  }

  #launch(call: Call, purpose: Purpose, known: Entry | undefined): Flight {
    const { key, options } = call;
    const source = { key, ttl: call.ttl, recompute: call.recompute, timeoutSeconds: options.recomputeTimeoutSeconds };
    // Not called before the flight is made: what calls it waits for Redis or a timer first.
    const close = (): void => {
      if (this.#flights.get(key) === flight) this.#flights.delete(key);
    };
    const flight = new Flight(this.#tools, this.#naming.namesOf(key), {
      purpose,
      known,
      askedMs: call.askedMs ?? this.#runtime.monotonicMs(),
      staleForSeconds: options.staleForSeconds,
      recompute: () => recompute(source, this.#codec, this.#runtime),
      closeToJoiners: close,
    });
    this.#flights.set(key, flight);
    this.#underWay.add(flight);
    flight.outcome.then(close, close);
    void flight.end.then(() => this.#underWay.delete(flight));
    return flight;
  }

  /** What a caller is shown of an error inside. */
  async #explain(error: unknown, key: string): Promise<unknown> {
    if (error instanceof CacheFenceError || !(error instanceof Error && error.message.includes("WRONGTYPE")))
      return error;
    try {
      return await this.#lock.foreignKeyError(this.#naming.namesOf(key));
    } catch {
      return error;
    }
  }

  /**
   * Removes the values of these keys, any number, and fences them: once it has resolved, no `getOrSet` that starts later,
   * in any process, gets a value whose recompute started before, or its failure. The store of a rebuild in flight is refused, and callers
   * that joined it since ask again. (R. Nishtala et al., "Scaling Memcache at Facebook", NSDI 2013, section 3.2.1.)
   *
   * Waits at most `redisTimeout`. If one key fails, the others are done all the same.
   *
   * @throws the Redis error, whatever `onRedisError` says: the fence may not have happened, and the caller must know;
   * CacheFenceError if a key or its lock's name holds something that is not cachefence's: it is not removed; TypeError.
   */
  async invalidate(...keys: string[]): Promise<void> {
    for (const key of keys) checkKey(key);
    await this.#fence(keys, (names) => this.#lock.remove(names));
  }

  /**
   * Primes or overwrites a value, and fences the key as {@link CacheFence.invalidate} does: no rebuild in flight
   * overwrites it. Its delta is 0, so XFetch does not refresh it before it expires; the next rebuild measures one.
   *
   * One that has rejected may still happen later, when the client sends it again after an outage, and then overwrites what
   * came in between: `invalidate` the key once Redis is back. (A set in two steps, fenced like a rebuild, would never be
   * late; but either its readers miss between the steps, or a refused second step leaves the value from before.)
   *
   * Waits at most `redisTimeout`; the first of a process also for Redis' clock.
   *
   * @param ttl - lifetime in seconds, > 0, at most 1e11; Redis keeps the entry for `ttl + staleFor` of the instance
   * @throws SerializationError; TypeError or RangeError for a bad key or ttl; otherwise as {@link CacheFence.invalidate}
   */
  async set(key: string, ttl: number, value: unknown): Promise<void> {
    checkKey(key);
    const ttlSeconds = checkLifetime(ttl);
    const keepMs = wholeMs(ttlSeconds + this.#options.perCall.staleForSeconds);
    const bytes = this.#codec.encode(key, value);
    await this.#fence([key], async (names) => {
      if (!this.#clock.isSettled) await this.#clock.settle();
      const entry = { value: bytes, deltaSeconds: 0, expirySeconds: this.#clock.expiryAfter(ttlSeconds) };
      return this.#lock.overwrite(names, entry, keepMs);
    });
  }

  async #fence(keys: readonly string[], fenceOff: (names: KeyNames) => Promise<void>): Promise<void> {
    const done = keys.map(async (key) => {
      try {
        await fenceOff(this.#naming.namesOf(key));
      } catch (error) {
        const shown = error instanceof RedisFault ? error.toError(key) : await this.#explain(error, key);
        this.#reporter.report("cachefence:redis-error", { key, error: shown });
        throw shown;
      }
    });
    const failed = (await Promise.allSettled(done)).find((one) => one.status === "rejected");
    if (failed !== undefined) throw failed.reason;
  }

  /** Counters since construction. */
  stats(): CacheFenceStats {
    return this.#reporter.stats();
  }

  /**
   * Resolves when no rebuild of this process is under way, those in the background and those whose callers have aborted
   * among them: a process may then close its client and exit without wasting one. Rebuilds that start meanwhile are waited
   * for too. Never rejects.
   */
  async idle(): Promise<void> {
    while (this.#underWay.size > 0) await Promise.all([...this.#underWay].map((flight) => flight.end));
  }

  /**
   * Closes the library's own connections, never the caller's client. Optional: they do not keep a process alive. The
   * cache still works afterwards; waiters then poll. Idempotent.
   */
  // eslint-disable-next-line @typescript-eslint/require-await -- a promise, so that closing may take time one day
  async close(): Promise<void> {
    this.#wakeUp.close();
    this.#writer.close();
    this.#links.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}
