import type { Contender } from "../contender.js";
import { connect } from "./connect.js";
import { installedVersion } from "./installed-version.js";

export const naive: Contender = {
  module: import.meta.url,
  name: "naive",
  version: `ioredis ${installedVersion("ioredis")}`,
  configuration: "GET; on a miss recompute, then SET EX. No coalescing, no lock",
  async open(url) {
    const redis = await connect(url);
    return {
      async get<T>(key: string, ttlSeconds: number, recompute: () => Promise<T>): Promise<T> {
        const stored = await redis.get(key);
        if (stored !== null) return JSON.parse(stored) as T;
        const value = await recompute();
        await redis.set(key, JSON.stringify(value), "PX", Math.ceil(ttlSeconds * 1000));
        return value;
      },
      invalidate: async (key) => void (await redis.del(key)),
      close: async () => redis.disconnect(),
    };
  },
};
