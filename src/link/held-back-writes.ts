import type { RedisClient } from "./redis-client.js";

// Not nextTick or queueMicrotask, which fake timers replace.
const microtask = Promise.resolve();
// A chain of promises goes on within a few microtasks, or waits for something outside. So many without a command: it does.
const QUIET_MICROTASKS = 32;

// With so many commands out, the server has enough to do while a turn's reads are made.
const ENOUGH_OUT = 16;
// What is held back before the first of it leaves; each further part may be twice as long.
const FIRST_PART = 8;

/**
 * Lets commands share a write to the socket, which is a good part of what a hit costs.
 *
 * The reads of one turn leave together: each write costs more than a dozen reads. But callers that go on with what they have
 * just been given, all at once and again and again, would take turns with the server, each idle while the other works. So in a
 * turn in which replies have come the reads leave in parts, the first of them at once: the server works on one part while the
 * next is made, and this process goes on with the replies to one while the server works on another. Where the server has enough
 * to do already, they leave together all the same. All have left before anything is awaited.
 *
 * Whatever is no read leaves at once, and what is held back with it: a store or a fence must not wait while the event loop is
 * busy. Unless all is held back on purpose, by a list of keys, until the turn is over. A read that leaves later than it was sent
 * is only the fresher for it.
 *
 * On a Cluster, and over a client in memory, there is no socket to hold, and nothing is held back.
 */
export class HeldBackWrites {
  readonly #client: RedisClient;
  // The socket that is held. The client may have another by the time at which it is let go.
  #corked: RedisClient["stream"];
  // Microtasks left until all is let go, if nothing more is sent; 0: not all is held back.
  #quietLeft = 0;
  // Of the turn's reads: whether there has been one, how many are held back, and how many may be.
  #hasBegun = false;
  // A reply has come in this turn of the event loop. Where nextTick is faked the turn seems to go on: reads leave in parts then.
  #isAfterReply = false;
  #held = 0;
  #part = 0;

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

  /**
   * Before a read is sent.
   *
   * @param out - how many commands wait for their replies
   */
  beforeRead(out: number): void {
    if (this.#quietLeft > 0) {
      this.#quietLeft = QUIET_MICROTASKS;
    } else if (!this.#hasBegun) {
      this.#hasBegun = true;
      void microtask.then(this.#letGo);
      const inParts = this.#isAfterReply && out < ENOUGH_OUT;
      this.#part = inParts ? FIRST_PART : Infinity;
      if (!inParts) this.#cork();
    } else {
      if (this.#held === this.#part) {
        this.#uncork();
        this.#part *= 2;
      }
      this.#held++;
      this.#cork();
    }
  }

  /** A reply has come. */
  replied(): void {
    if (this.#isAfterReply) return;
    this.#isAfterReply = true;
    // When all that goes on with the replies of this turn has done so, and before any other callback.
    process.nextTick(this.#endTurn);
  }

  /** After anything else was sent. */
  otherSent(): void {
    if (this.#quietLeft > 0) this.#quietLeft = QUIET_MICROTASKS;
    else this.#uncork();
  }

  #cork(): void {
    if (this.#corked !== undefined) return;
    const { status, stream } = this.#client;
    if (status !== "ready" || stream?.cork === undefined || stream.uncork === undefined) return;
    this.#corked = stream;
    stream.cork();
  }

  readonly #letGoWhenQuiet = (): void => {
    if (--this.#quietLeft > 0) void microtask.then(this.#letGoWhenQuiet);
    else this.#uncork();
  };

  readonly #endTurn = (): void => {
    this.#isAfterReply = false;
  };

  readonly #letGo = (): void => {
    this.#hasBegun = false;
    if (this.#quietLeft === 0) this.#uncork();
  };

  #uncork(): void {
    const corked = this.#corked;
    this.#corked = undefined;
    this.#held = 0;
    corked?.uncork?.();
  }
}
