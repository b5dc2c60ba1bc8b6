import { RedisUnavailableError } from "../errors.js";

/**
 * A failure of Redis, or of the client, that says nothing about the key: unreachable, too slow, or refusing work
 * (read-only, out of memory, loading). It passes. Every other rejection of the link concerns the key, the permissions or
 * the scripts, and must reach the caller as it is.
 */
export class RedisFault extends Error {
  readonly #reply: Error | undefined;

  /** @param told - who said so: what Redis replied, or the error that the client, or the network, came to */
  constructor(message: string, told: { readonly reply?: Error; readonly cause?: unknown } = {}) {
    super(message, { cause: told.reply ?? told.cause });
    this.#reply = told.reply;
  }

  /** What a caller is shown: what Redis itself has replied, and everything else in our words. */
  toError(key: string): Error {
    if (this.#reply !== undefined) return this.#reply;
    const message = `${this.message}; key ${JSON.stringify(key)}`;
    return new RedisUnavailableError(message, key, this.cause === undefined ? undefined : { cause: this.cause });
  }
}

/** The answer to a command that went into somebody's transaction. */
export function transactionFault(): RedisFault {
  return new RedisFault(
    "The application has a transaction open on this client's connection (MULTI), which takes the commands of all its users",
  );
}
