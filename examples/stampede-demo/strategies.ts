import type { Redis } from "ioredis";
import { CacheFence, type CacheFenceOptions } from "../../src/index.js";
import type { Answer } from "./fake-database.js";

export interface Strategy {
  read(key: string): Promise<Answer>;
  close(): Promise<void>;
}

export type StrategyName = "naive" | "coalescing" | "cachefence";

export interface Source {
  readonly redis: Redis;
  readonly query: () => Promise<Answer>;
  readonly ttlSeconds: number;
}

export function createStrategy(name: StrategyName, source: Source): Strategy {
  if (name === "cachefence") return fenced(source);
  return name === "naive" ? cacheAside(source) : coalesced(source);
}

/** What most services do: look, and when nothing is there, ask the database and store its answer. */
export function cacheAside({ redis, query, ttlSeconds }: Source): Strategy {
  return {
    async read(key) {
      const stored = await redis.get(key);
      // In memory (ioredis-mock) a key that expires while it is read comes back as undefined.
      if (stored != null) return JSON.parse(stored) as Answer;
      const answer = await query();
      await redis.set(key, JSON.stringify(answer), "PX", Math.ceil(ttlSeconds * 1000));
      return answer;
    },
    close: () => Promise.resolve(),
  };
}

/** The same, with callers of one key in one process sharing one look and one query. */
export function coalesced(source: Source): Strategy {
  const inner = cacheAside(source);
  // key -> the read in flight. Removed by the read that was put there.
  const flights = new Map<string, Promise<Answer>>();
  return {
    read(key) {
      const current = flights.get(key);
      if (current !== undefined) return current;
      const flight = inner.read(key).finally(() => flights.delete(key));
      flights.set(key, flight);
      return flight;
    },
    close: () => inner.close(),
  };
}

export function fenced({ redis, query, ttlSeconds }: Source, options: CacheFenceOptions = {}): Strategy {
  const cache = new CacheFence(redis, options);
  return {
    read: (key) => cache.getOrSet(key, ttlSeconds, query),
    close: () => cache.close(),
  };
}
