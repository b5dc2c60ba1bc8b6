import type { RedisClient } from "./link/redis-client.js";
import { REQUIRED_COMMANDS } from "./link/redis-client.js";
import type { Range } from "./checks.js";
import { LONGEST_LEASE_MS } from "./protocol/steps.js";
import {
  factorOf,
  oneOf,
  requireFunction,
  requireKnownOptions,
  requireName,
  requireObject,
  requireWellFormed,
  secondsOf,
  typeError,
} from "./checks.js";

/* eslint-disable @typescript-eslint/no-explicit-any -- options for values of any type: what they are is known per call */

/** What one call may set for itself; what it leaves out comes from the instance. */
export interface ServeOptions<T = any> {
  /**
   * Eagerness of early refresh (XFetch), a factor. Higher refreshes earlier; `0` refreshes nothing before it expires.
   * Finite, >= 0.
   *
   * @default 1
   */
  readonly beta?: number | undefined;
  /**
   * How long past its expiry a value may still be served, in seconds: while somebody rebuilds it
   * (stale-while-revalidate: only the caller that rebuilds waits, and with `earlyRefresh: "background"` not even that
   * one), or when its rebuild fails (stale-if-error). Or a function that takes it from the value: a token must not outlive
   * itself, and a "not found" not for minutes. Redis keeps an entry for `ttl + staleFor`, with the `staleFor` of
   * the call that stored it. A stale value is never served past an `invalidate`. `0` serves no stale value.
   * 0 to 1e11.
   *
   * @default 0
   */
  readonly staleFor?: number | ((value: T) => number) | undefined;
  /**
   * Who waits for an early refresh. `"inline"`: the caller that wins it awaits the new value. `"background"`: it gets
   * the value at hand at once, and the rebuild runs behind it; if that fails, the failure is a
   * `cachefence:rebuild-end` event and never an unhandled rejection.
   *
   * @default "inline"
   */
  readonly earlyRefresh?: "inline" | "background" | undefined;
  /**
   * The longest a recompute may take, in seconds. Past it, the `signal` that it was given aborts, the rebuild fails with
   * {@link RecomputeTimeoutError}, and what it returns later is ignored. Left out: no limit. > 0, at most 2147483.
   *
   * @default undefined
   */
  readonly recomputeTimeout?: number | undefined;
  /**
   * The pause after a failed refresh of a value that is still served, in seconds: the next attempt in the whole fleet
   * comes no sooner. A caller that has nothing to serve does not wait for it. `0`: no pause. 0 to 2147483.
   *
   * @default 1
   */
  readonly retryAfter?: number | undefined;
}

/** Options of one `getOrSet`. */
export interface GetOrSetOptions<T = any> extends ServeOptions<T> {
  /**
   * The groups that the entry is in: `invalidateTags` of one of them fences it. All readers of a key name the same tags, in
   * any order; an entry with other tags is a miss. Each must be non-empty and well-formed. Left out: none.
   */
  readonly tags?: readonly string[] | undefined;
  /**
   * Stops this caller's wait: its promise rejects with the signal's `reason`. A rebuild that it started goes on for the
   * others; if it aborts before the rebuild has begun, none is started.
   */
  readonly signal?: AbortSignal | undefined;
}

/** Options of one `getOrSetMany`. */
export interface GetOrSetManyOptions<I, T = any> extends Omit<GetOrSetOptions<T>, "tags"> {
  /** The same tags for all items, or a function that names those of each. */
  readonly tags?: readonly string[] | ((item: I) => readonly string[]) | undefined;
}

/** Options of one `set`. */
export interface SetOptions<T = any> {
  /** The groups that the entry is in, as in {@link GetOrSetOptions.tags}. Left out: none. */
  readonly tags?: readonly string[] | undefined;
  /** As in {@link ServeOptions.staleFor}. Left out: that of the instance. */
  readonly staleFor?: number | ((value: T) => number) | undefined;
}

/** Options of one `peek`. */
export interface PeekOptions {
  /** The tags of the entry, as its other readers name them: an entry with other tags is not found. Left out: none. */
  readonly tags?: readonly string[] | undefined;
}

/** Options of one `idle`. */
export interface IdleOptions {
  /** Stops the wait, not what is waited for: the promise rejects with the signal's `reason`. */
  readonly signal?: AbortSignal | undefined;
}

