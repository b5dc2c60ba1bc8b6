import type { RedisClient } from "./link/redis-client.js";
import { REQUIRED_COMMANDS } from "./link/redis-client.js";

/**
 * Where a process keeps copies of hot entries: a `Map`, or anything with its `get`, `set` and `delete`, such as an
 * `LRUCache`, which bounds it. What it evicts is only lost.
 */
export interface MemoryStore {
  get(key: string): unknown;
  // eslint-disable-next-line @typescript-eslint/no-explicit-any -- so that a store of objects, or of anything, fits
  set(key: string, value: any): unknown;
  delete(key: string): unknown;
}

/**
 * What one call may set for itself; what it leaves out comes from the instance.
 *
 * @typeParam T - the value
 */
// eslint-disable-next-line @typescript-eslint/no-explicit-any -- the options of an instance are for values of any type
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
   * one), or when its rebuild fails (stale-if-error). Redis keeps an entry for `ttl + staleFor`, with the `staleFor` of
   * the call that stored it. A stale value is never served past a fence. `0` serves no stale value. A function takes it from
   * the value, as `ttl` does: a token must not outlive itself, a "not found" not for minutes.
   * Finite, 0 to 1e11.
   *
   * @default 0
   */
  readonly staleFor?: number | ((value: T) => number) | undefined;
  /**
   * After a refresh of a value that is still served has failed, the next attempt in the whole fleet comes no sooner than
   * this, in seconds. `0`: no pause. A caller with nothing to serve does not wait for it. Finite, 0 to 2147483.
   *
   * @default 1
   */
  readonly retryAfter?: number | undefined;
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
// eslint-disable-next-line @typescript-eslint/no-explicit-any -- as above
export interface GetOrSetOptions<T = any> extends ServeOptions<T> {
  /**
   * The groups that the entry belongs to: {@link CacheFence.invalidateTags} fences them all at once. Readers of a key name
   * the same tags, in any order: an entry with other tags is a miss. Well-formed, non-empty strings.
   *
   * @default []
   */
  readonly tags?: readonly string[] | undefined;
  /**
   * Stops this caller's wait: its promise rejects with the signal's `reason`. A rebuild that it started goes on for the
   * others; one that has not begun begins for nobody.
   */
  readonly signal?: AbortSignal | undefined;
}

/** Options of one `getOrSetMany`. */
// eslint-disable-next-line @typescript-eslint/no-explicit-any -- as above
export interface GetOrSetManyOptions<I, T = any> extends Omit<GetOrSetOptions<T>, "tags"> {
  /** The same tags for all items, or a function that names those of each. */
  readonly tags?: readonly string[] | ((item: I) => readonly string[]) | undefined;
}

/** Options of `set`. */
// eslint-disable-next-line @typescript-eslint/no-explicit-any -- as above
export type SetOptions<T = any> = Pick<GetOrSetOptions<T>, "tags" | "staleFor">;

/** Options of `peek`. */
export type PeekOptions = Pick<GetOrSetOptions, "tags">;

/** Options of `idle`. */
export interface IdleOptions {
  /** Ends the wait: it rejects with the signal's `reason`. */
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
  /**
   * Where this process keeps copies of hot entries. A hit from it costs no round trip. Fences recall copies: once one has
   * resolved, none from before is served. What is in the store beside them is left alone, and one store may serve several
   * caches. Left out: no copies. A server without scripting or pub/sub, and ioredis-mock, have none
   * (`cachefence:no-memory`).
   *
   * @default undefined
   */
  readonly memory?: MemoryStore | undefined;
  /**
   * The longest time for which a copy in `memory` is served without asking Redis again, in seconds; and so the longest that a
   * fence waits for a process that does not answer. 0.05 to 60.
   *
   * @default 1
   */
  readonly memoryLease?: number | undefined;
  /**
   * `"own"`: no two callers share an object. `"frozen"`: callers share one deeply frozen object, decoded once; a value with
   * something in it that cannot be frozen (a Buffer, typed array, Map, Set or Date of a custom `deserializer`) is read anew
   * for each, as under `"own"`.
   *
   * @default "own"
   */
  readonly values?: "own" | "frozen" | undefined;
}

