// What each error is, for `instanceof`: a process may have two copies of this package, an ES module and a CommonJS one, and
// an error of either is one of both. So are names: literal, for a bundler may shorten those of classes.
const KINDS = Symbol.for("cachefence.error");

/**
 * Base of every error that cachefence itself raises. Also thrown as it is when a key, or the name of its lock, holds
 * something that cachefence did not write: the message then names the Redis key and its type, and nothing is changed.
 */
export class CacheFenceError extends Error {
  /** The key as it was passed in, without namespace. */
  readonly key: string;
  /** What went wrong underneath, untouched. */
  declare readonly cause?: unknown;

  static {
    brand(this, "CacheFenceError");
  }

  constructor(message: string, key: string, options?: { readonly cause?: unknown }) {
    super(message, options);
    this.key = key;
  }

  /** @internal */
  static override [Symbol.hasInstance](error: unknown): boolean {
    if (!Object.hasOwn(this, KINDS)) return Function.prototype[Symbol.hasInstance].call(this, error);
    const kind = (this as unknown as Branded)[KINDS];
    return typeof error === "object" && error !== null && KINDS in error && (error as Branded)[KINDS].includes(kind);
  }
}

interface Branded {
  readonly [KINDS]: string;
}

function brand(errorClass: { readonly prototype: Error }, name: string): void {
  const { prototype } = errorClass;
  const inherited = (prototype as unknown as Partial<Branded>)[KINDS] ?? "";
  Object.defineProperty(errorClass, KINDS, { value: `/${name}/` });
  Object.defineProperty(prototype, KINDS, { value: `${inherited}/${name}/` });
  Object.defineProperty(prototype, "name", { value: name, writable: true, configurable: true });
}

/** The caller's `recompute` (or its `ttl` function) threw or rejected. `cause` is that error, untouched. */
export class RecomputeError extends CacheFenceError {
  static {
    brand(this, "RecomputeError");
  }

  constructor(key: string, cause: unknown) {
    super(`Recompute of ${JSON.stringify(key)} failed: ${messageOf(cause)}`, key, { cause });
  }
}

/** The caller's `recompute` took longer than `recomputeTimeout`. The same error is the `reason` of its aborted `signal`. */
export class RecomputeTimeoutError extends CacheFenceError {
  static {
    brand(this, "RecomputeTimeoutError");
  }

  /** The limit, in seconds. */
  readonly seconds: number;

  constructor(key: string, seconds: number) {
    super(`Recompute of ${JSON.stringify(key)} took longer than recomputeTimeout (${String(seconds)} s)`, key);
    this.seconds = seconds;
  }
}

/**
 * A value could not be serialized, or what was just serialized could not be read back, or one of the two returned a
 * promise. `cause` is the original error.
 */
export class SerializationError extends CacheFenceError {
  static {
    brand(this, "SerializationError");
  }

  constructor(key: string, doing: "serialize" | "deserialize", cause: unknown) {
    super(`Could not ${doing} the value of ${JSON.stringify(key)}: ${messageOf(cause)}`, key, { cause });
  }
}

/**
 * Redis did not answer within `redisTimeout`, or the client has lost its connection. `invalidate` and `set` reject with
 * it, `getOrSet` only under `onRedisError: "throw"`.
 */
export class RedisUnavailableError extends CacheFenceError {
  static {
    brand(this, "RedisUnavailableError");
  }
}

/** This error, or one that has it as its cause, that carries the key. */
export function withKey(error: unknown, key: string): CacheFenceError {
  if (error instanceof CacheFenceError && error.key === key) return error;
  return new CacheFenceError(`${messageOf(error)}; key ${JSON.stringify(key)}`, key, { cause: error });
}

// Anything can be thrown, even what has no form as text; and an AggregateError (a refused connection) has its words inside.
function messageOf(error: unknown): string {
  try {
    if (!(error instanceof Error)) return String(error);
    const { message } = error;
    // It may be a symbol, in spite of its type, and has no form as text then.
    if (message !== "") return message.concat("");
    const { code, errors } = error as { code?: unknown; errors?: readonly unknown[] };
    if (Array.isArray(errors) && errors.length > 0) return messageOf(errors[0]);
    return typeof code === "string" ? code : error.name;
  } catch {
    return "(an error that cannot be shown)";
  }
}
