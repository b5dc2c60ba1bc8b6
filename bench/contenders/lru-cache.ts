import { LRUCache } from "lru-cache";
import type { Contender } from "../contender.js";
import { installedVersion } from "./installed-version.js";

interface Fetched {
  readonly recompute: () => Promise<unknown>;
}

export const lruCache: Contender = {
  module: import.meta.url,
  name: "lru-cache",
  version: installedVersion("lru-cache"),
  configuration: "new LRUCache({ max: 10_000, fetchMethod }) and fetch(key); one process, no Redis, one object for all",
  promise: "nothing: other processes are not told",
  async open() {
    const cache = new LRUCache<string, object, Fetched>({
      max: 10_000,
      fetchMethod: async (_key, _stale, { context }) => (await context.recompute()) as object,
    });
    return {
      get: <T>(key: string, ttlSeconds: number, recompute: () => Promise<T>) =>
        cache.fetch(key, { ttl: ttlSeconds * 1000, context: { recompute } }) as Promise<T>,
      invalidate: async (key) => void cache.delete(key),
      close: async () => cache.clear(),
    };
  },
};