/** Where a process keeps copies of entries: a `Map`, or anything with its `get`, `set` and `delete`. */
export interface MemoryStore {
  get(key: string): unknown;
  set(key: string, value: any): unknown;
  delete(key: string): unknown;
}

/** Options of a `CacheFence`. Every duration is in seconds; fractions are allowed. */
export interface CacheFenceOptions extends ServeOptions {
  /**
   * Lease of the rebuild lock, in seconds. It is renewed every third of its length while the rebuild runs, so it is the
   * time in which a dead holder is noticed, not a limit on the rebuild. A holder that is stopped for longer than this
   * (a paused process, a blocked event loop) loses its lock, and what it computed is not stored.
   * > 0, at most 2147483.
   *
   * @default 10
   */
  readonly lockTimeout?: number | undefined;
  /**
   * How long a waiter waits for one holder before the rebuild is taken over, in seconds; in all it waits at most twice
   * that, counted from when it asked. Callers that joined a rebuild of their own process give it up twice this long after
   * it began. Everybody who has waited that long takes over, each process for itself: set it above the time that the
   * recompute takes. `0` never waits, not even for a rebuild of the same process. 0 to 1073741.
   *
   * Shorter than `lockTimeout` trades extra rebuilds for lower latency.
   *
   * @default 5
   */
  readonly waitForLock?: number | undefined;
  /**
   * Prefix of every key, before the client's own `keyPrefix` is put in front of both.
   *
   * @default ""
   */
  readonly namespace?: string | undefined;
  /**
   * Value to the bytes that are stored; text is stored as UTF-8. Given together with `deserializer`. Synchronous: a promise
   * is a SerializationError. If it fails, so does the rebuild or the `set`. May get `undefined`, if `recompute` returns
   * that.
   *
   * @default JSON; `undefined` is stored as JSON `null` plus a trailing space
   */
  readonly serializer?: ((value: unknown) => string | Uint8Array) | undefined;
  /**
   * Stored bytes to the value. It is called once per caller, on a buffer of that caller's own, so that no two callers
   * share one object. Given together with `serializer`. Synchronous: a promise counts as a throw. If it throws on a stored
   * entry, the entry counts as a miss, for a waiter too; on a value that has just been serialized, the call rejects with
   * SerializationError.
   *
   * @default JSON
   */
  readonly deserializer?: ((stored: Buffer) => unknown) | undefined;
  /**
   * How long the library waits for one reply of Redis, in seconds: its own deadline, because the client's may be minutes
   * or none. Time in which the process was stopped, or its event loop blocked, does not count. A shorter `commandTimeout`
   * of the client takes its place. > 0, at most 2147483.
   *
   * @default 1
   */
  readonly redisTimeout?: number | undefined;
  /**
   * What a caller gets while Redis is unreachable or too slow. `"recompute"`: the value from the source, one recompute
   * per key and process at a time, nothing stored. `"throw"`: the Redis error. A good recompute whose store fails is a
   * value under the first and an error under the second. `invalidate` and `set` always reject: a fence that did not
   * happen must be known. An error that concerns the key (an ACL, a foreign type) reaches the caller under both.
   *
   * @default "recompute"
   */
  readonly onRedisError?: "recompute" | "throw" | undefined;
  /**
   * Where this process keeps copies of hot entries: a `Map`, which grows with the number of keys, or anything with its
   * `get`, `set` and `delete`, such as an `LRUCache`, which bounds it. A hit from it costs no round trip. It never serves a
   * value from before a fence that has resolved: fences recall copies. One store may serve several caches. One that
   * throws is used no more, as `cachefence:no-memory` tells. Left out: no memory, every hit is read from Redis.
   *
   * @default undefined
   */
  readonly memory?: MemoryStore | undefined;
  /**
   * The longest time that a copy in `memory` is served without asking Redis again, in seconds; and so the longest time that
   * a fence waits for a process that does not answer. 0.05 to 60.
   *
   * @default 1
   */
  readonly memoryLease?: number | undefined;
  /**
   * `"own"`: each caller gets an object of its own. `"frozen"`: callers share one deeply frozen object, decoded once, which
   * is faster. A value with something in it that cannot be frozen (a Buffer, typed array, Map, Set or Date of a custom
   * `deserializer`) is copied as under `"own"`.
   *
   * @default "own"
   */
  readonly values?: "own" | "frozen" | undefined;
}

/* eslint-enable @typescript-eslint/no-explicit-any */

