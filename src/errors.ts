/**
 * Base of every error that cachefence itself raises. Also thrown as it is when a key, or the name of its lock, holds
 * something that cachefence did not write: the message then names the Redis key and its type, and nothing is changed.
 */
export class CacheFenceError extends Error {
  /** The key as it was passed in, without namespace. */
  readonly key: string;

  constructor(message: string, key: string, options?: ErrorOptions) {
    super(message, options);
    this.name = new.target.name;
    this.key = key;
  }
}

/** The caller's `recompute` (or its `ttl` function) threw or rejected. `cause` is that error, untouched. */
export class RecomputeError extends CacheFenceError {
  constructor(key: string, cause: unknown) {
    super(`Recompute of ${JSON.stringify(key)} failed: ${messageOf(cause)}`, key, { cause });
  }
}

/** The caller's `recompute` took longer than `recomputeTimeout`. The same error is the `reason` of its aborted `signal`. */
export class RecomputeTimeoutError extends CacheFenceError {
  constructor(key: string, timeoutSeconds: number) {
    super(`Recompute of ${JSON.stringify(key)} took longer than recomputeTimeout (${String(timeoutSeconds)} s)`, key);
  }
}

/**
 * A value could not be serialized, or what was just serialized could not be read back, or one of the two returned a
 * promise. `cause` is the original error.
 */
export class SerializationError extends CacheFenceError {
  constructor(key: string, doing: "serialize" | "deserialize", cause: unknown) {
    super(`Could not ${doing} the value of ${JSON.stringify(key)}: ${messageOf(cause)}`, key, { cause });
  }
}

/**
 * Redis did not answer within `redisTimeout`, or the client has lost its connection. `invalidate` and `set` reject with
 * it, `getOrSet` only under `onRedisError: "throw"`.
 */
export class RedisUnavailableError extends CacheFenceError {}

// Anything can be thrown, even what has no form as text.
function messageOf(error: unknown): string {
  try {
    return String(error instanceof Error ? error.message : error);
  } catch {
    return "(an error that cannot be shown)";
  }
}
