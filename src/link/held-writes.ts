import type { RedisClient } from "./redis-client.js";

// Not by nextTick or queueMicrotask, which fake timers replace.
const microtask = Promise.resolve();

/**
 * Holds back what is written to the client's socket, so that many commands leave in one write: a write is a system call,
 * and half of what a hit costs. A Cluster has no single socket, and holds nothing back.
 */
export class HeldWrites {
  readonly #client: RedisClient;
  // The socket that holds back. Let go by the next microtask, and by whatever must not wait: a store or a fence is not to
  // wait while the event loop is busy. A read that leaves later than it was sent is only the fresher for it.
  #corked: RedisClient["stream"];
  #isForTurn = false;

  constructor(client: RedisClient) {
    this.#client = client;
  }

  /** Until whoever runs now awaits something. */
  hold(): void {
    if (this.#cork()) void microtask.then(this.#letGo);
  }

  /** Until all that is ready to run has run. */
  holdForTurn(): void {
    this.#cork();
    if (this.#corked === undefined || this.#isForTurn) return;
    this.#isForTurn = true;
    atEndOfTurn(() => {
      this.#isForTurn = false;
      this.release();
    });
  }

  /** Something was sent that must not wait. */
  release(): void {
    if (!this.#isForTurn) this.#letGo();
  }

  #cork(): boolean {
    const { status, stream } = this.#client;
    if (this.#corked !== undefined || status !== "ready") return false;
    if (stream?.cork === undefined || stream.uncork === undefined) return false;
    this.#corked = stream;
    stream.cork();
    return true;
  }

  readonly #letGo = (): void => {
    if (this.#isForTurn) return;
    const corked = this.#corked;
    this.#corked = undefined;
    corked?.uncork?.();
  };
}

// Promises that are ready run before it. Taken once, for fake timers may replace it.
const atEndOfTurn = process.nextTick.bind(process);