/** {@link GetOrSetOptions}, complete. */
export interface ResolvedCallOptions {
  readonly beta: number;
  readonly staleFor: number | ((value: never) => number);
  readonly refreshesInBackground: boolean;
  readonly recomputeTimeoutSeconds: number | undefined;
  readonly retryAfterMs: number;
  /** In order, each once. */
  readonly tags: readonly string[];
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
  readonly memory: MemoryStore | undefined;
  readonly memoryLeaseMs: number;
  readonly freezesValues: boolean;
  readonly perCall: ResolvedCallOptions;
}

// setTimeout fires at once for anything longer than 2^31 - 1 ms.
const MAX_TIMER_SECONDS = 2_147_483;
// 3,000 years: in milliseconds still an exact integer, and far from the end of PEXPIRE's range.
const MAX_LIFETIME_SECONDS = 1e11;

const NO_TAGS: readonly string[] = Object.freeze([]);

const SERVE_OPTIONS = ["beta", "staleFor", "earlyRefresh", "recomputeTimeout", "retryAfter"];
const CALL_OPTIONS = [...SERVE_OPTIONS, "tags", "signal"];
const CONSTRUCTOR_OPTIONS = [
  ...SERVE_OPTIONS,
  "lockTimeout",
  "waitForLock",
  "namespace",
  "serializer",
  "deserializer",
  "redisTimeout",
  "onRedisError",
  "memory",
  "memoryLease",
  "values",
];

/** Checks and completes the constructor's options; throws a TypeError or RangeError that names the bad one. */
export function resolveOptions(options: CacheFenceOptions = {}): ResolvedOptions {
  requireObject("options", options);
  refuseUnknown(options, CONSTRUCTOR_OPTIONS);
  // Defaults by destructuring: undefined means the default, null is an error.
  const { serializer, deserializer, namespace = "", lockTimeout = 10, waitForLock = 5, redisTimeout = 1 } = options;
  const { memory, memoryLease = 1 } = options;
  const onRedisError = oneOf("onRedisError", options.onRedisError, ["recompute", "throw"]) ?? "recompute";
  const values = oneOf("values", options.values, ["own", "frozen"]) ?? "own";
  if (typeof namespace !== "string" || !isWellFormed(namespace)) {
    throw typeError("namespace", "a well-formed string", namespace);
  }
  requireFunction("serializer", serializer);
  requireFunction("deserializer", deserializer);
  if ((serializer === undefined) !== (deserializer === undefined)) {
    throw new TypeError("Expected `serializer` and `deserializer` to be given together, got only one of them");
  }
  if (memory !== undefined && !isStore(memory)) {
    throw typeError("memory", "a Map, or an object with get, set and delete", memory);
  }
  return Object.freeze({
    leaseMs: wholeMs(secondsOf("lockTimeout", lockTimeout, { above: 0, max: MAX_TIMER_SECONDS })),
    waitForLockMs: secondsOf("waitForLock", waitForLock, { min: 0, max: MAX_TIMER_SECONDS / 2 }) * 1000,
    namespace,
    serializer,
    deserializer,
    redisTimeoutMs: secondsOf("redisTimeout", redisTimeout, { above: 0, max: MAX_TIMER_SECONDS }) * 1000,
    throwsOnRedisError: onRedisError === "throw",
    memory,
    memoryLeaseMs: wholeMs(secondsOf("memoryLease", memoryLease, { min: 0.05, max: 60 })),
    freezesValues: values === "frozen",
    perCall: Object.freeze(
      resolveServeOptions(options, {
        beta: 1,
        staleFor: 0,
        refreshesInBackground: false,
        recomputeTimeoutSeconds: undefined,
        retryAfterMs: 1000,
        tags: NO_TAGS,
        signal: undefined,
      }),
    ),
  });
}

