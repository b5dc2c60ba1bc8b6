import type { RedisClient } from "./link/redis-client.js";
import { REQUIRED_COMMANDS } from "./link/redis-client.js";

/** What one call may set for itself; what it leaves out comes from the instance. */
export interface ServeOptions {
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
   * one), or when its rebuild fails (stale-if-error). Redis keeps an entry for `ttl + staleFor`, with the `staleFor` of
   * the call that stored it. A stale value is never served past an `invalidate`. `0` serves no stale value.
   * Finite, 0 to 1e11.
   *
   * @default 0
   */
  readonly staleFor?: number | undefined;
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
}

/** Options of one `getOrSet`. */
export interface GetOrSetOptions extends ServeOptions {
  /**
   * Stops this caller's wait: its promise rejects with the signal's `reason`. A rebuild that it started goes on for the
   * others; if it aborts before the rebuild has begun, none is started.
   */
  readonly signal?: AbortSignal | undefined;
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
}

/** {@link GetOrSetOptions}, complete. */
export interface ResolvedCallOptions {
  readonly beta: number;
  readonly staleForSeconds: number;
  readonly refreshesInBackground: boolean;
  readonly recomputeTimeoutSeconds: number | undefined;
  readonly signal: AbortSignal | undefined;
}

/** {@link CacheFenceOptions}, complete. */
export interface ResolvedOptions {
  readonly leaseMs: number;
  readonly waitForLockMs: number;
  readonly namespace: string;
  readonly serializer: ((value: unknown) => string | Uint8Array) | undefined;
  readonly deserializer: ((stored: Buffer) => unknown) | undefined;
  readonly redisTimeoutMs: number;
  readonly throwsOnRedisError: boolean;
  readonly perCall: ResolvedCallOptions;
}

// setTimeout fires at once for anything longer than 2^31 - 1 ms.
const MAX_TIMER_SECONDS = 2_147_483;
// 3,000 years: in milliseconds still an exact integer, and far from the end of PEXPIRE's range.
const MAX_LIFETIME_SECONDS = 1e11;

/** Checks and completes the constructor's options; throws a TypeError or RangeError that names the bad one. */
export function resolveOptions(options: CacheFenceOptions = {}): ResolvedOptions {
  requireObject("options", options);
  // Defaults by destructuring: undefined means the default, null is an error.
  const { serializer, deserializer, namespace = "", lockTimeout = 10, waitForLock = 5, redisTimeout = 1 } = options;
  const onRedisError = oneOf("onRedisError", options.onRedisError, ["recompute", "throw"]) ?? "recompute";
  if (typeof namespace !== "string") throw typeError("namespace", "a string", namespace);
  requireFunction("serializer", serializer);
  requireFunction("deserializer", deserializer);
  if ((serializer === undefined) !== (deserializer === undefined)) {
    throw new TypeError("Expected `serializer` and `deserializer` to be given together, got only one of them");
  }
  return Object.freeze({
    leaseMs: wholeMs(secondsOf("lockTimeout", lockTimeout, { above: 0, max: MAX_TIMER_SECONDS })),
    waitForLockMs: secondsOf("waitForLock", waitForLock, { min: 0, max: MAX_TIMER_SECONDS / 2 }) * 1000,
    namespace,
    serializer,
    deserializer,
    redisTimeoutMs: secondsOf("redisTimeout", redisTimeout, { above: 0, max: MAX_TIMER_SECONDS }) * 1000,
    throwsOnRedisError: onRedisError === "throw",
    perCall: resolveServeOptions(options, {
      beta: 1,
      staleForSeconds: 0,
      refreshesInBackground: false,
      recomputeTimeoutSeconds: undefined,
      signal: undefined,
    }),
  });
}

