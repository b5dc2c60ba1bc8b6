import type { Many } from "./call/batch.js";
import { Batch } from "./call/batch.js";
import type { CachedEntry, ManyDefinition, OneDefinition } from "./call/definition.js";
import { Defined } from "./defined.js";
import { shouldRefreshEarly } from "./call/early-refresh.js";
import type { RecomputeContext, Recomputed, Source } from "./call/recompute.js";
import { recompute as callSource } from "./call/recompute.js";
import { untilAborted } from "./call/until-aborted.js";
import type { StoredValue } from "./call/stored-value.js";
import type { ValueCodec } from "./call/value-codec.js";
import { createValueCodec } from "./call/value-codec.js";
import { asError, withKey } from "./errors.js";
import type { CacheFenceStats } from "./events.js";
import { Callers, Reporter } from "./events.js";
import type { RedisClient } from "./link/redis-client.js";
import { RedisFault } from "./link/redis-link.js";
import type { Found, Look, Looker } from "./look/found.js";
import { Looks } from "./look/looks.js";
import { Copies } from "./memory/copies.js";
import { Leases } from "./memory/leases.js";
import type {
  CacheFenceOptions,
  GetOrSetManyOptions,
  GetOrSetOptions,
  IdleOptions,
  PeekOptions,
  ResolvedCallOptions,
  ResolvedOptions,
  SetOptions,
} from "./options.js";
import {
  checkClient,
  checkKey,
  checkLifetime,
  checkRecompute,
  checkTtl,
  keysOf,
  resolveCallOptions,
  resolveIdleOptions,
  resolveManyOptions,
  resolveOptions,
  resolvePeekOptions,
  resolveSetOptions,
  staleForSeconds,
  wholeMs,
} from "./options.js";
import { Conversation } from "./protocol/conversation.js";
import type { Way } from "./protocol/conversation.js";
import type { Entry } from "./protocol/entry.js";
import { explainForeignType } from "./protocol/foreign-keys.js";
import type { KeyNames } from "./protocol/key-names.js";
import { KeyNaming } from "./protocol/key-names.js";
import { Reader } from "./protocol/reader.js";
import { RebuildLock } from "./protocol/rebuild-lock.js";
import type { EncodedEntry } from "./protocol/steps.js";
import type { Passenger } from "./rebuild/flight.js";
import { Flights } from "./rebuild/flights.js";
import type { Outcome } from "./rebuild/outcome.js";
import { givesUpMs } from "./rebuild/patience.js";
import type { Runtime } from "./runtime.js";
import { bound, systemRuntime } from "./runtime.js";

/** One `getOrSet` under way. */
interface Call extends Looker {
  ttl: Source["ttl"];
  recompute: Source["recompute"];
  /** Called as soon as it is known that its own recompute is not called now. */
  onWaiting: (() => void) | undefined;
  /** When it began, on the line of moments; the last of them, where it is many. */
  began: number;
  /**
   * When it began, by the monotonic clock; its patience counts from there, its own read included. It is the beginning of its
   * turn, for a clock at each hit would be felt: so it waits less than it may by as long as that turn has run, and never more.
   */
  askedMs: number;
  /** What it has found already: with the others of its list or crowd, or a copy that is due. */
  look: Look | undefined;
  /** Those that came after it in its tick and are like it. */
  crowd: Crowd | undefined;
  /** The copy that it is to be served has been drawn for, and is due. */
  isDue: boolean;
  /** It has been served, and its refresh goes on in the background. */
  isRefreshing: boolean;
}

/**
 * The callers of one tick and key with the default options, but for the first of them. They look as one and wait as one; each
 * has its own draw and its own value. Only an error is one and the same for all.
 *
 * All began before anything was seen of their read, so what stands for the last of them stands for each; and all asked at once,
 * so they give up at once, and then act each for itself. The first is not among them: the rebuild may be its own, which it
 * cannot give up.
 */
interface Crowd {
  readonly call: Call & { readonly callers: Callers };
  readonly end: Promise<CrowdEnd>;
}

/** What a crowd has found, or else what came of the rebuild that it has waited for; neither: each is to ask again. */
interface CrowdEnd {
  readonly look: Look | undefined;
  readonly outcome: Outcome | undefined;
  /** Nobody has been given the value of the look yet. */
  isUntaken: boolean;
}