/** Checks and completes one call's options. Without any, the instance's own object is the answer: hits allocate nothing. */
export function resolveCallOptions(
  options: GetOrSetOptions | undefined,
  defaults: ResolvedCallOptions,
): ResolvedCallOptions {
  if (options === undefined) return defaults;
  requireObject("options", options);
  refuseUnknown(options, CALL_OPTIONS);
  return {
    ...resolveServeOptions(options, defaults),
    tags: options.tags === undefined ? NO_TAGS : checkTags(options.tags),
    signal: checkSignal(options.signal),
  };
}

/** Of a `getOrSetMany`: the options of each item but for its tags, and the function that names those. */
export function resolveManyOptions<I>(
  options: GetOrSetManyOptions<I> | undefined,
  defaults: ResolvedCallOptions,
): { readonly shared: ResolvedCallOptions; readonly tagsOf: ((item: I) => readonly string[]) | undefined } {
  if (options === undefined || typeof options !== "object") {
    return { shared: resolveCallOptions(options, defaults), tagsOf: undefined };
  }
  const { tags, ...rest } = options;
  if (typeof tags !== "function") return { shared: resolveCallOptions({ ...rest, tags }, defaults), tagsOf: undefined };
  return { shared: resolveCallOptions(rest, defaults), tagsOf: (item) => checkTags(tags(item)) };
}

export function resolveSetOptions(
  options: SetOptions | undefined,
  { staleFor }: Pick<ResolvedCallOptions, "staleFor">,
): Pick<ResolvedCallOptions, "tags" | "staleFor"> {
  if (options === undefined) return { tags: NO_TAGS, staleFor };
  requireObject("options", options);
  refuseUnknown(options, ["tags", "staleFor"]);
  return {
    tags: options.tags === undefined ? NO_TAGS : checkTags(options.tags),
    staleFor: options.staleFor === undefined ? staleFor : checkStaleFor(options.staleFor),
  };
}

export function resolvePeekOptions(options: PeekOptions | undefined): readonly string[] {
  if (options === undefined) return NO_TAGS;
  requireObject("options", options);
  refuseUnknown(options, ["tags"]);
  return options.tags === undefined ? NO_TAGS : checkTags(options.tags);
}

export function resolveIdleOptions(options: IdleOptions | undefined): AbortSignal | undefined {
  if (options === undefined) return undefined;
  requireObject("options", options);
  refuseUnknown(options, ["signal"]);
  return checkSignal(options.signal);
}

function resolveServeOptions(options: ServeOptions, defaults: ResolvedCallOptions): ResolvedCallOptions {
  const { beta, staleFor, recomputeTimeout, retryAfter } = options;
  const earlyRefresh = oneOf("earlyRefresh", options.earlyRefresh, ["inline", "background"]);
  return {
    beta: beta === undefined ? defaults.beta : numberOf("beta", beta, { min: 0 }),
    staleFor: staleFor === undefined ? defaults.staleFor : checkStaleFor(staleFor),
    refreshesInBackground: earlyRefresh === undefined ? defaults.refreshesInBackground : earlyRefresh === "background",
    recomputeTimeoutSeconds:
      recomputeTimeout === undefined
        ? defaults.recomputeTimeoutSeconds
        : secondsOf("recomputeTimeout", recomputeTimeout, { above: 0, max: MAX_TIMER_SECONDS }),
    retryAfterMs:
      retryAfter === undefined
        ? defaults.retryAfterMs
        : secondsOf("retryAfter", retryAfter, { min: 0, max: MAX_TIMER_SECONDS }) * 1000,
    tags: defaults.tags,
    signal: undefined,
  };
}

function checkStaleFor(staleFor: unknown): number | ((value: never) => number) {
  if (typeof staleFor === "function") return staleFor as (value: never) => number;
  return secondsOf("staleFor", staleFor, STALE_FOR);
}

function checkSignal(signal: unknown): AbortSignal | undefined {
  if (signal === undefined || signal instanceof AbortSignal) return signal;
  throw typeError("signal", "an AbortSignal", signal);
}

