import type { RedisClient } from "./redis-client.js";

// Not nextTick or queueMicrotask, which fake timers replace.
const microtask = Promise.resolve();
// A chain of promises goes on within a few microtasks, or waits for something outside. So many without a command: it does.
const QUIET_MICROTASKS = 32;

/**
 * Lets commands share a write to the socket, which is half of what a hit costs.
 *
 * Of the reads of one turn the first leaves at once, to be served while the others are made, and those leave together,
 * before anything is awaited. Whatever is no read leaves at once, and what is held back with it: a store or a fence must
 * not wait while the event loop is busy. Unless all is held back on purpose, by a list of keys, until the turn is over.
 * A read that leaves later than it was sent is only the fresher for it.
 *
 * On a Cluster, and over a client in memory, there is no socket to hold, and nothing is held back.
 */
export class HeldBackWrites {
  readonly #client: RedisClient;
  // The socket that is held. The client may have another by the time at which it is let go.
  #corked: RedisClient["stream"];
  // Microtasks left until all is let go, if nothing more is sent; 0: not all is held back.
  #quietLeft = 0;

  constructor(client: RedisClient) {
    this.#client = client;
  }

  /** Before anything is sent: all of this turn leaves together. */
  holdAll(): void {
    const isHolding = this.#quietLeft > 0;
    this.#quietLeft = QUIET_MICROTASKS;
    if (isHolding) return;
    this.#cork();
    void microtask.then(this.#letGoWhenQuiet);
  }

  /** After a read was sent. */
  readSent(): void {
    if (this.#quietLeft > 0) this.#quietLeft = QUIET_MICROTASKS;
    else if (this.#cork()) void microtask.then(this.#letGo);
  }

  /** After anything else was sent. */
  otherSent(): void {
    if (this.#quietLeft > 0) this.#quietLeft = QUIET_MICROTASKS;
    else this.#uncork();
  }

  #cork(): boolean {
    const { status, stream } = this.#client;
    if (this.#corked !== undefined || status !== "ready") return false;
    if (stream?.cork === undefined || stream.uncork === undefined) return false;
    this.#corked = stream;
    stream.cork();
    return true;
  }

  readonly #letGoWhenQuiet = (): void => {
    if (--this.#quietLeft > 0) void microtask.then(this.#letGoWhenQuiet);
    else this.#uncork();
  };

  readonly #letGo = (): void => {
    if (this.#quietLeft === 0) this.#uncork();
  };

  #uncork(): void {
    const corked = this.#corked;
    this.#corked = undefined;
    corked?.uncork?.();
  }
}