/** {@link GetOrSetOptions}, complete. */
export interface ResolvedCallOptions {
  readonly beta: number;
  /** In seconds. What a function returns is checked by {@link staleForSeconds}. */
  readonly staleFor: StaleFor;
  readonly refreshesInBackground: boolean;
  readonly recomputeTimeoutSeconds: number | undefined;
  readonly retryAfterMs: number;
  /** Sorted by code unit, each once. Of the same tags in any order, the same list. */
  readonly tags: readonly string[];
  readonly signal: AbortSignal | undefined;
}

export type StaleFor = number | ((value: unknown) => number);

/** {@link SetOptions}, complete. */
export type ResolvedSetOptions = Pick<ResolvedCallOptions, "tags" | "staleFor">;

/** {@link CacheFenceOptions}, complete. */
export interface ResolvedOptions {
  readonly leaseMs: number;
  readonly waitForLockMs: number;
  readonly namespace: string;
  readonly serializer: ((value: unknown) => string | Uint8Array) | undefined;
  readonly deserializer: ((stored: Buffer) => unknown) | undefined;
  readonly redisTimeoutMs: number;
  readonly throwsOnRedisError: boolean;
  readonly memory: MemoryStore | undefined;
  readonly memoryLeaseMs: number;
  readonly freezesValues: boolean;
  readonly perCall: ResolvedCallOptions;
}

// setTimeout fires at once for anything longer than 2^31 - 1 ms.
const MAX_TIMER_SECONDS = 2_147_483;
// 3,000 years: in milliseconds still an exact integer, and far from the end of PEXPIRE's range.
const MAX_LIFETIME_SECONDS = 1e11;

const TIMER: Range = { above: 0, max: MAX_TIMER_SECONDS };
const LIFETIME: Range = { above: 0, max: MAX_LIFETIME_SECONDS };
const LIFETIME_OR_NONE: Range = { min: 0, max: MAX_LIFETIME_SECONDS };

const OF_SERVING = ["beta", "staleFor", "earlyRefresh", "recomputeTimeout", "retryAfter"];
const OF_INSTANCE = ["lockTimeout", "waitForLock", "namespace", "serializer", "deserializer", "redisTimeout"];
const OF_MEMORY = ["memory", "memoryLease", "values"];
// Whose options there are. The order is that in which an error names them.
const KNOWN = {
  constructor: new Set([...OF_SERVING, ...OF_INSTANCE, "onRedisError", ...OF_MEMORY]),
  getOrSet: new Set([...OF_SERVING, "tags", "signal"]),
  definition: new Set(OF_SERVING),
  set: new Set(["tags", "staleFor"]),
  peek: new Set(["tags"]),
  get: new Set(["signal"]),
  idle: new Set(["signal"]),
};

const NO_TAGS: readonly string[] = Object.freeze([]);

const DEFAULTS: ResolvedCallOptions = {
  beta: 1,
  staleFor: 0,
  refreshesInBackground: false,
  recomputeTimeoutSeconds: undefined,
  retryAfterMs: 1000,
  tags: NO_TAGS,
  signal: undefined,
};

/** Checks and completes the constructor's options; throws a TypeError or RangeError that names the bad one. */
export function resolveOptions(options: CacheFenceOptions = {}): ResolvedOptions {
  requireObject("options", options);
  requireKnownOptions(options, "constructor", KNOWN);
  // Defaults by destructuring: undefined means the default, null is an error.
  const { serializer, deserializer, namespace = "", lockTimeout = 10, waitForLock = 5, redisTimeout = 1 } = options;
  const { memory, memoryLease = 1 } = options;
  const onRedisError = oneOf("onRedisError", options.onRedisError, ["recompute", "throw"]) ?? "recompute";
  const values = oneOf("values", options.values, ["own", "frozen"]) ?? "own";
  requireWellFormed("namespace", namespace);
  requireFunction("serializer", serializer);
  requireFunction("deserializer", deserializer);
  if ((serializer === undefined) !== (deserializer === undefined)) {
    throw new TypeError("Expected `serializer` and `deserializer` to be given together, got only one of them");
  }
  if (memory !== undefined) requireMemoryStore(memory);
  return Object.freeze({
    leaseMs: wholeMs(secondsOf("lockTimeout", lockTimeout, TIMER)),
    waitForLockMs: secondsOf("waitForLock", waitForLock, { min: 0, max: MAX_TIMER_SECONDS / 2 }) * 1000,
    namespace,
    serializer,
    deserializer,
    redisTimeoutMs: secondsOf("redisTimeout", redisTimeout, TIMER) * 1000,
    throwsOnRedisError: onRedisError === "throw",
    memory,
    memoryLeaseMs: wholeMs(secondsOf("memoryLease", memoryLease, { min: 0.05, max: LONGEST_LEASE_MS / 1000 })),
    freezesValues: values === "frozen",
    perCall: Object.freeze(resolveServeOptions(options, DEFAULTS)),
  });
}