function checkTags(tags: unknown): readonly string[] {
  if (!Array.isArray(tags)) throw typeError("tags", "an array of strings", tags);
  for (const tag of tags) checkName("tag", tag);
  return tags.length < 2 ? (tags.slice() as string[]) : [...new Set(tags as string[])].sort();
}

function isStore(memory: unknown): memory is MemoryStore {
  if (typeof memory !== "object" || memory === null) return false;
  const { get, set, delete: remove } = memory as Record<string, unknown>;
  return typeof get === "function" && typeof set === "function" && typeof remove === "function";
}

// A typo would be a setting that is silently not there.
function refuseUnknown(options: object, known: readonly string[]): void {
  for (const name of Object.keys(options)) {
    if (known.includes(name)) continue;
    const isElsewhere = known !== CONSTRUCTOR_OPTIONS && CONSTRUCTOR_OPTIONS.includes(name);
    const hint = isElsewhere ? "it is an option of the constructor" : `did you mean \`${nearest(name, known)}\`?`;
    throw new TypeError(`Unknown option \`${name}\`: ${hint}`);
  }
}

function nearest(name: string, known: readonly string[]): string {
  const distances = known.map((one) => editDistance(name.toLowerCase(), one.toLowerCase()));
  return known[distances.indexOf(Math.min(...distances))]!;
}

// Levenshtein's, row by row.
function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, index) => index);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const replaced = row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min(row[j]! + 1, next[j - 1]! + 1, replaced));
    }
    row = next;
  }
  return row[b.length]!;
}

const SURROGATE = /[\uD800-\uDFFF]/;
const LONE_SURROGATE = /\p{Surrogate}/u;

// Two strings that differ in a lone surrogate are the same in UTF-8, and so would be the same key.
function isWellFormed(text: string): boolean {
  return !SURROGATE.test(text) || !LONE_SURROGATE.test(text);
}

function checkName(name: string, value: unknown): void {
  if (typeof value !== "string" || value === "") throw typeError(name, "a non-empty string", value);
  if (!isWellFormed(value)) throw typeError(name, "a well-formed string, without a lone surrogate", value);
}

export function checkKey(key: unknown): void {
  checkName("key", key);
}

/** Keys, or one iterable of them. */
export function keysOf(args: readonly unknown[], name = "key"): string[] {
  const [first] = args;
  const isIterable = args.length === 1 && typeof first === "object" && first !== null && Symbol.iterator in first;
  const keys = isIterable ? [...(first as Iterable<unknown>)] : args;
  for (const key of keys) checkName(name, key);
  return [...new Set(keys as readonly string[])];
}
export function checkRecompute(recompute: unknown, name = "recompute"): void {
  if (typeof recompute !== "function") throw typeError(name, "a function", recompute);
}

const LIFETIME: Range = { above: 0, max: MAX_LIFETIME_SECONDS };
const STALE_FOR: Range = { min: 0, max: MAX_LIFETIME_SECONDS };

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

/** How long past its expiry this value may be served, in seconds. */
export function staleForSeconds(staleFor: number | ((value: never) => number), value: unknown): number {
  return typeof staleFor === "number" ? staleFor : secondsOf("staleFor(value)", staleFor(value as never), STALE_FOR);
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
  const keyPrefix: unknown = options?.keyPrefix ?? "";
  if (typeof keyPrefix === "string" && !isWellFormed(keyPrefix)) {
    throw typeError("redis.options.keyPrefix", "a well-formed string", keyPrefix);
  }
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
  return numberOf(name, value, range, "a finite number of seconds");
}

function numberOf(name: string, value: unknown, range: Range, kind = "a finite number"): number {
  const { min = 0, above = -1, max = Infinity } = range;
  if (typeof value === "number" && value >= min && value > above && value <= max && value !== Infinity) return value;
  // Put into words only now: every hit has its ttl checked.
  const lowest = range.above === undefined ? `>= ${String(min)}` : `> ${String(above)}`;
  const expectation = `${kind} ${lowest}${max === Infinity ? "" : ` and <= ${String(max)}`}`;
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
