import { channel } from "node:diagnostics_channel";
import { bound, detached } from "./runtime.js";

/**
 * What each `node:diagnostics_channel` of cachefence publishes. `key` is the key as passed in, `namespace` that of the cache;
 * durations are seconds.
 */
export interface CacheFenceEvents {
  /** A valid value was served. `remaining`: until its expiry. `delta`: what its recompute took. */
  "cachefence:hit": { namespace: string; key: string; remaining: number; delta: number; source: "memory" | "redis" };
  /** There was nothing to serve. */
  "cachefence:miss": { namespace: string; key: string };
  /** A caller won the refresh of an entry that is still there. `remaining` is negative where it was already stale. */
  "cachefence:early-refresh": { namespace: string; key: string; remaining: number; delta: number };
  /** The recompute is about to be called. `locked` is false while Redis is failing. */
  "cachefence:rebuild-start": { namespace: string; key: string; locked: boolean };
  /** It ended. `stored` is false if it failed, was refused, or was not to be cached. */
  "cachefence:rebuild-end": { namespace: string; key: string; seconds: number; stored: boolean; error?: unknown };
  /** A wait for another holder ended. */
  "cachefence:wait": { namespace: string; key: string; seconds: number };
  /** A rebuild was taken over from a holder that took too long. `seconds`: how long this process had waited. */
  "cachefence:takeover": { namespace: string; key: string; seconds: number };
  /** A value was not stored, because an `invalidate`, a `set` or another holder had come first. */
  "cachefence:refused-store": { namespace: string; key: string; seconds: number };
  /** A value past its expiry was served. `age`: since the expiry. */
  "cachefence:stale-serve": { namespace: string; key: string; age: number };
  /**
   * Redis failed or did not answer in time; or a claim, a wait or a fence met a key that is denied, or is not cachefence's.
   * Every failure of an `invalidate` or a `set` is one.
   */
  "cachefence:redis-error": { namespace: string; key: string; error: unknown };
  /** A stored entry could not be read back and counts as a miss. */
  "cachefence:corrupt-entry": { namespace: string; key: string; error: unknown };
  /** A copy in memory was dropped, because a fence recalled it. */
  "cachefence:copy-dropped": { namespace: string; key: string };
  /** A fence waited until the lease of a copy had ended, for its process did not confirm. `seconds`: how long. */
  "cachefence:fence-wait": { namespace: string; key: string; seconds: number };
  /** There can be no copies in memory, once. `reason`: why. */
  "cachefence:no-memory": { namespace: string; reason: unknown };
}

/** Counters since construction. */
export interface CacheFenceStats {
  /** Calls served with a valid value, from Redis or from memory. */
  readonly hits: number;
  /** Those of them that were served from memory. */
  readonly memoryHits: number;
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
  /** Fences that waited until the lease of a copy had ended. */
  readonly fenceWaits: number;
  /**
   * The connection as this cache sees it: `"lost"`, the client is reconnecting or closed, or could not connect yet;
   * `"silent"`, it is connected and nothing is answered. On a Cluster that of the worst master.
   */
  readonly redis: "ready" | "lost" | "silent";
}

type EventName = keyof CacheFenceEvents;
type Counter = Exclude<keyof CacheFenceStats, "redis">;
type Payload<N extends EventName> = Omit<CacheFenceEvents[N], "namespace">;

const COUNTED: Readonly<Record<Exclude<EventName, "cachefence:hit">, Counter | undefined>> = {
  "cachefence:miss": "misses",
  "cachefence:early-refresh": "earlyRefreshes",
  "cachefence:rebuild-start": "rebuilds",
  "cachefence:rebuild-end": undefined,
  "cachefence:wait": "waits",
  "cachefence:takeover": "takeovers",
  "cachefence:refused-store": "refusedStores",
  "cachefence:stale-serve": "staleServes",
  "cachefence:redis-error": "redisErrors",
  "cachefence:corrupt-entry": undefined,
  "cachefence:copy-dropped": undefined,
  "cachefence:fence-wait": "fenceWaits",
  "cachefence:no-memory": undefined,
};

// Held here: a channel that nobody holds is garbage, with its subscribers in some runtimes, and the hit path must not look
// one up.
const hits = channel("cachefence:hit");
const channels = new Map(Object.keys(COUNTED).map((name) => [name, channel(name)]));

// What calls are told of together.
const ofCallers = (["cachefence:miss", "cachefence:redis-error", "cachefence:corrupt-entry"] as const).map((name) =>
  channel(name),
);

/** Counts and publishes what happens. One per `CacheFence`. */
export class Reporter {
  readonly #namespace: string;
  readonly #counts: Record<Counter, number> = {
    hits: 0,
    memoryHits: 0,
    misses: 0,
    earlyRefreshes: 0,
    rebuilds: 0,
    waits: 0,
    coalesced: 0,
    takeovers: 0,
    refusedStores: 0,
    staleServes: 0,
    redisErrors: 0,
    fenceWaits: 0,
  };

  constructor(namespace: string) {
    this.#namespace = namespace;
  }

  stats(redis: CacheFenceStats["redis"]): CacheFenceStats {
    return { ...this.#counts, redis };
  }

  /** The hit path: without a subscriber it is an addition or two and one property read. */
  hit(key: string, remaining: number, delta: number, source: "memory" | "redis"): void {
    this.#counts.hits++;
    if (source === "memory") this.#counts.memoryHits++;
    if (!hits.hasSubscribers) return;
    const payload: CacheFenceEvents["cachefence:hit"] = { namespace: this.#namespace, key, remaining, delta, source };
    hits.publish(payload);
  }

  coalesced(calls: number): void {
    this.#counts.coalesced += calls;
  }

  /** @param callers - those to whom it has happened, where they are many */
  report<N extends Exclude<EventName, "cachefence:hit">>(name: N, payload: Payload<N>, callers?: Callers): void {
    const counter = COUNTED[name];
    if (counter !== undefined) this.#counts[counter] += callers?.count ?? 1;
    const told = channels.get(name)!;
    if (!told.hasSubscribers) return;
    const publish = (): void => {
      told.publish({ namespace: this.#namespace, ...payload });
    };
    if (callers === undefined) publish();
    else callers.each(publish);
  }
}

/** Calls that fare alike: each is counted, and told of in its own context. */
export class Callers {
  count = 0;
  // By place. To remember a context costs more than all else that such a call does: only where somebody may ask for it.
  readonly #contexts: ((run: () => void) => void)[] = [];

  add(): void {
    if (ofCallers.some(({ hasSubscribers }) => hasSubscribers)) this.#contexts[this.count] = bound(runNow);
    this.count++;
  }

  each(run: () => void): void {
    for (let place = 0; place < this.count; place++) (this.#contexts[place] ?? detached)(run);
  }
}

function runNow(run: () => void): void {
  run();
}
