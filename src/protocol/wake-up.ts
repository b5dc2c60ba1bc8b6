import type { WakeUpNews } from "./guarded-write.js";
import type { OwnConnection } from "../link/own-connection.js";
import { openOwnConnection } from "../link/own-connection.js";
import type { RedisClient } from "../link/redis-client.js";
import type { CancelTimer, Runtime } from "../runtime.js";

interface Subscriber extends OwnConnection {
  subscribe(channel: string): Promise<unknown>;
  unsubscribe(channel: string): Promise<unknown>;
}

/** What ended a sleep: news of the holder, a subscription that has just begun, or nothing but time. */
export type Awakening = WakeUpNews | "subscribed" | "timeout";

const FASTEST_POLL_MS = 10;
const SLOWEST_POLL_MS = 50;
const POLL_GROWTH = 1.5;
// Only a lost message, or a holder that died, is found by it.
const SAFETY_POLL_MS = 1000;
// How long a first sleep relies on a subscription that is still being made.
const SUBSCRIBING_MS = 100;
const RECONNECT_INTERVAL_MS = 1000;

/**
 * Wakes sleeping waiters by pub/sub; where that is denied, unavailable or lost, by polling.
 *
 * One subscriber connection per `CacheFence`, opened by the first wait, shared by all keys. It does not reconnect by
 * itself: when it ends, every sleeper is woken, and the next sleep opens another, at most one a second.
 */
export class WakeUp {
  readonly #client: RedisClient;
  readonly #timeoutMs: number;
  readonly #runtime: Runtime;
  #subscriber: Subscriber | undefined;
  #nextConnectMs = -Infinity;
  #isClosed = false;
  // Channel -> its listeners. A channel is subscribed to while it is here, by the subscriber of the day.
  readonly #ears = new Map<string, Set<Ear>>();

  constructor(client: RedisClient, timeoutMs: number, runtime: Runtime) {
    this.#client = client;
    this.#timeoutMs = timeoutMs;
    this.#runtime = runtime;
  }

  /** Listens on the channel until the ear is closed. */
  listen(channel: string): Ear {
    const ear = new Ear(this.#runtime, {
      prepare: () => {
        this.#prepare(channel, ear);
      },
      close: () => {
        this.#remove(channel, ear);
      },
    });
    const ears = this.#ears.get(channel);
    if (ears === undefined) this.#ears.set(channel, new Set([ear]));
    else ears.add(ear);
    return ear;
  }

  /** Ends the connection; waiters go on by polling. */
  close(): void {
    this.#isClosed = true;
    this.#subscriber?.disconnect();
  }

  /** Before a sleep: makes what this ear's subscription still needs. */
  #prepare(channel: string, ear: Ear): void {
    if (ear.subscription !== undefined) return;
    const subscriber = this.#connect();
    if (subscriber === undefined) return;
    ear.subscription = "pending";
    // The second SUBSCRIBE of a channel is one command more, and saves a state to keep.
    subscriber.subscribe(channel).then(
      () => {
        if (this.#subscriber === subscriber) ear.subscribed();
      },
      () => {
        // Denied, or the connection has ended: this ear polls, and the end lets it try again.
        if (this.#subscriber === subscriber) ear.subscription = "denied";
      },
    );
  }

  #connect(): Subscriber | undefined {
    // On a Cluster every message goes to every node: polling is cheaper there.
    if (this.#subscriber !== undefined || this.#isClosed || this.#client.isCluster === true) return this.#subscriber;
    const nowMs = this.#runtime.monotonicMs();
    if (nowMs < this.#nextConnectMs) return undefined;
    this.#nextConnectMs = nowMs + RECONNECT_INTERVAL_MS;
    let subscriber: Subscriber;
    try {
      subscriber = openOwnConnection(this.#client, this.#timeoutMs) as Subscriber;
    } catch {
      // A client that cannot be duplicated: its waiters poll.
      return undefined;
    }
    subscriber.on("message", (channel: string, news: string) => {
      for (const ear of this.#ears.get(channel) ?? []) ear.wake(news === "stored" ? "stored" : "freed");
    });
    subscriber.on("end", () => {
      if (this.#subscriber !== subscriber) return;
      this.#subscriber = undefined;
      for (const ears of this.#ears.values()) for (const ear of ears) ear.unsubscribed();
    });
    this.#subscriber = subscriber;
    return subscriber;
  }

  #remove(channel: string, ear: Ear): void {
    const ears = this.#ears.get(channel);
    ears?.delete(ear);
    if (ears?.size !== 0) return;
    this.#ears.delete(channel);
    // Whoever subscribed: another ear may have, and be gone. If it fails, the connection has ended, and all with it.
    this.#subscriber?.unsubscribe(channel).catch(() => undefined);
  }
}

interface EarOwner {
  prepare(): void;
  close(): void;
}

/** One waiter's listening on one channel. At most one sleep at a time. */
export class Ear {
  /** Written by {@link WakeUp} alone. undefined: to be made, by the next sleep. */
  subscription: "pending" | "live" | "denied" | undefined;
  readonly #runtime: Runtime;
  readonly #owner: EarOwner;
  readonly #openedMs: number;
  #pollMs = FASTEST_POLL_MS;
  // News that came while nobody slept; the next sleep ends with it at once.
  #missed: Awakening | undefined;
  #endSleep: ((why: Awakening) => void) | undefined;

  constructor(runtime: Runtime, owner: EarOwner) {
    this.#runtime = runtime;
    this.#owner = owner;
    this.#openedMs = runtime.monotonicMs();
  }

  /** Sleeps until woken, until it is time to poll, or for `longestMs`. */
  sleep(longestMs: number, holderPublishes: boolean): Promise<Awakening> {
    this.#owner.prepare();
    const missed = this.#missed;
    this.#missed = undefined;
    if (missed !== undefined) return Promise.resolve(missed);
    const delayMs = Math.max(0, Math.min(longestMs, this.#nextPollMs(holderPublishes)));
    return new Promise((resolve) => {
      const cancel: CancelTimer = this.#runtime.startTimer(delayMs, true, () => this.#endSleep?.("timeout"));
      this.#endSleep = (why) => {
        cancel();
        this.#endSleep = undefined;
        resolve(why);
      };
    });
  }

  wake(why: Awakening): void {
    if (this.#endSleep === undefined) this.#missed = why;
    else this.#endSleep(why);
  }

  /** What was published before is lost: the sleeper looks again. */
  subscribed(): void {
    this.subscription = "live";
    this.wake("subscribed");
  }

  unsubscribed(): void {
    this.subscription = undefined;
    this.#endSleep?.("timeout");
  }

  close(): void {
    this.#owner.close();
    this.#endSleep?.("timeout");
  }

  #nextPollMs(holderPublishes: boolean): number {
    if (this.subscription === "live" && holderPublishes) return SAFETY_POLL_MS;
    const sinceOpenedMs = this.#runtime.monotonicMs() - this.#openedMs;
    if (this.subscription === "pending" && sinceOpenedMs < SUBSCRIBING_MS) return SUBSCRIBING_MS;
    const pollMs = this.#pollMs;
    this.#pollMs = Math.min(SLOWEST_POLL_MS, pollMs * POLL_GROWTH);
    return pollMs;
  }
}