/** Checks and completes one call's options. Without any, the instance's own object is the answer: hits allocate nothing. */
export function resolveCallOptions(
  options: GetOrSetOptions | undefined,
  defaults: ResolvedCallOptions,
): ResolvedCallOptions {
  if (options === undefined) return defaults;
  requireObject("options", options);
  requireKnownOptions(options, "getOrSet", KNOWN);
  return {
    ...resolveServeOptions(options, defaults),
    tags: resolveTags(options.tags),
    signal: resolveSignal(options.signal),
  };
}

/** Of a `getOrSetMany`: the options of each item but for its tags, and the function that names those. */
export function resolveManyOptions<I>(
  options: GetOrSetManyOptions<I> | undefined,
  defaults: ResolvedCallOptions,
): { readonly shared: ResolvedCallOptions; readonly tagsOf: ((item: I) => readonly string[]) | undefined } {
  if (typeof options?.tags !== "function") {
    return { shared: resolveCallOptions(options as GetOrSetOptions | undefined, defaults), tagsOf: undefined };
  }
  const { tags, ...rest } = options;
  return { shared: resolveCallOptions(rest, defaults), tagsOf: (item) => resolveTags(tags(item)) };
}

/** Checks the options of a definition; what they leave out comes from the instance. */
export function checkDefinition(options: ServeOptions, tags: unknown): void {
  requireKnownOptions(options, "definition", KNOWN);
  resolveServeOptions(options, DEFAULTS);
  if (typeof tags !== "function") resolveTags(tags);
}

/** Checks what a definition is called with. */
export function checkDefinedOptions(options: unknown): void {
  if (options === undefined) return;
  requireObject("options", options);
  requireKnownOptions(options, "get", KNOWN);
}

function resolveServeOptions(options: ServeOptions, defaults: ResolvedCallOptions): ResolvedCallOptions {
  const { beta, staleFor, recomputeTimeout, retryAfter } = options;
  const earlyRefresh = oneOf("earlyRefresh", options.earlyRefresh, ["inline", "background"]);
  return {
    beta: beta === undefined ? defaults.beta : factorOf("beta", beta, { min: 0 }),
    staleFor: resolveStaleFor(staleFor, defaults.staleFor),
    refreshesInBackground: earlyRefresh === undefined ? defaults.refreshesInBackground : earlyRefresh === "background",
    recomputeTimeoutSeconds:
      recomputeTimeout === undefined
        ? defaults.recomputeTimeoutSeconds
        : secondsOf("recomputeTimeout", recomputeTimeout, TIMER),
    retryAfterMs:
      retryAfter === undefined
        ? defaults.retryAfterMs
        : secondsOf("retryAfter", retryAfter, { min: 0, max: MAX_TIMER_SECONDS }) * 1000,
    tags: NO_TAGS,
    signal: undefined,
  };
}

/** Checks and completes the options of one `set`. */
export function resolveSetOptions(options: SetOptions | undefined, defaults: ResolvedCallOptions): ResolvedSetOptions {
  if (options === undefined) return defaults;
  requireObject("options", options);
  requireKnownOptions(options, "set", KNOWN);
  return { tags: resolveTags(options.tags), staleFor: resolveStaleFor(options.staleFor, defaults.staleFor) };
}

/** The tags of one `peek`. */
export function resolvePeekOptions(options: PeekOptions | undefined): readonly string[] {
  if (options === undefined) return NO_TAGS;
  requireObject("options", options);
  requireKnownOptions(options, "peek", KNOWN);
  return resolveTags(options.tags);
}

/** The signal of one `idle`. */
export function resolveIdleOptions(options: IdleOptions | undefined): AbortSignal | undefined {
  if (options === undefined) return undefined;
  requireObject("options", options);
  requireKnownOptions(options, "idle", KNOWN);
  return resolveSignal(options.signal);
}

