import { cachified as cachifiedGet } from "@epic-web/cachified";
import { redisCacheAdapter } from "cachified-redis-adapter";
import { createClient } from "redis";
import type { Contender } from "../contender.js";
import { installedVersion } from "./installed-version.js";

export const cachified: Contender = {
  module: import.meta.url,
  name: "cachified",
  version: installedVersion("@epic-web/cachified"),
  configuration:
    `cachified-redis-adapter ${installedVersion("cachified-redis-adapter")} over ` +
    `node-redis ${installedVersion("redis")}, as its README recommends; no stale-while-revalidate`,
  async open(url) {
    const redis = createClient({ url });
    await redis.connect();
    // The adapter's types are of an older node-redis.
    const cache = redisCacheAdapter(redis as never);
    return {
      get: <T>(key: string, ttlSeconds: number, recompute: () => Promise<T>) =>
        cachifiedGet<T>({ cache, key, ttl: ttlSeconds * 1000, getFreshValue: recompute }),
      invalidate: async (key) => void (await cache.delete(key)),
      close: async () => redis.destroy(),
    };
  },
};