// So many fences are under way at once: more would only wait for their own replies.
const FENCES_AT_ONCE = 1000;

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
  readonly #conversation: Conversation;
  readonly #way: Way;
  readonly #naming: KeyNaming;
  readonly #codec: ValueCodec;
  readonly #runtime: Runtime;
  readonly #reporter: Reporter;
  readonly #reader: Reader<StoredValue>;
  readonly #copies: Copies | undefined;
  readonly #looks: Looks;
  readonly #flights: Flights;
  #isClosed = false;

  // The line of moments: calls begin on it, and what they are served with stands for a moment on it. See Outcome.
  #moment = 0;

  /**
   * @param redis - an ioredis `Redis` or `Cluster` (5 or 6), or a client with the same commands. It is never changed;
   * connections of the library's own are duplicates of it, one for messages and one for WATCH, shared by all caches over it.
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
    this.#reporter = new Reporter(namespace);
    this.#conversation = Conversation.over(redis, runtime);
    this.#way = this.#conversation.way(redisTimeoutMs);
    this.#conversation.join(this);
    this.#naming = new KeyNaming(redis, namespace, this.#conversation);
    this.#codec = createValueCodec(serializer, deserializer, { freezes: this.#options.freezesValues });
    const open = (key: string, bytes: Buffer): StoredValue => this.#codec.open(key, bytes);
    this.#reader = new Reader(this.#way, open);
    this.#copies = this.#makeCopies();
    this.#looks = new Looks({
      way: this.#way,
      naming: this.#naming,
      reader: this.#reader,
      copies: this.#copies,
      reporter: this.#reporter,
      runtime,
      options: this.#options,
    });
    this.#flights = new Flights({
      lock: new RebuildLock(this.#conversation, this.#way, leaseMs),
      reader: this.#reader,
      open,
      way: this.#way,
      mailbox: this.#conversation.mailbox,
      runtime,
      reporter: this.#reporter,
      waitForLockMs: this.#options.waitForLockMs,
      throwsOnRedisError: this.#options.throwsOnRedisError,
      mayListen: () => !this.#isClosed,
      moment: () => this.#moment,
      onNewEntry: (names) => {
        this.#flights.resume(names.key);
        this.#copies?.forget(names);
      },
    });
  }

  #makeCopies(): Copies | undefined {
    const { memory, memoryLeaseMs } = this.#options;
    if (memory === undefined) return undefined;
    // Not `this`: what all caches over a client share knows of the copies, and must not keep a cache that nobody has any more.
    const reporter = this.#reporter;
    return new Copies(this.#conversation, this.#way, {
      store: memory,
      leaseMs: memoryLeaseMs,
      reader: this.#codec,
      prefix: this.#naming.prefix,
      onDropped: (key) => reporter.report("cachefence:copy-dropped", { key }),
      onUnavailable: (reason) => reporter.report("cachefence:no-memory", { reason }),
    });
  }

  /**
   * The cached value, or the one that `recompute` makes.
   *
   * - Hit: the stored value, after one round trip; with `memory`, from this process where it has a copy.
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
   * Every caller gets an object of its own, read back from the stored form, whether it was a hit or a miss; with
   * `values: "frozen"`, one that all share.
   *
   * @param key - non-empty; stored under `namespace + key`
   * @param ttl - lifetime in seconds, > 0, at most 1e11; or a function that takes it from the value, where 0 means: do
   * not cache this one (it still serves everybody who joined)
   * @param recompute - makes the value; its `signal` aborts at `recomputeTimeout`
   * @throws RecomputeError if `recompute` failed (also that of an early refresh, unless `staleFor` or `"background"`
   * applies); RecomputeTimeoutError; SerializationError; CacheFenceError if the key or a name beside it holds something
   * that is not cachefence's; the Redis error under `onRedisError: "throw"`, and where an ACL denies the key;
   * TypeError or RangeError for bad arguments, before anything is sent, and the same for what a `ttl` function returned;
   * the `signal`'s reason.
   */
  getOrSet<T>(
    key: string,
    ttl: number | ((value: T) => number),
    recompute: (context: RecomputeContext) => T | PromiseLike<T>,
    options?: GetOrSetOptions<T>,
  ): Promise<T> {
    try {
      const resolved = this.#check(key, ttl, recompute, options);
      const copy = resolved.signal?.aborted === true ? undefined : this.#looks.copy(key, resolved);
      const isDue = copy !== undefined && this.#isDue(copy, resolved);
      if (copy !== undefined && !isDue) return Promise.resolve(this.#hit(key, copy, copy.atSeconds) as T);
      return this.#begin(key, ttl, recompute, resolved, copy, valueOf) as Promise<T>;
    } catch (error) {
      return Promise.reject(asError(error));
    }
  }

  /**
   * {@link CacheFence.getOrSet} that resolves to the value with what is known of it: how long it is still good, how long its
   * recompute took, and where it was found.
   */
  getOrSetEntry<T>(
    key: string,
    ttl: number | ((value: T) => number),
    recompute: (context: RecomputeContext) => T | PromiseLike<T>,
    options?: GetOrSetOptions<T>,
  ): Promise<CachedEntry<T>> {
    try {
      const resolved = this.#check(key, ttl, recompute, options);
      const copy = resolved.signal?.aborted === true ? undefined : this.#looks.copy(key, resolved);
      const isDue = copy !== undefined && this.#isDue(copy, resolved);
      if (copy !== undefined && !isDue)
        return Promise.resolve(this.#served(key, copy, copy.atSeconds) as CachedEntry<T>);
      return this.#begin(key, ttl, recompute, resolved, copy, same) as Promise<CachedEntry<T>>;
    } catch (error) {
      return Promise.reject(asError(error));
    }
  }

  /**
   * {@link CacheFence.getOrSet} for a list: all reads leave at once, all claims of what is missing, and all stores; and one
   * `recompute` makes what this call has won. What another process or another call is rebuilding is waited for, and asked by
   * nobody else; items won later, because their holder has failed or died, make a later call.
   *
   * @param items - each is asked for once, however often it is there
   * @param keyOf - the key of an item
   * @param ttl - as in `getOrSet`; a function is given the item too
   * @param recompute - makes the values of these items: a Map from item to value, where a missing item is `undefined`, a
   * value like any other; or an array in the order of the items. An `Error` in it fails that item alone.
   * @returns a Map from item to value, in the order of `items`
   * @throws the error of the first item, in order, that failed, as in `getOrSet`; what succeeded is cached all the same
   */
  async getOrSetMany<I, T>(
    items: Iterable<I>,
    keyOf: (item: I) => string,
    ttl: number | ((value: T, item: I) => number),
    recompute: (items: I[], context: RecomputeContext) => Many<I, T> | PromiseLike<Many<I, T>>,
    options?: GetOrSetManyOptions<I, T>,
  ): Promise<Map<I, T>> {
    checkTtl(ttl);
    checkRecompute(recompute);
    checkRecompute(keyOf, "keyOf");
    const { shared, tagsOf } = resolveManyOptions(options, this.#options.perCall);
    const each = [...new Set(items)];
    const ofOne = { ...shared, recomputeTimeoutSeconds: undefined };
    const hold = (): void => this.#way.links.any.holdBack();
    const calls = each.map((item): Call => {
      const key = keyOf(item);
      checkKey(key);
      const names = this.#naming.namesOf(key);
      const call = this.#call(names, ttl, recompute, tagsOf === undefined ? ofOne : { ...ofOne, tags: tagsOf(item) });
      call.hold = hold;
      return call;
    });
    const looking = this.#looks.all(calls);
    const looks = await (shared.signal === undefined ? looking : untilAborted(shared.signal, () => looking));
    const values = new Map<I, T>();
    const missing: { readonly item: I; readonly call: Call; readonly look: Look | Error }[] = [];
    each.forEach((item, index) => {
      const call = calls[index]!;
      const look = looks[index]!;
      const hit = look instanceof Error ? undefined : look.found;
      // Its draw is made, and said: refresh.
      call.isDue = hit !== undefined && this.#isDue(hit, call.options);
      const isServed = hit !== undefined && !call.isDue;
      // In its place, whatever it will be.
      values.set(item, (isServed ? this.#hit(call.key, hit, hit.atSeconds) : undefined) as T);
      if (!isServed) missing.push({ item, call, look });
    });
    if (missing.length === 0) return values;
    const source = {
      recompute: bound(recompute),
      timeoutSeconds: shared.recomputeTimeoutSeconds,
      signal: shared.signal,
    };
    const batch = new Batch(
      missing.map(({ item }) => item),
      source,
      this.#runtime,
    );
    batch.onAnswer = hold;
    const answering = missing.map(({ item, call, look }) => {
      call.recompute = () => batch.ask(item);
      if (typeof ttl === "function") call.ttl = (value: T) => ttl(value, item);
      call.onWaiting = () => batch.decided(item);
      return this.#answerInList(call, look);
    });
    const answers = await Promise.allSettled(answering);
    answers.forEach((one, index) => {
      if (one.status === "rejected") throw one.reason;
      values.set(missing[index]!.item, one.value as T);
    });
    return values;
  }

  async #answerInList(call: Call, look: Look | Error): Promise<unknown> {
    try {
      if (look instanceof Error) throw await explainForeignType(look, this.#way, call.names);
      call.look = look;
      return await this.#answer(call, valueOf);
    } finally {
      if (!call.isRefreshing) call.onWaiting?.();
    }
  }

  /**
   * Key, function and options in one place.
   *
   * @example
   * ```ts
   * const products = cache.define({
   *   key: (id: number) => `product:${id}`,
   *   recomputeMany: (ids, { signal }) => db.products(ids, signal),
   *   ttl: (product) => (product ? 60 : 5),
   * });
   * await products.getMany([1, 2, 3]);
   * ```
   *
   * The value's type is that of the function. TypeScript infers from left to right: where neither that function's parameters
   * nor `ttl`'s have types, the function comes first.
   */
  // Two signatures, not one of a union: from that, TypeScript infers nothing.
  define<A, T>(definition: OneDefinition<A, T>): Defined<A, T>;
  // eslint-disable-next-line @typescript-eslint/unified-signatures -- see above
  define<A, T>(definition: ManyDefinition<A, T>): Defined<A, T>;
  define<A, T>(definition: OneDefinition<A, T> | ManyDefinition<A, T>): Defined<A, T> {
    return new Defined(this, definition);
  }

  #check(key: string, ttl: unknown, recompute: unknown, options: GetOrSetOptions | undefined): ResolvedCallOptions {
    checkKey(key);
    checkTtl(ttl);
    checkRecompute(recompute);
    return resolveCallOptions(options, this.#options.perCall);
  }

  /**
   * What no copy answers: a call of its own, or one more of a crowd.
   *
   * @param due - a copy for which the draw has been made, and says: refresh
   * @param as - what the caller is given of the entry
   */
  #begin<R>(
    key: string,
    ttl: unknown,
    recompute: unknown,
    options: ResolvedCallOptions,
    due: Found | undefined,
    as: (entry: CachedEntry<unknown>) => R,
  ): Promise<R> {
    const names = this.#naming.namesOf(key);
    // With options of its own it may leave before the others, or find what they do not.
    const isLikeOthers = due === undefined && options === this.#options.perCall;
    const first = isLikeOthers ? (this.#reader.firstInTick(names) as Call | undefined) : undefined;
    if (first !== undefined && !first.hasLooked) {
      const crowd = (first.crowd ??= this.#gather(names));
      crowd.call.callers.add();
      crowd.call.began = ++this.#moment;
      return crowd.end.then((end) => this.#disperse(crowd, end, ttl, recompute, as));
    }
    const call = this.#call(names, ttl, recompute, options);
    if (due !== undefined) {
      call.tags = due.entry.tags;
      call.look = { found: due, atHand: due.entry };
      call.isDue = true;
    }
    return this.#answer(call, as);
  }

  /** Its end is never without somebody who waits for it: whoever gathers a crowd joins it in the same turn. */
  #gather(names: KeyNames): Crowd {
    const call = { ...this.#call(names, 1, ignore, this.#options.perCall), callers: new Callers() };
    return { call, end: this.#endOf(call) };
  }

  async #endOf(call: Call): Promise<CrowdEnd> {
    try {
      const look = await this.#looks.ask(call);
      if (look.found !== undefined) return { look, outcome: undefined, isUntaken: true };
      const outcome = await this.#board(call, undefined, look.atHand, ignore);
      if (outcome?.madeBy !== "this process, without Redis") this.#looks.reportFault(call);
      if (outcome !== undefined && outcome.entry === undefined) throw outcome.failure;
      return { look: undefined, outcome, isUntaken: false };
    } catch (error) {
      throw await explainForeignType(error, this.#way, call.names);
    }
  }

  /** One of a crowd, at its end. */
  #disperse<R>(
    { call: shared }: Crowd,
    end: CrowdEnd,
    ttl: unknown,
    recompute: unknown,
    as: (entry: CachedEntry<unknown>) => R,
  ): R | Promise<R> {
    const { look, outcome } = end;
    const { names, key, options, began, askedMs } = shared;
    let found = look?.found;
    let isDue = false;
    if (found !== undefined) {
      if (!end.isUntaken) found = this.#looks.servable(key, found.entry, options, found.source, found.atSeconds);
      end.isUntaken = false;
      isDue = found !== undefined && this.#isDue(found, options);
      if (found !== undefined && !isDue) return as(this.#served(key, found, found.atSeconds));
    } else if (outcome?.entry !== undefined) {
      const landed = this.#landed(outcome, outcome.entry);
      if (landed !== undefined) return as(landed);
    }
    const call = this.#call(names, ttl, recompute, options);
    call.began = began;
    call.askedMs = askedMs;
    call.hasBoarded = look === undefined;
    call.look = look && { found, atHand: look.atHand };
    call.isDue = isDue;
    return this.#run(call, as, ignore);
  }

  #call(names: KeyNames, ttl: unknown, recompute: unknown, options: ResolvedCallOptions): Call {
    return {
      key: names.key,
      names,
      options,
      ttl: ttl as Source["ttl"],
      recompute: recompute as Source["recompute"],
      began: ++this.#moment,
      tags: "",
      askedMs: this.#way.links.any.tick().sentMs,
      hasBoarded: false,
      onWaiting: undefined,
      hold: undefined,
      look: undefined,
      hasLooked: false,
      crowd: undefined,
      callers: undefined,
      isDue: false,
      isRefreshing: false,
      isOnlyLooking: false,
      fault: undefined,
    };
  }

  /** @param as - what the caller is given of the entry */
  #answer<R>(call: Call, as: (entry: CachedEntry<unknown>) => R): Promise<R> {
    const { signal } = call.options;
    if (signal === undefined) return this.#serve(call, as, ignore);
    return untilAborted(signal, (onLeaving) => this.#serve(call, as, onLeaving));
  }

  /** The first look, and all that a hit from Redis is: one promise, where a loop of awaits has four. */
  #serve<R>(call: Call, as: (entry: CachedEntry<unknown>) => R, onLeaving: (leave: () => void) => void): Promise<R> {
    if (call.look !== undefined) return this.#run(call, as, onLeaving);
    return this.#looks.fetch(call).then(
      (stored): R | Promise<R> => {
        const look = this.#looks.judge(call, stored);
        const { found } = look;
        // A caller that has left meanwhile has no hit. Nobody hears of it: its promise is settled.
        call.options.signal?.throwIfAborted();
        call.isDue = found !== undefined && this.#isDue(found, call.options);
        if (found !== undefined && !call.isDue) return as(this.#served(call.key, found, found.atSeconds));
        call.look = look;
        return this.#run(call, as, onLeaving);
      },
      async (error: unknown): Promise<R> => {
        const look = this.#looks.unseen(call, error);
        if (look instanceof Error) throw await explainForeignType(look, this.#way, call.names);
        call.look = look;
        return this.#run(call, as, onLeaving);
      },
    );
  }

  // The algorithm. A call looks again when the flight that it boarded ended with nothing that it may use.
  async #run<R>(
    call: Call,
    as: (entry: CachedEntry<unknown>) => R,
    onLeaving: (leave: () => void) => void,
  ): Promise<R> {
    try {
      for (;;) {
        const { found, atHand } = call.look ?? (await this.#looks.look(call));
        call.look = undefined;
        // A caller that has left meanwhile wants no rebuild. Nobody hears of it: its promise is settled.
        call.options.signal?.throwIfAborted();
        const isDue = call.isDue || (found !== undefined && this.#isDue(found, call.options));
        call.isDue = false;
        if (found !== undefined && !isDue) return as(this.#served(call.key, found, found.atSeconds));
        const outcome = await this.#board(call, found, atHand, onLeaving);
        if (outcome?.madeBy !== "this process, without Redis") this.#looks.reportFault(call);
        if (outcome === undefined) {
          // A refresh that another makes, or that is made behind this call.
          if (found !== undefined) return as(this.#served(call.key, found));
        } else if (outcome.entry === undefined) {
          if (!this.#isStillServed(found)) throw outcome.failure;
          return as(this.#served(call.key, found));
        } else {
          const landed = this.#landed(outcome, outcome.entry);
          if (landed !== undefined) return as(landed);
        }
      }
    } catch (error) {
      throw await explainForeignType(error, this.#way, call.names);
    }
  }

  /** A refresh has failed: does `staleFor` apply to the value at hand? Without it, whoever refreshes gets the error. */
  #isStillServed(found: Found | undefined): found is Found {
    if (found === undefined) return false;
    const { servableUntilSeconds, entry } = found;
    return servableUntilSeconds > entry.expirySeconds && this.#nowSeconds() < servableUntilSeconds;
  }

  #nowSeconds(): number {
    return this.#way.clock.nowSeconds();
  }

  #isDue({ entry, atSeconds }: Found, { beta }: ResolvedCallOptions): boolean {
    return shouldRefreshEarly(entry, beta, atSeconds, this.#runtime);
  }

  /** Reports a valid or stale value that is served, and returns it. */
  #hit(key: string, { entry, value, source }: Found, nowSeconds: number): unknown {
    const remaining = entry.expirySeconds - nowSeconds;
    if (remaining > 0) this.#reporter.hit(key, remaining, entry.deltaSeconds, source);
    else this.#reporter.report("cachefence:stale-serve", { key, age: -remaining });
    return value;
  }

  #served(key: string, found: Found, nowSeconds = this.#nowSeconds()): CachedEntry<unknown> {
    const remaining = found.entry.expirySeconds - nowSeconds;
    const source = remaining > 0 ? found.source : "stale";
    return { value: this.#hit(key, found, nowSeconds), remaining, delta: found.entry.deltaSeconds, source };
  }

  /**
   * Boards the key's flight, made if there is none. A value that is due is refreshed by one caller in the fleet: the others
   * keep it, and with it everybody, where the refresh is made in the background.
   */
  #board(
    call: Call,
    found: Found | undefined,
    atHand: Entry<StoredValue> | undefined,
    onLeaving: (leave: () => void) => void,
  ): Promise<Outcome | undefined> | undefined {
    const { key, names, began, tags, options, onWaiting, callers } = call;
    const hasFlight = this.#flights.has(key);
    if (found !== undefined && (hasFlight || this.#flights.isPaused(key))) return undefined;
    if (found === undefined && !call.hasBoarded) this.#reporter.report("cachefence:miss", { key }, callers);
    if (found === undefined && hasFlight) this.#reporter.coalesced(callers?.count ?? 1);
    call.hasBoarded = true;
    const passenger: Passenger = {
      began,
      askedMs: call.askedMs,
      givesUpMs: givesUpMs(call.askedMs, this.#options.waitForLockMs),
      isServed: found !== undefined,
      atHand,
      tags,
      fault: call.fault,
      retryAfterMs: options.retryAfterMs,
      servableUntilSeconds: found?.servableUntilSeconds ?? 0,
      recompute: callers === undefined ? bound(() => this.#recompute(call)) : undefined,
      beforeClaim: call.hold,
      onStored:
        tags === undefined
          ? undefined
          : (keepMs) => {
              call.hold?.();
              this.#looks.keepTags(options.tags, tags, keepMs);
            },
      onWaiting,
    };
    if (found === undefined || !options.refreshesInBackground) {
      return this.#flights.board(names, passenger, onLeaving);
    }
    call.isRefreshing = true;
    // Its failure is an event.
    void this.#flights.board(names, passenger).catch(ignore).then(onWaiting);
    return undefined;
  }

  #recompute({ key, ttl, recompute, options }: Call): Promise<Recomputed> {
    const { staleFor, recomputeTimeoutSeconds: timeoutSeconds } = options;
    return callSource({ key, ttl, recompute, staleFor, timeoutSeconds }, this.#codec, this.#runtime);
  }

  /** A flight's value, if this call can read it. If not, it was stored by another process, in a form that is not known here. */
  #landed(outcome: Outcome, entry: Entry<StoredValue>): CachedEntry<unknown> | undefined {
    try {
      const made = outcome.madeBy === "this process, without Redis" ? "source" : "rebuild";
      const source = outcome.wasThere === true ? "redis" : made;
      const remaining = entry.expirySeconds - this.#nowSeconds();
      return { value: entry.value.take(), remaining, delta: entry.deltaSeconds, source };
    } catch (error) {
      if (outcome.madeBy !== "another") throw error;
      return undefined;
    }
  }

  /**
   * What is cached of the key now; `undefined` if there is nothing. Never rebuilds, waits for nobody, draws no early refresh,
   * and counts as no hit. An entry past its expiry is shown while Redis keeps it, with a negative `remaining`.
   *
   * @throws CacheFenceError if the key holds something of another type than cachefence's (a hash of somebody's own is nothing
   * cached); the Redis error under `onRedisError: "throw"`, where else it resolves to `undefined`; TypeError.
   */
  async peek<T>(key: string, options?: PeekOptions): Promise<CachedEntry<T> | undefined> {
    checkKey(key);
    const tags = resolvePeekOptions(options);
    const perCall = { ...this.#options.perCall, tags, staleFor: Infinity };
    const call = { ...this.#call(this.#naming.namesOf(key), 1, ignore, perCall), isOnlyLooking: true };
    const { found } = await this.#looks.look(call).catch(async (error: unknown) => {
      throw await explainForeignType(error, this.#way, call.names);
    });
    this.#looks.reportFault(call);
    if (found === undefined) return undefined;
    const remaining = found.entry.expirySeconds - this.#nowSeconds();
    const source = remaining > 0 ? found.source : "stale";
    return { value: found.value as T, remaining, delta: found.entry.deltaSeconds, source };
  }

  /**
   * Removes the values of these keys, any number, and fences them: once it has resolved, no `getOrSet` that starts later,
   * in any process, gets a value whose recompute started before, or its failure: not from Redis, not from a rebuild in flight,
   * not from a copy in memory. The store of a rebuild in flight is refused, and callers that joined it since ask again.
   * (R. Nishtala et al., "Scaling Memcache at Facebook", NSDI 2013, section 3.2.1.)
   *
   * Waits at most `redisTimeout`, and for processes that hold a copy until they confirm, at most `memoryLease`. If one key
   * fails, the others are done all the same.
   *
   * @param keys - keys, or one iterable of them
   * @throws the Redis error, whatever `onRedisError` says: the fence may not have happened, and the caller must know; an
   * AggregateError where several keys failed, whose `errors` each carry their `key`; CacheFenceError if a key or its lock's
   * name holds something that is not cachefence's: it is not removed; TypeError.
   */
  async invalidate(...keys: readonly string[] | readonly [Iterable<string>]): Promise<void> {
    await this.#fence(keysOf(keys).map((key) => this.#naming.namesOf(key)));
  }

  /**
   * Fences all entries of these tags, at the cost of one key for each tag, however many entries it has: as
   * {@link CacheFence.invalidate} does, and rejects as that does.
   *
   * @param tags - tags, or one iterable of them
   */
  async invalidateTags(...tags: readonly string[] | readonly [Iterable<string>]): Promise<void> {
    await this.#fence(keysOf(tags, "tag").map((tag) => this.#naming.tagNamesOf(tag)));
  }

  /**
   * Primes or overwrites a value, and fences the key as {@link CacheFence.invalidate} does: no rebuild in flight
   * overwrites it. Its delta is 0, so XFetch does not refresh it before it expires; the next rebuild measures one.
   *
   * One that has rejected may still happen later, when the client sends it again after an outage, and then overwrites what
   * came in between: `invalidate` the key once Redis is back. (A set in two steps, fenced like a rebuild, would never be
   * late; but it would be refused by any other fence, and readers in between would miss.)
   *
   * @param ttl - lifetime in seconds, > 0, at most 1e11; Redis keeps the entry for `ttl + staleFor`
   * @throws SerializationError; TypeError or RangeError for a bad key or ttl; otherwise as {@link CacheFence.invalidate}
   */
  async set<T>(key: string, ttl: number, value: T, options?: SetOptions<T>): Promise<void> {
    checkKey(key);
    const ttlSeconds = checkLifetime(ttl);
    const { tags, staleFor } = resolveSetOptions(options, this.#options.perCall);
    const bytes = this.#codec.encode(key, value);
    const keepMs = wholeMs(ttlSeconds + staleForSeconds(staleFor, value));
    await this.#fence([this.#naming.namesOf(key)], async () => {
      const states = await this.#looks.tagStates(tags);
      const { clock } = this.#way;
      if (!clock.isSettled) await clock.settle();
      const expirySeconds = clock.expiryAfter(ttlSeconds);
      this.#looks.keepTags(tags, states, keepMs);
      return { value: bytes, deltaSeconds: 0, expirySeconds, tags: states, keepMs };
    });
  }

  /** Fences these keys, in slices: at most so many at once. */
  async #fence(all: readonly KeyNames[], entry?: () => Promise<EncodedEntry>): Promise<void> {
    const failures: { readonly key: string; readonly error: unknown }[] = [];
    for (let from = 0; from < all.length; from += FENCES_AT_ONCE) {
      const slice = all.slice(from, from + FENCES_AT_ONCE).map(async (names) => {
        try {
          await this.#raise(names, entry);
        } catch (error) {
          failures.push({ key: names.key, error });
        }
      });
      await Promise.all(slice);
    }
    const [first] = failures;
    if (first === undefined) return;
    if (failures.length === 1) throw first.error;
    throw new AggregateError(
      failures.map(({ key, error }) => withKey(error, key)),
      `${String(failures.length)} keys may not have been fenced, the first of them ${JSON.stringify(first.key)}`,
    );
  }

  async #raise(names: KeyNames, entry: (() => Promise<EncodedEntry>) | undefined): Promise<void> {
    const { key } = names;
    const { fences } = this.#conversation;
    try {
      const dropOwnCopy = (): void => {
        this.#flights.resume(key);
        Leases.of(this.#conversation).drop(names.redisKey, true);
      };
      const waitedMs = await fences.raise(this.#way, names, await entry?.(), dropOwnCopy);
      if (waitedMs !== undefined) this.#reporter.report("cachefence:fence-wait", { key, seconds: waitedMs / 1000 });
    } catch (error) {
      const shown =
        error instanceof RedisFault ? error.toError(key) : await explainForeignType(error, this.#way, names);
      this.#reporter.report("cachefence:redis-error", { key, error: shown });
      throw shown;
    }
  }

  /** Counters since construction. */
  stats(): CacheFenceStats {
    return this.#reporter.stats(this.#way.links.health);
  }

  /**
   * Resolves when no rebuild of this process is under way, those in the background and those whose callers have aborted
   * among them: a process may then close its client and exit without wasting one. Rebuilds that start meanwhile are waited
   * for too.
   *
   * @throws the `signal`'s reason, if that aborts first; else it never rejects
   */
  async idle(options?: IdleOptions): Promise<void> {
    const signal = resolveIdleOptions(options);
    const idle = (): Promise<void> => this.#flights.idle();
    await (signal === undefined ? idle() : untilAborted(signal, idle));
  }

  /**
   * Drops the copies in memory and closes the library's own connections, never the caller's client. Optional: they do not
   * keep a process alive, and end with the client. All caches over one client share them: the last to be closed closes them.
   * Resolves when Redis has heard that nothing need be told to this process any more, at the latest after `redisTimeout`;
   * never rejects. This cache still works afterwards; it keeps no copies, and its waiters look now and then. Idempotent.
   */
  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#copies?.close();
    const isLast = this.#conversation.leave(this);
    const leaving = [this.#flights.stopListening()];
    if (isLast) {
      leaving.push(Leases.of(this.#conversation).close());
      this.#conversation.close();
    }
    await Promise.all(leaving);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

function valueOf(entry: CachedEntry<unknown>): unknown {
  return entry.value;
}

function same<T>(entry: T): T {
  return entry;
}

function ignore(): undefined {
  return undefined;
}
