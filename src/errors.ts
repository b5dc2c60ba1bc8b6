import { types } from "node:util";

/**
 * Base of every error that cachefence itself raises. Also thrown as it is when a key, or the name of its lock or audience,
 * holds something that cachefence did not write: the message then names the Redis key and its type, and nothing is changed.
 *
 * `instanceof` holds across two copies of the package in one process, as where one is imported and the other required.
 */
export class CacheFenceError extends Error {
  /** The key as it was passed in, without namespace. */
  readonly key: string;
  /** The original error, where there is one: the caller's own object, untouched. */
  // Declared here, for in lib es2021 an Error has none.
  declare readonly cause?: unknown;

  static {
    brand(this, "CacheFenceError");
  }

  constructor(message: string, key: string, options?: { cause?: unknown }) {
    super(message, options);
    this.key = key;
  }
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

/** A list was left by its caller before its recompute was called: a rebuild that has not begun, and begins for nobody. */
export class Withdrawn extends Error {
  override readonly message = "Its caller left before the recompute was called";
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

/**
 * Gives an error class its name, and instances that every copy of the package knows.
 *
 * The name is a literal, for a minifier renames classes. It is on the prototype, so that the first line of `stack`, which
 * is written before any field, has it too.
 */
// A declaration, for the classes above are made before a constant here would be.
function brand(errorClass: { readonly prototype: Error }, name: string): void {
  const ofEveryCopy = Symbol.for(`cachefence.${name}`);
  const isBranded = (value: unknown): boolean => typeof value === "object" && value !== null && ofEveryCopy in value;
  Object.defineProperties(errorClass.prototype, {
    name: { value: name, writable: true, configurable: true },
    [ofEveryCopy]: { value: true },
  });
  Object.defineProperties(errorClass, {
    name: { value: name, configurable: true },
    [Symbol.hasInstance]: {
      value(this: unknown, value: unknown): boolean {
        // A subclass of the user's inherits this function, and has no brand.
        if (this === errorClass) return isBranded(value);
        return Function.prototype[Symbol.hasInstance].call(this as typeof Error, value);
      },
    },
  });
}

// Anything can be thrown, even what has no form as text. A refused connection is an AggregateError without a message.
function messageOf(error: unknown): string {
  try {
    const words = isError(error) ? error.message || substituteOf(error) : String(error);
    return words.trim() === "" ? "(no message)" : words;
  } catch {
    return "(an error that cannot be shown)";
  }
}

function substituteOf(error: Error): string {
  const { code, errors } = error as { code?: unknown; errors?: readonly unknown[] };
  const first = errors?.[0] === undefined ? [] : [messageOf(errors[0])];
  const parts = typeof code === "string" ? [code, ...first] : first;
  return parts.length > 0 ? parts.join(": ") : error.name;
}

/** This error, or one that has it as its cause, that carries the key. */
export function withKey(error: unknown, key: string): CacheFenceError {
  if (error instanceof CacheFenceError && error.key === key) return error;
  return new CacheFenceError(`${messageOf(error)}; key ${JSON.stringify(key)}`, key, { cause: error });
}

export function asError(thrown: unknown): Error {
  return isError(thrown) ? thrown : new Error(messageOf(thrown));
}

/** Of another realm too: where tests run in a context of their own, as Jest's do, the errors of Node itself are. */
export function isError(value: unknown): value is Error {
  return value instanceof Error || types.isNativeError(value);
}
