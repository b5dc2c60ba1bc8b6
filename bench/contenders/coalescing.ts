import type { Contender } from "../contender.js";
import { connect } from "./connect.js";
import { installedVersion } from "./installed-version.js";

/** Single-flight in each process and nothing across processes: what most libraries do. */
export const coalescing: Contender = {
  module: import.meta.url,
  name: "coalescing",
  version: `ioredis ${installedVersion("ioredis")}`,
  configuration: "GET; on a miss the callers of one process share a recompute and its SET PX. No lock across processes",
  async open(url) {
    const redis = await connect(url);
    // Key -> the rebuild in flight. Added before its first await, removed when it has ended.
    const rebuilds = new Map<string, Promise<unknown>>();
    const rebuild = async <T>(key: string, ttlSeconds: number, recompute: () => Promise<T>): Promise<T> => {
      try {
        const value = await recompute();
        await redis.set(key, JSON.stringify(value), "PX", Math.ceil(ttlSeconds * 1000));
        return value;
      } finally {
        rebuilds.delete(key);
      }
    };
    return {
      async get<T>(key: string, ttlSeconds: number, recompute: () => Promise<T>): Promise<T> {
        const stored = await redis.get(key);
        if (stored !== null) return JSON.parse(stored) as T;
        const known = rebuilds.get(key);
        if (known) return known as Promise<T>;
        const started = rebuild(key, ttlSeconds, recompute);
        rebuilds.set(key, started);
        return started;
      },
      invalidate: async (key) => void (await redis.del(key)),
      close: async () => redis.disconnect(),
    };
  },
};
