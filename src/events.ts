import { channel } from "node:diagnostics_channel";

/** What each `node:diagnostics_channel` of cachefence publishes. `key` is the key as passed in; durations are seconds. */
export interface CacheFenceEvents {
  /** A valid value was served. `remaining`: until its expiry. `delta`: what its recompute took. */
  "cachefence:hit": { key: string; remaining: number; delta: number };
  /** There was nothing to serve. */
  "cachefence:miss": { key: string };
  /** A caller won the refresh of an entry that is still there. `remaining` is negative where it was already stale. */
  "cachefence:early-refresh": { key: string; remaining: number; delta: number };
  /** The recompute is about to be called. `locked` is false while Redis is failing. */
  "cachefence:rebuild-start": { key: string; locked: boolean };
  /** It ended. `stored` is false if it failed, was refused, or was not to be cached. */
  "cachefence:rebuild-end": { key: string; seconds: number; stored: boolean; error?: unknown };
  /** A wait for another holder ended. */
  "cachefence:wait": { key: string; seconds: number };
  /** A rebuild was taken over from a holder that took too long. `seconds`: how long this process had waited. */
  "cachefence:takeover": { key: string; seconds: number };
  /** A value was not stored, because an `invalidate`, a `set` or another holder had come first. */
  "cachefence:refused-store": { key: string; seconds: number };
  /** A value past its expiry was served. `age`: since the expiry. */
  "cachefence:stale-serve": { key: string; age: number };
  /**
   * Redis failed or did not answer in time; or a claim, a wait or a fence met a key that is denied, or is not cachefence's.
   * Every failure of an `invalidate` or a `set` is one.
   */
  "cachefence:redis-error": { key: string; error: unknown };
  /** A stored entry could not be read back and counts as a miss. */
  "cachefence:corrupt-entry": { key: string; error: unknown };
}

/** Counters since construction. */
export interface CacheFenceStats {
  /** Calls served with a valid value from Redis. */
  readonly hits: number;
  /** Calls that found nothing to serve. */
  readonly misses: number;
  /** Refreshes won by this process on an entry that was still there. */
  readonly earlyRefreshes: number;
  /** Recomputes started by this process, early refreshes among them. */
  readonly rebuilds: number;
  /** Waits of this process for another holder; all its callers of one key wait as one. */
  readonly waits: number;
  /** Calls that joined a rebuild or a wait of their own process. */
  readonly coalesced: number;
  /** Rebuilds taken over from a holder that took too long. */
  readonly takeovers: number;
  /** Recomputed values that were not stored, because an `invalidate`, a `set` or another holder had come first. */
  readonly refusedStores: number;
  /** Calls served with a value past its expiry. */
  readonly staleServes: number;
  /** `cachefence:redis-error` events: failures of Redis that a call, a rebuild or a fence met, missed deadlines among them. */
  readonly redisErrors: number;
}

type EventName = keyof CacheFenceEvents;
type Counter = keyof CacheFenceStats;

const COUNTED: Partial<Record<EventName, Counter>> = {
  "cachefence:miss": "misses",
  "cachefence:early-refresh": "earlyRefreshes",
  "cachefence:rebuild-start": "rebuilds",
  "cachefence:wait": "waits",
  "cachefence:takeover": "takeovers",
  "cachefence:refused-store": "refusedStores",
  "cachefence:stale-serve": "staleServes",
  "cachefence:redis-error": "redisErrors",
};

/** Counts and publishes what happens. One per `CacheFence`. */
export class Reporter {
  // Kept here: an unsubscribed channel is garbage to node, and the hit path must not look one up.
  readonly #hits = channel("cachefence:hit");
  readonly #counts: Record<Counter, number> = {
    hits: 0,
    misses: 0,
    earlyRefreshes: 0,
    rebuilds: 0,
    waits: 0,
    coalesced: 0,
    takeovers: 0,
    refusedStores: 0,
    staleServes: 0,
    redisErrors: 0,
  };

  stats(): CacheFenceStats {
    return { ...this.#counts };
  }

  /** The hit path: without a subscriber it is one addition and one property read. */
  hit(key: string, remaining: number, delta: number): void {
    this.#counts.hits++;
    if (!this.#hits.hasSubscribers) return;
    const payload: CacheFenceEvents["cachefence:hit"] = { key, remaining, delta };
    this.#hits.publish(payload);
  }

  coalesced(): void {
    this.#counts.coalesced++;
  }

  report<N extends Exclude<EventName, "cachefence:hit">>(name: N, payload: CacheFenceEvents[N]): void {
    const counter = COUNTED[name];
    if (counter !== undefined) this.#counts[counter]++;
    channel(name).publish(payload);
  }
}