/** Checks and completes one call's options. Without any, the instance's own object is the answer: hits allocate nothing. */
export function resolveCallOptions(
  options: GetOrSetOptions | undefined,
  defaults: ResolvedCallOptions,
): ResolvedCallOptions {
  if (options === undefined) return defaults;
  requireObject("options", options);
  const { signal } = options;
  if (signal !== undefined && !(signal instanceof AbortSignal)) throw typeError("signal", "an AbortSignal", signal);
  return { ...resolveServeOptions(options, defaults), signal };
}

function resolveServeOptions(options: ServeOptions, defaults: ResolvedCallOptions): ResolvedCallOptions {
  const { beta = defaults.beta, staleFor = defaults.staleForSeconds, recomputeTimeout } = options;
  const earlyRefresh = oneOf("earlyRefresh", options.earlyRefresh, ["inline", "background"]);
  return Object.freeze({
    beta: secondsOf("beta", beta, { min: 0 }),
    staleForSeconds: secondsOf("staleFor", staleFor, { min: 0, max: MAX_LIFETIME_SECONDS }),
    refreshesInBackground: earlyRefresh === undefined ? defaults.refreshesInBackground : earlyRefresh === "background",
    recomputeTimeoutSeconds:
      recomputeTimeout === undefined
        ? defaults.recomputeTimeoutSeconds
        : secondsOf("recomputeTimeout", recomputeTimeout, { above: 0, max: MAX_TIMER_SECONDS }),
    signal: undefined,
  });
}

export function checkKey(key: unknown): void {
  if (typeof key !== "string" || key === "") throw typeError("key", "a non-empty string", key);
}

export function checkRecompute(recompute: unknown): void {
  if (typeof recompute !== "function") throw typeError("recompute", "a function", recompute);
}

const LIFETIME: Range = { above: 0, max: MAX_LIFETIME_SECONDS };

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
  return secondsOf("ttl(value)", ttl, { min: 0, max: MAX_LIFETIME_SECONDS });
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
  const scaleReads = options?.scaleReads ?? "master";
  if (isCluster === true && scaleReads !== "master") {
    // A replica may still hold what an invalidate has removed on its master.
    throw typeError("redis.options.scaleReads", '"master"', scaleReads);
  }
}

interface Range {
  readonly min?: number;
  readonly above?: number;
  readonly max?: number;
}

function secondsOf(name: string, value: unknown, range: Range): number {
  const { min = 0, above = -1, max = Infinity } = range;
  if (typeof value === "number" && value >= min && value > above && value <= max && value !== Infinity) return value;
  // Put into words only now: every hit has its ttl checked.
  const lowest = range.above === undefined ? `>= ${String(min)}` : `> ${String(above)}`;
  const expectation = `a finite number ${lowest}${max === Infinity ? "" : ` and <= ${String(max)}`}`;
  if (typeof value !== "number") throw typeError(name, expectation, value);
  throw new RangeError(expected(name, expectation, value));
}

function oneOf<T extends string>(name: string, value: unknown, allowed: readonly T[]): T | undefined {
  if (value === undefined) return undefined;
  const found = allowed.find((candidate) => candidate === value);
  if (found === undefined) throw typeError(name, allowed.map((one) => `"${one}"`).join(" or "), value);
  return found;
}

function requireFunction(name: string, value: unknown): void {
  if (value !== undefined && typeof value !== "function") throw typeError(name, "a function", value);
}

function requireObject(name: string, value: unknown): void {
  if (typeof value !== "object" || value === null) throw typeError(name, "an object", value);
}

function typeError(name: string, expectation: string, got: unknown): TypeError {
  return new TypeError(expected(name, expectation, got));
}

function expected(name: string, expectation: string, got: unknown): string {
  return `Expected \`${name}\` to be ${expectation}, got ${show(got)}`;
}

function show(value: unknown): string {
  if (typeof value === "string") return JSON.stringify(value);
  if (typeof value === "function") return "a function";
  if (typeof value === "object" && value !== null) return Array.isArray(value) ? "an array" : "an object";
  return String(value);
}