/** Sorted by code unit, each once; one shared list where there are none. */
export function resolveTags(tags: unknown): readonly string[] {
  if (tags === undefined) return NO_TAGS;
  if (!Array.isArray(tags)) throw typeError("tags", "an array of strings", tags);
  if (tags.length === 0) return NO_TAGS;
  for (const tag of tags) requireName("tag", tag);
  return Object.freeze([...new Set(tags as string[])].sort());
}

function resolveStaleFor(staleFor: unknown, otherwise: StaleFor): StaleFor {
  if (staleFor === undefined) return otherwise;
  return typeof staleFor === "function"
    ? (staleFor as (value: unknown) => number)
    : secondsOf("staleFor", staleFor, LIFETIME_OR_NONE);
}

/** How long this value may be served past its expiry; checks what a `staleFor` function returned. */
export function staleForSeconds(staleFor: StaleFor, value: unknown): number {
  return typeof staleFor === "number" ? staleFor : checkReturnedStaleFor(staleFor(value));
}

export function checkReturnedStaleFor(staleFor: unknown): number {
  return secondsOf("staleFor(value)", staleFor, LIFETIME_OR_NONE);
}

function resolveSignal(signal: unknown): AbortSignal | undefined {
  if (signal !== undefined && !(signal instanceof AbortSignal)) throw typeError("signal", "an AbortSignal", signal);
  return signal;
}

function requireMemoryStore(memory: unknown): void {
  requireObject("memory", memory);
  for (const name of ["get", "set", "delete"]) {
    if (typeof (memory as Record<string, unknown>)[name] === "function") continue;
    throw new TypeError(
      `Expected \`memory\` to be a Map, or to have its get, set and delete, got one without ${name}()`,
    );
  }
}

export function checkKey(key: unknown): asserts key is string {
  requireName("key", key);
}

/**
 * The keys (or, as `name` says, the tags) that a variadic method was given: strings, or one iterable of strings. An
 * iterable, because so many strings cannot be spread: arguments are on the stack.
 */
export function keysOf(args: readonly unknown[], name: "key" | "tag" = "key"): string[] {
  const [only] = args;
  const keys = args.length === 1 && typeof only !== "string" ? iterate(only, name) : args;
  return Array.from(keys, (key) => {
    requireName(name, key);
    return key;
  });
}

function iterate(value: unknown, name: string): Iterable<unknown> {
  if (typeof value === "object" && value !== null && Symbol.iterator in value) return value as Iterable<unknown>;
  throw typeError(`${name}s`, "strings, or one iterable of strings", value);
}

export function checkRecompute(recompute: unknown, name = "recompute"): void {
  if (typeof recompute !== "function") throw typeError(name, "a function", recompute);
}

/** A number of seconds > 0. */
export function checkLifetime(ttl: unknown): number {
  return secondsOf("ttl", ttl, LIFETIME);
}

/** The same, or the function that takes it from the value. */
export function checkTtl(ttl: unknown): void {
  if (typeof ttl !== "function") checkLifetime(ttl);
}

/** What a `ttl` function returned; 0 means: do not cache. */
export function checkReturnedTtl(ttl: unknown): number {
  return secondsOf("ttl(value)", ttl, LIFETIME_OR_NONE);
}

/** Redis' PX and PEXPIRE refuse fractions, and PEXPIRE 0 deletes: round up. */
export function wholeMs(seconds: number): number {
  return Math.max(1, Math.ceil(seconds * 1000));
}

export function checkClient(redis: unknown): void {
  if (typeof redis !== "object" || redis === null) throw typeError("redis", "an ioredis client", redis);
  const missing = REQUIRED_COMMANDS.find((name) => typeof (redis as Record<string, unknown>)[name] !== "function");
  if (missing !== undefined)
    throw new TypeError(`Expected \`redis\` to be an ioredis client, got one without ${missing}()`);
  const { isCluster, options } = redis as RedisClient & { options?: { scaleReads?: unknown } };
  // Part of every name, and of those that are sent as arguments too.
  if (typeof options?.keyPrefix === "string") requireWellFormed("redis.options.keyPrefix", options.keyPrefix);
  const scaleReads = options?.scaleReads ?? "master";
  if (isCluster === true && scaleReads !== "master") {
    // A replica may still hold what an invalidate has removed on its master.
    throw typeError("redis.options.scaleReads", '"master"', scaleReads);
  }
}
